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

from quantlab.calibration.table import CalibrationTable
from quantlab.calibration.trt_cache import TrtCache
from quantlab.errors import DataError
from quantlab.model import QDQ_OPS, Model, load_model, require_float
from quantlab.numerics import scale_from_amax
from quantlab.pipeline import tensorrt_cache
from quantlab.qdq import EVERYTHING, RULES, Placement, Selection, insert, plan, prepare
from quantlab.requantization import import_scales

_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
"""Operators that the implicit engine does not run: who reads their output reads their input."""

_ONE_SCALE = _VIEWS | {"Concat", "MaxPool"}
_RULES = {op: rule if op in _ONE_SCALE else replace(rule, share_scale=False) for op, rule in RULES.items()}
"""The rules without shared scales, but for views and where TensorRT's INT8 kernels need them."""


@dataclass(frozen=True, slots=True)
class Parity:
    """One tensor. entry: whose scale in the cache or table it takes, another's only for a view of that. given: that
    scale. used: the one in the Q/DQ model, larger where it is shared."""

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
    """model: Q/DQ with the given scales. parity: every quantized tensor but those that are all zero. unused: entries
    of the table that no Q/DQ takes. placement.skipped names nodes that stay float because a tensor of theirs has no
    scale in the table."""

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
    """The FP32 model with Q/DQ at the scales of a TensorRT cache (`load_table`) or table.

    A cache need not hold every tensor that quantlab would quantize (entropy v1 and legacy caches hold what survives
    fusion only): nodes without a scale stay float, with the reason. DataError for a table of another model.
    """
    proto = load_model(model)
    require_float(proto, "migration")
    table.check_model(proto)
    prepared = prepare(proto)
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
    return Migrated(inserted.model, placement, rows, unused, inserted.warnings)


def _entries(proto: onnx.ModelProto, table: CalibrationTable) -> dict[str, str]:
    """Tensor -> whose scale in the table it takes: its own, or for a view that of what is shown."""
    entries = {tensor: tensor for tensor in table.amax}
    for node in proto.graph.node:
        if node.op_type in _VIEWS and node.domain in ("", "ai.onnx") and node.input[0] in entries:
            entries[node.output[0]] = entries[node.input[0]]
    return entries


def migrate_to_cache(
    model: Model, table: CalibrationTable | None = None, calibrator: str = "EntropyCalibration2"
) -> TrtCache:
    """A calibration cache for TensorRT 8.6 to 10.16 from a Q/DQ model's own scales, or from a model and a table.

    Tensors without a scale are not in it; TensorRT then runs the layers around them in float.
    """
    proto = load_model(model)
    if table is None:
        if not any(n.op_type in QDQ_OPS for n in proto.graph.node):
            raise DataError("the model has no Q/DQ and no table was given", hint="--table FILE, or a Q/DQ model")
        return tensorrt_cache(proto, import_scales(proto), calibrator)
    table.check_model(proto)
    return tensorrt_cache(proto, table, calibrator)
