"""Which inputs of which operators are quantized: the whole policy on one screen.

Rows follow what TensorRT fuses. Bias stays float (TensorRT adds it in the epilogue). Nothing comes between
a convolution and its BatchNorm or activation: together they are one INT8 kernel. An operator without a row stays float,
with the reason in FLOAT where there is more to say than that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Attrs = Mapping[str, Any]


def _conv_transpose_axis(attrs: Attrs) -> int | None:
    return 1 if attrs.get("group", 1) == 1 else None  # grouped: axis 1 is not the output channels


def _gemm_axis(attrs: Attrs) -> int:
    return 0 if attrs.get("transB", 0) else 1  # the axis of B that becomes the columns of Y


@dataclass(frozen=True, slots=True)
class QdqRule:
    """One operator.

    activation_inputs: per-tensor Q/DQ. weight_input: if constant, per channel along `weight_axis` (None: per tensor);
    else an activation where `dynamic_weight` allows it. share_scale: it only moves values, so that all its inputs and
    outputs take one scale. pool: its input is quantized where its output is read in INT8.
    """

    op: str
    activation_inputs: tuple[int, ...] = (0,)
    weight_input: int | None = None
    weight_axis: int | Callable[[Attrs], int | None] | None = None
    dynamic_weight: bool = False
    share_scale: bool = False
    pool: bool = False

    def axis(self, attrs: Attrs, ndim: int) -> int | None:
        """The weight's channel axis, counted from the front; None for one scale per tensor."""
        axis = self.weight_axis(attrs) if callable(self.weight_axis) else self.weight_axis
        return None if axis is None else axis % ndim


def _move(op: str, *activation_inputs: int) -> QdqRule:
    return QdqRule(op, activation_inputs or (0,), share_scale=True)


RULES: Mapping[str, QdqRule] = MappingProxyType({
    rule.op: rule
    for rule in (
        #       op               activations  weight  per-channel axis
        QdqRule("Conv",          (0,),        1,      0),
        QdqRule("ConvTranspose", (0,),        1,      _conv_transpose_axis),
        QdqRule("Gemm",          (0,),        1,      _gemm_axis),
        QdqRule("MatMul",        (0,),        1,      -1,    dynamic_weight=True),
        QdqRule("AveragePool", pool=True),
        QdqRule("GlobalAveragePool", pool=True),
        QdqRule("MaxPool", pool=True, share_scale=True),
        # operators that only move values: INT8 passes through
        _move("Concat"), _move("Reshape"), _move("Flatten"), _move("Transpose"), _move("Squeeze"), _move("Unsqueeze"),
        _move("Slice"), _move("Split"), _move("Pad"), _move("Identity"), _move("DepthToSpace"), _move("SpaceToDepth"),
        _move("Expand"), _move("Tile"), _move("Resize"),
    )
})  # fmt: skip

EPILOGUE_OPS = frozenset({"Conv", "ConvTranspose"})
"""A residual Add after one of these is fused into its kernel; only the other branch (the skip) is quantized."""

_FUSED = "TensorRT fuses it into the kernel before it"
_EXACT = "its result needs more than 8 bits, TensorRT computes it in float"
FLOAT: dict[str, str] = (
    dict.fromkeys(("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSwish", "HardSigmoid", "Tanh", "Elu"), _FUSED)
    | dict.fromkeys(("Selu", "Softplus", "Mish", "BatchNormalization"), _FUSED)
    | dict.fromkeys(
        ("Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization"), _EXACT
    )
    | dict.fromkeys(
        ("Gelu", "Erf", "Exp", "Log", "Sqrt", "Pow", "Reciprocal", "Div", "ReduceMean", "ReduceSum"), _EXACT
    )
    | dict.fromkeys(
        ("Shape", "Gather", "Cast", "Range", "ConstantOfShape", "Size", "NonZero"), "it computes shapes or indices"
    )
    | dict.fromkeys(("LSTM", "GRU", "RNN"), "TensorRT has no INT8 kernel for it")
    | dict.fromkeys(("Mul", "Sub", "Max", "Min"), "element-wise arithmetic gains nothing from INT8 inputs")
)
"""Operators that stay float, and why."""
