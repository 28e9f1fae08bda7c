"""What is done with which operator: the whole policy of quantlab on one screen.

Rows follow what TensorRT fuses. Bias stays float (TensorRT adds it in the epilogue). Nothing comes between a
convolution and its BatchNorm or activation: together they are one INT8 kernel. An operator without a row stays float.
Every list of operators in this room is read off this table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from quantlab.onnx_model import STANDARD_DOMAINS
from quantlab.qdq.conditions import ELEMENTWISE, EXACT, is_gate, pads_zeros, takes_nearest

Attrs = Mapping[str, Any]


def _conv_transpose_axis(attrs: Attrs) -> int | None:
    return 1 if attrs.get("group", 1) == 1 else None  # grouped: axis 1 is not the output channels


def _gemm_axis(attrs: Attrs) -> int:
    return 0 if attrs.get("transB", 0) else 1  # the axis of B that becomes the columns of Y


@dataclass(frozen=True, slots=True)
class QdqRule:
    """One operator.

    Attributes:
        op: The ONNX operator.
        activation_inputs: Indices of the inputs that take a per-tensor Q/DQ pair; () where it stays float.
        weight_input: If constant, quantized per channel along `weight_axis`; else an activation if `dynamic_weight`.
        weight_axis: The axis of the output channels; None for one scale per tensor.
        dynamic_weight: Whether a weight that is computed at run time may be quantized.
        bias_input: The index of its bias.
        all_inputs: Every input is an activation, however many there are.
        share_scale: It only moves values, so that all its inputs and outputs take one scale.
        kernel: It has an INT8 kernel: its inputs are quantized where its output is read in INT8.
        view: TensorRT runs nothing for it; who reads its output reads its input.
        copies_scale: TensorRT's entropy2 and min-max calibrators give its output the scale of its input.
        epilogue: BatchNorm and a residual Add behind it become part of its kernel.
        residual: Where it sums two branches, the one that is not fused takes a pair.
        heads: TensorRT fuses an activation behind it.
        fused: TensorRT fuses it into the kernel before it.
        pointwise: It computes element by element.
        affine: With constants it scales and shifts channels, and is folded into the convolution before it.
        commutes: Its two inputs may change places.
        keeps_zero: It makes zero of zero.
        homogeneous: f(a x) = a f(x) for a > 0, of its first input, channel by channel, with its parameters as they are.
        not_negative: It gives no negative values.
        region: TensorRT 8 compiles the network around it as one, and takes no int8 weights there.
        recurrent: It is computed step by step, in a region that runs slower in a network with Q/DQ.
        shape: It makes shapes or indices out of a tensor.
        reads_shape: It reads the shape of its input and no values.
        shape_step: It stands in computations of shapes.
        where: Gives the reason why a node of it is none that the row is for, or None; None where it holds for all.
        why_float: Why it stays float, where there is more to say than that no rule quantizes it.
    """

    op: str
    activation_inputs: tuple[int, ...] = ()
    weight_input: int | None = None
    weight_axis: int | Callable[[Attrs], int | None] | None = None
    dynamic_weight: bool = False
    bias_input: int | None = None
    all_inputs: bool = False
    share_scale: bool = False
    kernel: bool = False
    view: bool = False
    copies_scale: bool = False
    epilogue: bool = False
    residual: bool = False
    heads: bool = False
    fused: bool = False
    pointwise: bool = False
    affine: bool = False
    commutes: bool = False
    keeps_zero: bool = False
    homogeneous: bool = False
    not_negative: bool = False
    region: bool = False
    recurrent: bool = False
    shape: bool = False
    reads_shape: bool = False
    shape_step: bool = False
    where: Callable[[gs.Node], str | None] | None = None
    why_float: str = ""

    def axis(self, attrs: Attrs, ndim: int) -> int | None:
        """The weight's channel axis, counted from the front.

        Args:
            attrs: The attributes of the node.
            ndim: The dimensions of its weight.

        Returns:
            The axis, or None for one scale per tensor.
        """
        axis = self.weight_axis(attrs) if callable(self.weight_axis) else self.weight_axis
        return None if axis is None else axis % ndim


def _each(ops: str, **columns: Any) -> Iterator[QdqRule]:
    """The same row for several operators."""
    return (QdqRule(op, **columns) for op in ops.split())


_FUSED = "TensorRT fuses it into the kernel before it"
_INDEX = "it computes shapes or indices"
_INTEGER = "it is quantized already, in a form that TensorRT does not read"

OPERATORS: Mapping[str, QdqRule] = MappingProxyType({
    rule.op: rule
    for rule in (
        #       op        activations  weight  per-channel axis
        QdqRule("Conv",          (0,), 1, 0,                    bias_input=2, epilogue=True, heads=True),
        QdqRule("ConvTranspose", (0,), 1, _conv_transpose_axis, bias_input=2, epilogue=True, heads=True),
        QdqRule("Gemm",          (0,), 1, _gemm_axis,           bias_input=2, heads=True),
        QdqRule("MatMul",        (0,), 1, -1, dynamic_weight=True, heads=True, region=True),
        QdqRule("Add", residual=True, heads=True, affine=True, pointwise=True, commutes=True, shape_step=True),
        QdqRule("MaxPool",     (0,), kernel=True, share_scale=True, copies_scale=True, homogeneous=True),
        QdqRule("AveragePool", (0,), kernel=True, copies_scale=True, homogeneous=True),
        QdqRule("GlobalAveragePool", (0,), kernel=True, homogeneous=True),
        QdqRule("Mul", (0, 1), kernel=True, where=is_gate,
                affine=True, pointwise=True, commutes=True, shape_step=True),
        QdqRule("Concat", (0,), all_inputs=True, kernel=True, share_scale=True, shape_step=True),
        # operators that only move values: INT8 passes through
        *_each("Reshape Flatten Identity", activation_inputs=(0,), share_scale=True, view=True),
        *_each("Squeeze Unsqueeze", activation_inputs=(0,), share_scale=True, view=True, shape_step=True),
        *_each("Transpose Split DepthToSpace SpaceToDepth Expand Tile", activation_inputs=(0,), share_scale=True),
        QdqRule("Pad",    (0,), share_scale=True, where=pads_zeros),
        QdqRule("Resize", (0,), share_scale=True, where=takes_nearest),
        *_each("Slice", activation_inputs=(0,), share_scale=True, shape_step=True),
        # operators that stay float
        QdqRule("Relu", fused=True, pointwise=True, keeps_zero=True, not_negative=True, homogeneous=True,
                why_float=_FUSED),
        *_each("Sigmoid HardSigmoid", fused=True, pointwise=True, not_negative=True, why_float=_FUSED),
        QdqRule("LeakyRelu", fused=True, pointwise=True, keeps_zero=True, homogeneous=True, why_float=_FUSED),
        *_each("HardSwish Swish Tanh Elu Selu Mish", fused=True, pointwise=True, keeps_zero=True, why_float=_FUSED),
        QdqRule("PRelu", fused=True, pointwise=True, homogeneous=True, why_float=_FUSED),
        *_each("Clip Softplus", fused=True, pointwise=True, why_float=_FUSED),
        *_each("BatchNormalization", fused=True, pointwise=True, affine=True, heads=True, why_float=_FUSED),
        QdqRule("Softmax", not_negative=True, why_float=EXACT),
        *_each("Exp Sqrt", not_negative=True, pointwise=True, why_float=EXACT),
        *_each("Gelu Erf Log Pow Reciprocal", pointwise=True, why_float=EXACT),
        QdqRule("LayerNormalization", region=True, why_float=EXACT),
        *_each("LogSoftmax InstanceNormalization GroupNormalization", why_float=EXACT),
        *_each("ReduceMean ReduceSum", homogeneous=True, why_float=EXACT),
        *_each("ReduceMax ReduceMin ReduceL1 ReduceL2 GlobalMaxPool GlobalLpPool LpPool Dropout", homogeneous=True),
        *_each("Div", affine=True, pointwise=True, why_float=EXACT),
        *_each("Sub", affine=True, pointwise=True, why_float=ELEMENTWISE),
        *_each("Max Min", pointwise=True, why_float=ELEMENTWISE),
        QdqRule("Abs", not_negative=True, pointwise=True, homogeneous=True),
        QdqRule("Neg", homogeneous=True),
        *_each("Shape Size", shape=True, reads_shape=True, why_float=_INDEX),
        QdqRule("NonZero", shape=True, why_float=_INDEX),
        *_each("Gather Cast", shape_step=True, why_float=_INDEX),
        *_each("Range ConstantOfShape", why_float=_INDEX),
        *_each("QLinearConv QLinearMatMul ConvInteger MatMulInteger DynamicQuantizeLinear", why_float=_INTEGER),
        *_each("LSTM GRU RNN", region=True, recurrent=True, why_float="TensorRT has no INT8 kernel for it"),
    )
})  # fmt: skip

RULES: Mapping[str, QdqRule] = MappingProxyType({op: rule for op, rule in OPERATORS.items() if rule.activation_inputs})
"""The operators that read INT8."""


def operators(column: str) -> frozenset[str]:
    """The operators whose row has something in a column of the table."""
    return frozenset(op for op, rule in OPERATORS.items() if getattr(rule, column) != getattr(QdqRule(op), column))


WEIGHTED = operators("weight_input")
"""The operators that take weights: their precision decides how fast a network is."""


def row_of(op: str, domain: str | None, rules: Mapping[str, QdqRule] = OPERATORS) -> QdqRule:
    """Look a node up in the table.

    Args:
        op: Its operator.
        domain: The domain of that.
        rules: The table, or a part of it.

    Returns:
        Its row; an empty one where there is none, or the operator is of another domain and only bears the name.
    """
    return rules.get(op, QdqRule(op)) if domain in STANDARD_DOMAINS else QdqRule(op)


def weighted_nodes(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, int]]:
    """The nodes of a graph that take weights, each with the index of that input."""
    for node in graph.node:
        weight_input = row_of(node.op_type, node.domain).weight_input
        if weight_input is not None and len(node.input) > weight_input:
            yield node, weight_input
