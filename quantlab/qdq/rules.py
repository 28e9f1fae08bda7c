"""Which inputs of which operators are quantized: the whole policy on one screen.

Every row was chosen for what TensorRT fuses. Bias stays float (TensorRT adds it in the INT32/FP32 epilogue). Nothing
stands between a convolution and its activation: the pair is one INT8 kernel. Operators without a row stay float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Attrs = Mapping[str, Any]


def _gemm_axis(attrs: Attrs) -> int:
    return 0 if attrs.get("transB", 0) else 1  # the axis of B that becomes the columns of Y


@dataclass(frozen=True, slots=True)
class QdqRule:
    """One operator. activation_inputs: per-tensor Q/DQ. weight_input: per-channel along `weight_axis` if constant,
    else an activation."""

    op: str
    activation_inputs: tuple[int, ...]
    weight_input: int | None = None
    weight_axis: int | Callable[[Attrs], int] | None = None

    def axis(self, attrs: Attrs, ndim: int) -> int:
        """The weight's channel axis, counted from the front."""
        axis = self.weight_axis(attrs) if callable(self.weight_axis) else self.weight_axis
        if axis is None:
            raise ValueError(f"rule {self.op} has no weight axis")
        return axis % ndim


RULES: dict[str, QdqRule] = {
    rule.op: rule
    for rule in (
        #       op               activations  weight  per-channel axis
        QdqRule("Conv",          (0,),        1,      0),
        QdqRule("ConvTranspose", (0,),        1,      1),
        QdqRule("Gemm",          (0,),        1,      _gemm_axis),
        QdqRule("MatMul",        (0,),        1,      -1),
    )
}  # fmt: skip

EPILOGUE_OPS = frozenset({"Conv", "ConvTranspose"})
"""A residual Add after one of these is fused into its kernel; only the other branch (the skip) is quantized."""
