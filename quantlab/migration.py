"""Between TensorRT's calibration cache and Q/DQ, both ways: the way to TensorRT 11, which has no calibrators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from quantlab.calibration.table import CalibrationTable
from quantlab.calibration.trt_cache import TrtCache
from quantlab.errors import DataError
from quantlab.model import QDQ_OPS, Model, load_model, require_float
from quantlab.numerics import scale_from_amax
from quantlab.pipeline import tensorrt_cache
from quantlab.qdq import Placement, Selection, insert, plan, prepare
from quantlab.requantization import import_scales


@dataclass(frozen=True, slots=True)
class Parity:
    """One tensor. given: the scale in the cache or table. used: that in the Q/DQ model, larger where it is shared."""

    tensor: str
    given: float
    used: float

    @property
    def relative(self) -> float:
        """used / given - 1."""
        return self.used / self.given - 1 if self.given else 0.0


@dataclass(frozen=True, slots=True)
class Migrated:
    """model: Q/DQ with the given scales. parity: every quantized tensor but those that are all zero. unused: tensors
    that need no Q/DQ. placement.skipped names nodes that stay float because a tensor of theirs has no scale in the
    table."""

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
    placement = plan(prepared, selection, set(table.amax))
    if not placement.tensors:
        raise DataError("the table has no scale for any layer of this model", hint="is it of this model?")
    amax = placement.shared_amax(table.amax)
    inserted = insert(prepared, placement, lambda tensor: scale_from_amax(amax[tensor]))
    rows = tuple(
        Parity(t, float(scale_from_amax(table.amax[t])), float(scale_from_amax(amax[t])))
        for t in placement.tensors
        if table.amax.get(t, np.float32(0)) > 0
    )
    unused = tuple(t for t in table.amax if t not in set(placement.tensors))
    return Migrated(inserted.model, placement, rows, unused, inserted.warnings)


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
