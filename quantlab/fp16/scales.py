"""Scales of a Q/DQ model in FP16: rounded, raised where a weight's is too small, or left where neither will do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from quantlab.numerics import sqnr_db, squares
from quantlab.onnx_model import QDQ_OPS, GraphView

LARGEST, SMALLEST = 65504.0, 2.0**-14  # of the normal FP16 numbers
RAISED_SQNR_DB = 50.0
"""What a weight must keep when small scales of it are raised to SMALLEST: 10 dB above what INT8 itself keeps."""


@dataclass
class Fp16Scales:
    """Scales rounded to FP16 numbers, in place.

    Attributes:
        rounded: Scale -> largest relative change of its values.
        unfit: Scale -> why it must stay float32.
        warnings: What else a reader must know.
    """

    rounded: dict[str, float] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def fit(self, view: GraphView) -> None:
        """Rounding moves a scale by 2^-11 at most, and no code with it: 127 * 2^-11 is less than half a step. Weights
        often have nearly dead channels whose scales FP16 does not hold; theirs are raised and the codes made anew.
        """
        tensors = {t.name: t for t in view.proto.graph.initializer}
        for name in dict.fromkeys(n.input[1] for n in view.qdq_nodes):
            tensor = tensors.get(name)
            if tensor is None or tensor.data_type != TensorProto.FLOAT:
                continue
            old = numpy_helper.to_array(tensor).astype(np.float64)
            if not np.all(old > 0):
                self.unfit[name] = "its scale is not positive"
                continue
            with np.errstate(over="ignore"):
                new = old.astype(np.float16).astype(np.float64)
            if not np.all(_largest_code(view, name) * new <= LARGEST):
                self.unfit[name] = f"codes times its scale {old.max():.3g} exceed FP16's {LARGEST:g}"
                continue
            if not np.all(new >= SMALLEST):
                raised = np.maximum(new, SMALLEST)
                codes = _codes_of_weights(view, name, old, raised)
                if codes is None:
                    self.unfit[name] = f"its scale {old.min():.3g} is below FP16's smallest normal number 2^-14"
                    continue
                for constant, values in codes.items():
                    tensors[constant].CopyFrom(numpy_helper.from_array(values, constant))
                count = int((new < SMALLEST).sum())
                self.warnings.append(f"{count} of {old.size} scales in '{name}' were raised to FP16's smallest, 2^-14")
                new = raised
            held = old >= SMALLEST
            self.rounded[name] = float(np.max(np.abs(new[held] / old[held] - 1), initial=0))
            tensor.CopyFrom(numpy_helper.from_array(new.astype(np.float32), name))


def _largest_code(view: GraphView, scale: str) -> float:
    """The largest magnitude of the codes that a scale meets: those of constants as they are, else their type's."""
    largest = 0.0
    for node, index in view.readers[scale]:
        if node.op_type not in QDQ_OPS or index != 1:
            continue
        codes, zero_point = view.constant(node.input[0]), view.zero_point(node)
        if node.op_type == "DequantizeLinear" and codes is not None and codes.dtype.kind in "iu":
            largest = max(largest, float(np.max(np.abs(codes.astype(np.float64)), initial=0)))
        elif zero_point is not None and zero_point.dtype.kind in "iu":
            largest = max(largest, -float(np.iinfo(zero_point.dtype).min), float(np.iinfo(zero_point.dtype).max))
    return largest or 128.0


def _codes_of_weights(
    view: GraphView, scale: str, old: NDArray[np.float64], new: NDArray[np.float64]
) -> dict[str, NDArray[Any]] | None:
    """New codes of the constants that `scale` dequantizes, or None if it has other readers or they lose too much."""
    found = {}
    for node, _ in view.readers[scale]:
        if node.op_type not in QDQ_OPS or not view.is_weight(node) or old.ndim > 1:
            return None
        name, given = node.input[0], view.parameters(node)
        stored = node.op_type == "DequantizeLinear" and view.is_constant(name)
        source = view.weight(node)
        if source is None or given is None or not given.is_symmetric:
            return None
        if stored and {reader.input[1] for reader, _ in view.readers[name]} != {scale}:
            return None
        before, after = (given.spread(s, source.ndim) for s in (old, new))
        values = source * before if stored else source.astype(np.float64)
        info = np.iinfo(given.code_type)
        codes, had = (np.clip(np.rint(values / s), info.min, info.max) for s in (after, before))
        if not sqnr_db(squares(values), squares(codes * after - had * before)) >= RAISED_SQNR_DB:
            return None
        if stored:
            found[name] = codes.astype(source.dtype)
    return found
