"""Between TensorRT's calibration cache and Q/DQ, both ways: the way to TensorRT 11, which has no calibrators.

A migrated model rounds where the implicit engine from the same cache rounds, as far as that is known: that decides
here, where `quantize` decides for speed and accuracy. Seen in engines of TensorRT 8.6 (ResNet-20, whose outputs then
agree to 43 dB, and EfficientNet-Lite0): Slice and Pad have scales of their own; a reshape is another view, whose reader
takes the scale of what was reshaped. After an average pooling that is the copied scale of the pooling's input, not the
finer one that the cache has for the reshaped tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx

from quantlab.calibration import CalibrationTable, TrtCache, cache_from_table
from quantlab.calibration.cache_header import read_header
from quantlab.calibration.made_from import write_origin
from quantlab.errors import DataError
from quantlab.numerics import scale_from_amax
from quantlab.onnx_model import Model, has_qdq, load_model, require_finite, require_float
from quantlab.qdq.insert import insert
from quantlab.qdq.placement import Placement
from quantlab.qdq.planning import plan
from quantlab.qdq.prepare import fold, prepare_for_cache
from quantlab.qdq.requantize import import_scales
from quantlab.qdq.rules import RULES, row_of
from quantlab.qdq.selection import EVERYTHING, Selection

_RULES = {op: rule if rule.view or rule.kernel else replace(rule, share_scale=False) for op, rule in RULES.items()}
"""The rules without shared scales, but for views and where TensorRT's INT8 kernels need them."""
_COPYING = ("EntropyCalibration2", "MinMaxCalibration")
"""The calibrators that give the output of some operators the scale of the input."""


@dataclass(frozen=True, slots=True)
class Parity:
    """The scale of one tensor before and after.

    Attributes:
        tensor: Its name.
        entry: Whose scale in the cache or table it takes; another's only for a view of that.
        given: That scale.
        used: The one in the Q/DQ model, larger where it is shared.
    """

    tensor: str
    entry: str
    given: float
    used: float

    @property
    def relative(self) -> float:
        """used / given - 1."""
        return self.used / self.given - 1 if self.given else 0.0


@dataclass(frozen=True, slots=True)
class Migrated:
    """A Q/DQ model with the scales of a cache.

    Attributes:
        model: The Q/DQ model.
        placement: What is quantized, and the nodes that stay float: some because a tensor of theirs has no scale in the
            table.
        parity: Every quantized tensor but those that are all zero.
        unused: Entries of the table that no Q/DQ takes.
        warnings: Facts that a user of the model must know.
    """

    model: onnx.ModelProto
    placement: Placement
    parity: tuple[Parity, ...]
    unused: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def largest_difference(self) -> float:
        """Largest |used / given - 1| over the tensors; 0 where no scale is shared."""
        return max((abs(row.relative) for row in self.parity), default=0.0)


def migrate_to_qdq(model: Model, table: CalibrationTable, selection: Selection | None = None) -> Migrated:
    """Put Q/DQ with the scales of a TensorRT cache into the FP32 model.

    A cache need not hold every tensor that quantlab would quantize (entropy v1 and legacy caches hold what survives
    fusion only): nodes without a scale stay float, with the reason.

    Args:
        model: The FP32 model.
        table: The cache, as `load_table` reads it, or another table.
        selection: Which nodes to quantize or to leave in float.

    Returns:
        The Q/DQ model and what became of every scale.

    Raises:
        GraphError: The model has Q/DQ already, or a weight or bias is not finite.
        DataError: The table is of another model, or has no scale for any layer of it.
    """
    proto = load_model(model)
    require_float(proto, "migration")
    require_finite(proto)
    table.check_model(proto)
    prepared = prepare_for_cache(proto)
    entries = _entries(prepared, table)
    chosen = selection or EVERYTHING
    chosen = replace(chosen, include=chosen.include or EVERYTHING.include)  # also where INT8 does not pay
    placement = plan(prepared, chosen, set(entries), rules=_RULES)
    if not placement.tensors:
        raise DataError("the table has no scale for any layer of this model", hint="is it of this model?")
    given = {t: table.amax[entries[t]] for t in placement.tensors}
    amax = placement.shared_amax(given)
    inserted = insert(prepared, placement, lambda tensor: scale_from_amax(amax[tensor]))
    rows = tuple(
        Parity(t, entries[t], float(scale_from_amax(given[t])), float(scale_from_amax(amax[t])))
        for t in placement.tensors
        if given[t] > 0
    )
    taken = {entries[t] for t in placement.tensors}
    unused = tuple(t for t in table.amax if t not in taken)
    write_origin(inserted.model, table)
    return Migrated(inserted.model, placement, rows, unused, inserted.warnings)


def _entries(proto: onnx.ModelProto, table: CalibrationTable) -> dict[str, str]:
    """Tensor -> whose scale in the table it takes: that of its name, or for a view that of what is shown."""
    entries = {tensor: tensor for tensor in table.amax}
    for node in proto.graph.node:
        if row_of(node.op_type, node.domain).view and node.input[0] in entries:
            entries[node.output[0]] = entries[node.input[0]]
    return entries


def scales_of(proto: onnx.ModelProto, table: CalibrationTable | None) -> CalibrationTable:
    """Choose the scales that a cache of a model is written from.

    Args:
        proto: The model.
        table: A table of it; None for the scales that a Q/DQ model has.

    Returns:
        The table. Tensors without a scale are not in it; TensorRT runs the layers around them in float.

    Raises:
        DataError: There is neither a table nor Q/DQ, or the table is of another model.
    """
    require_finite(proto)
    if table is not None:
        table.check_model(proto)
        return table
    if not has_qdq(proto):
        raise DataError("the model has no Q/DQ and no table was given", hint="--table FILE, or a Q/DQ model")
    return import_scales(proto)


def migrate_to_cache(
    model: Model, table: CalibrationTable | None = None, calibrator: str = "EntropyCalibration2"
) -> TrtCache:
    """A calibration cache for TensorRT 8.6 to 10.16 from the scales of a Q/DQ model, or from a model and a table.

    Args:
        model: A Q/DQ model, or an FP32 model with `table`.
        table: Its ranges.
        calibrator: The class that will read the cache.

    Returns:
        The cache. Tensors without a scale are not in it; TensorRT then runs the layers around them in float.

    Raises:
        DataError: There is neither a table nor Q/DQ, or the table is of another model.
    """
    proto = load_model(model)
    return tensorrt_cache(proto, scales_of(proto, table), calibrator)


def tensorrt_cache(model: Model, table: CalibrationTable, calibrator: str = "EntropyCalibration2") -> TrtCache:
    """A TensorRT calibration cache from a table of all tensors, with TensorRT's view of the network.

    EntropyCalibration2 and MinMaxCalibration give the output of max and average pooling the scale of its input, the
    others do not. The inner tensors of a Gemm have no ONNX name and are not in it. Scales that come from a cache stay
    as they are.

    Args:
        model: The FP32 model.
        table: The ranges of all its tensors (`tensors="all"`).
        calibrator: EntropyCalibration2, MinMaxCalibration or EntropyCalibration, the class that will read the cache.

    Returns:
        The cache, for TensorRT 8.6.0; see `TrtCache.for_tensorrt`.
    """
    proto = load_model(model)
    amax = dict(table.amax)
    copies = calibrator in _COPYING and read_header(table.provenance.algorithm) is None
    for node in fold(proto).graph.node if copies else ():
        if row_of(node.op_type, node.domain).copies_scale and node.input[0] in amax and node.output[0] in amax:
            amax[node.output[0]] = amax[node.input[0]]
    return cache_from_table(replace(table, amax=amax), calibrator=calibrator)
