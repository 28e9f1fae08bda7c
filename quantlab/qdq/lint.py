"""What is wrong with a Q/DQ graph from any exporter: code, node, what TensorRT will do, remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from quantlab.model import QDQ_OPS, all_nodes
from quantlab.numerics.scales import SMALLEST_SCALE
from quantlab.qdq.codes import CODES
from quantlab.qdq.prepare import export_graph, opset_of
from quantlab.qdq.rules import EPILOGUE_OPS, RULES
from quantlab.qdq.strip import fold_around_qdq
from quantlab.qdq.view import GraphView, attribute


@dataclass(frozen=True, slots=True)
class Finding:
    """One place in a model. detail: what was found there."""

    code: str
    node: str
    detail: str

    @property
    def severity(self) -> str:
        """`error` or `warning`."""
        return CODES[self.code].severity


def lint(proto: onnx.ModelProto) -> list[Finding]:
    """Every finding, in network order per check; an empty list for a clean graph. Constants are computed first."""
    view = GraphView(export_graph(fold_around_qdq(proto), proto))
    return [finding for check in CHECKS for finding in check(view)]


def _name(node: onnx.NodeProto) -> str:
    return node.name or (node.output[0] if node.output else node.op_type)


def _zero_points_and_types(view: GraphView) -> Iterator[Finding]:
    for node in view.qdq_nodes:
        if node.op_type == "DequantizeLinear" and view.type_of(node.input[0]) == onnx.TensorProto.INT32:
            yield Finding("Q04", _name(node), f"bias '{node.input[0]}'")
            continue
        zero_point = view.zero_point(node)
        if zero_point is None:
            continue
        if np.any(zero_point != 0):
            yield Finding("Q01", _name(node), f"zero point {np.unique(zero_point)[:4].tolist()}")
        reported = node.op_type == "DequantizeLinear" and not view.is_constant(node.input[0])  # with its QuantizeLinear
        if zero_point.dtype == np.uint8 and not reported:
            yield Finding("Q02", _name(node), f"tensor '{node.input[0]}'")
        elif zero_point.dtype not in (np.int8, np.uint8) and not reported:
            yield Finding("Q18", _name(node), f"{zero_point.dtype} codes of '{node.input[0]}'")


def _granularity(view: GraphView) -> Iterator[Finding]:
    for node in view.qdq_nodes:
        scale = view.scale(node)
        if scale is None:
            yield Finding("Q17", _name(node), f"scale '{node.input[1]}'")
        elif scale.size > 1 and node.op_type == "QuantizeLinear" and not view.is_weight(node):
            yield Finding("Q03", _name(node), f"tensor '{node.input[0]}' has {scale.size} scales")


def _weighted(view: GraphView) -> Iterator[tuple[onnx.NodeProto, int]]:
    """Nodes that take weights, with the index of that input."""
    for node in view.proto.graph.node:
        rule = RULES.get(node.op_type)
        if rule is not None and rule.weight_input is not None and len(node.input) > rule.weight_input:
            yield node, rule.weight_input


def _weight_axes(view: GraphView) -> Iterator[Finding]:
    for node, weight_input in _weighted(view):
        dq = view.producer.get(node.input[weight_input])
        if dq is None or dq.op_type != "DequantizeLinear" or not view.is_weight(dq):
            continue
        scale, ndim = view.scale(dq), _weight_rank(view, dq)
        if scale is None or scale.size <= 1 or ndim is None or attribute(dq, "block_size", 0):
            continue
        attrs = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        wanted, got = RULES[node.op_type].axis(attrs, ndim), attribute(dq, "axis", 1) % ndim
        if got != wanted:
            needs = "one scale for the whole tensor" if wanted is None else f"axis {wanted}"
            yield Finding("Q05", _name(dq), f"axis {got}, {node.op_type} '{_name(node)}' needs {needs}")


def _weight_rank(view: GraphView, dq: onnx.NodeProto) -> int | None:
    q = view.producer.get(dq.input[0])
    weight = view.constant(q.input[0] if q is not None and q.op_type == "QuantizeLinear" else dq.input[0])
    return None if weight is None else weight.ndim


_ACTIVATIONS = frozenset(
    {"Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSwish", "HardSigmoid", "Tanh", "Elu", "BatchNormalization"}
)
_LAYERS = EPILOGUE_OPS | {"Gemm", "MatMul", "Add", "BatchNormalization"}


def _breaks_fusion(view: GraphView) -> Iterator[Finding]:
    for node in view.proto.graph.node:
        if node.op_type not in _LAYERS:
            continue
        pair = view.pair_after(node.output[0])
        if pair is None:
            continue
        q, dq = pair
        behind = [reader for reader, _ in view.readers.get(dq.output[0], [])]
        activations = [r for r in behind if r.op_type in _ACTIVATIONS]
        if activations and len(behind) == 1:
            yield Finding(
                "Q06", _name(q), f"between '{_name(node)}' and {activations[0].op_type} '{_name(activations[0])}'"
            )


def _residual_adds(view: GraphView) -> Iterator[Finding]:
    for node in view.proto.graph.node:
        if node.op_type != "Add" or len(node.input) != 2:
            continue
        sources = [view.source(name) for name in node.input]
        quantized = [s != name for s, name in zip(sources, node.input, strict=True)]
        makers = [_before_batch_norm(view, view.producer.get(s)) for s in sources]
        layers = [maker is not None and maker.op_type in EPILOGUE_OPS for maker in makers]
        if all(quantized) and any(layers):
            yield Finding("Q07", _name(node), f"inputs '{sources[0]}' and '{sources[1]}'")


def _before_batch_norm(view: GraphView, node: onnx.NodeProto | None) -> onnx.NodeProto | None:
    """The convolution that TensorRT folds a BatchNorm into, or the node itself."""
    while node is not None and node.op_type == "BatchNormalization":
        node = view.producer.get(node.input[0])
    return node


def _quantized_outputs(view: GraphView) -> Iterator[Finding]:
    for name in sorted(view.outputs):
        node = view.producer.get(name)
        if node is not None and node.op_type in QDQ_OPS:
            yield Finding("Q08", _name(node), f"output '{name}'")


def _concat_scales(view: GraphView) -> Iterator[Finding]:
    for node in view.proto.graph.node:
        if node.op_type != "Concat":
            continue
        makers = [view.producer.get(name) for name in node.input]
        scales = [view.scale(m) for m in makers if m is not None and m.op_type == "DequantizeLinear"]
        values = {float(s) for s in scales if s is not None and s.size == 1}
        if len(scales) == len(node.input) and len(values) > 1:
            yield Finding("Q09", _name(node), f"scales {', '.join(f'{v:.6g}' for v in sorted(values))}")


_SHAPES = frozenset({"Shape", "Size", "NonZero"})


def _shape_computations(view: GraphView) -> Iterator[Finding]:
    for node in view.qdq_nodes:
        tensor, steps = node.input[0], 0
        while (maker := view.producer.get(tensor)) is not None and steps < 8:
            if maker.op_type in _SHAPES:
                yield Finding("Q10", _name(node), f"behind {maker.op_type} '{_name(maker)}'")
                break
            if maker.op_type not in ("Gather", "Cast", "Unsqueeze", "Squeeze", "Concat", "Slice", "Mul", "Add"):
                break
            tensor, steps = maker.input[0], steps + 1


def _counterparts(view: GraphView) -> Iterator[Finding]:
    for node in view.qdq_nodes:
        readers = view.readers.get(node.output[0], [])
        if not readers and node.output[0] not in view.outputs:
            yield Finding("Q11", _name(node), "nothing reads its result")
        elif node.op_type == "QuantizeLinear" and not any(r.op_type == "DequantizeLinear" for r, _ in readers):
            yield Finding("Q11", _name(node), "no DequantizeLinear follows")
        elif node.op_type == "DequantizeLinear" and not view.is_constant(node.input[0]):
            before = view.producer.get(node.input[0])
            if before is None or before.op_type != "QuantizeLinear":
                yield Finding("Q11", _name(node), "no QuantizeLinear precedes")


def _doubled(view: GraphView) -> Iterator[Finding]:
    for node in view.qdq_nodes:
        before = view.producer.get(node.input[0])
        if node.op_type == "QuantizeLinear" and before is not None and before.op_type == "DequantizeLinear":
            yield Finding("Q12", _name(node), f"directly after '{_name(before)}'")


def _scale_values(view: GraphView) -> Iterator[Finding]:
    for node in view.qdq_nodes:
        scale = view.scale(node)
        if scale is None:
            continue
        values = scale.astype(np.float64)
        smallest = float(SMALLEST_SCALE) if scale.dtype == np.float32 else 0.0
        bad = values[~(np.isfinite(values) & (values > 0) & (values >= smallest))]
        if bad.size:
            yield Finding("Q13", _name(node), f"{bad.size} of {values.size}, such as {bad.flat[0]:.3g}")


def _opset(view: GraphView) -> Iterator[Finding]:
    opset = opset_of(view.proto)
    for node in view.qdq_nodes:
        scale = view.scale(node)
        if scale is not None and scale.dtype == np.float16 and opset < 19:
            yield Finding("Q14", _name(node), f"opset {opset}")
        if scale is not None and scale.size > 1 and opset < 13:
            yield Finding("Q15", _name(node), f"opset {opset} has no per-channel scales: needs 13")
        if attribute(node, "block_size", 0) and opset < 21:
            yield Finding("Q15", _name(node), f"opset {opset} has no blocked scales: needs 21")
        if node.domain not in ("", "ai.onnx"):
            yield Finding("Q15", _name(node), f"domain '{node.domain}': TensorRT reads the standard operators")


def _half_quantized(view: GraphView) -> Iterator[Finding]:
    for node, weight_input in _weighted(view):
        operands = [_moved_from(view, node.input[i]) for i in (0, weight_input)]
        quantized = [_is_dequantized(view, name) for name in operands]
        for name, is_int8 in zip(operands, quantized, strict=True):
            between = None if is_int8 else _arithmetic_after_pair(view, name)
            if between is not None:
                detail = f"{between.op_type} '{_name(between)}' lies between it and the Q/DQ of input '{name}'"
                yield Finding("Q16", _name(node), detail)
            elif any(quantized) and not is_int8:
                yield Finding("Q16", _name(node), f"input '{name}' is float")


def _is_dequantized(view: GraphView, tensor: str) -> bool:
    maker = view.producer.get(tensor)
    return maker is not None and maker.op_type == "DequantizeLinear"


_ARITHMETIC = frozenset({"Mul", "Div", "Add", "Sub"})


def _arithmetic_after_pair(view: GraphView, tensor: str) -> onnx.NodeProto | None:
    """The arithmetic with a constant that computes `tensor` from a Q/DQ pair: what it reads is float again."""
    last = maker = view.producer.get(tensor)
    while maker is not None and maker.op_type in _ARITHMETIC:
        data = [name for name in maker.input if not view.is_constant(name)]
        if len(data) != 1:
            return None
        maker = view.producer.get(_moved_from(view, data[0]))
    return last if maker is not None and maker is not last and maker.op_type == "DequantizeLinear" else None


def _moved_from(view: GraphView, tensor: str) -> str:
    """The tensor before Transpose, Reshape and the like, which change no value."""
    while (maker := view.producer.get(tensor)) is not None:
        rule = RULES.get(maker.op_type)
        if rule is None or not rule.share_scale or len(maker.input) > 2:
            break
        tensor = maker.input[0]
    return tensor


def _subgraphs(view: GraphView) -> Iterator[Finding]:
    own = {id(node) for node in view.qdq_nodes}
    for node in all_nodes(view.proto.graph):
        if node.op_type in QDQ_OPS and id(node) not in own:
            yield Finding("Q19", _name(node), "in a subgraph")


CHECKS: tuple[Callable[[GraphView], Iterator[Finding]], ...] = (
    _zero_points_and_types, _granularity, _weight_axes, _breaks_fusion, _residual_adds, _quantized_outputs,
    _concat_scales, _shape_computations, _counterparts, _doubled, _scale_values, _opset, _half_quantized, _subgraphs,
)  # fmt: skip
