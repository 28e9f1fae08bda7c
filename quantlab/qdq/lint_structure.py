"""Checks of `lint` of where Q/DQ nodes stand. One function per code."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from quantlab.onnx_model import QDQ_OPS, GraphView, node_label, subgraphs_of
from quantlab.qdq.finding import Finding
from quantlab.qdq.lint_values import weighted
from quantlab.qdq.rules import RULES, operators

HEADS, FUSED, EPILOGUE, RESIDUAL = (operators(column) for column in ("heads", "fused", "epilogue", "residual"))
SHAPES, SHAPE_STEPS = operators("shape"), operators("shape_step")
ARITHMETIC = operators("affine") - {"BatchNormalization"}


def breaks_fusion(view: GraphView) -> Iterator[Finding]:
    """Q06: a pair between a layer and its activation or BatchNorm."""
    for node in view.proto.graph.node:
        if node.op_type not in HEADS:
            continue
        pair = view.pair_after(node.output[0])
        if pair is None:
            continue
        q, dq = pair
        behind = [reader for reader, _ in view.readers.get(dq.output[0], [])]
        activations = [r for r in behind if r.op_type in FUSED]
        if activations and len(behind) == 1:
            behind_it = f"{activations[0].op_type} '{node_label(activations[0])}'"
            yield Finding("Q06", node_label(q), f"between '{node_label(node)}' and {behind_it}")


def residual_adds(view: GraphView) -> Iterator[Finding]:
    """Q07: both branches of a residual Add."""
    for node in view.proto.graph.node:
        if node.op_type not in RESIDUAL or len(node.input) != 2:
            continue
        sources = [view.source(name) for name in node.input]
        quantized = [s != name for s, name in zip(sources, node.input, strict=True)]
        makers = [_before_batch_norm(view, view.producer.get(s)) for s in sources]
        layers = [maker is not None and maker.op_type in EPILOGUE for maker in makers]
        if all(quantized) and any(layers):
            yield Finding("Q07", node_label(node), f"inputs '{sources[0]}' and '{sources[1]}'")


def _before_batch_norm(view: GraphView, node: onnx.NodeProto | None) -> onnx.NodeProto | None:
    """The convolution that TensorRT folds a BatchNorm into, or the node itself."""
    while node is not None and node.op_type == "BatchNormalization":
        node = view.producer.get(node.input[0])
    return node


def quantized_outputs(view: GraphView) -> Iterator[Finding]:
    """Q08: outputs of the model."""
    for name in sorted(view.outputs):
        node = view.producer.get(name)
        if node is not None and node.op_type in QDQ_OPS:
            yield Finding("Q08", node_label(node), f"output '{name}'")


def concat_scales(view: GraphView) -> Iterator[Finding]:
    """Q09: inputs of a Concat with different scales."""
    for node in view.proto.graph.node:
        if node.op_type != "Concat":
            continue
        makers = [view.producer.get(name) for name in node.input]
        scales = [view.scale(m) for m in makers if m is not None and m.op_type == "DequantizeLinear"]
        values = {float(s) for s in scales if s is not None and s.size == 1}
        if len(scales) == len(node.input) and len(values) > 1:
            yield Finding("Q09", node_label(node), f"scales {', '.join(f'{v:.6g}' for v in sorted(values))}")


def shape_computations(view: GraphView) -> Iterator[Finding]:
    """Q10: behind Shape and the like."""
    for node in view.qdq_nodes:
        tensor, steps = node.input[0], 0
        while (maker := view.producer.get(tensor)) is not None and steps < 8:
            if maker.op_type in SHAPES:
                yield Finding("Q10", node_label(node), f"behind {maker.op_type} '{node_label(maker)}'")
                break
            if maker.op_type not in SHAPE_STEPS:
                break
            tensor, steps = maker.input[0], steps + 1


def counterparts(view: GraphView) -> Iterator[Finding]:
    """Q11: Q without DQ and the other way."""
    for node in view.qdq_nodes:
        readers = view.readers.get(node.output[0], [])
        if not readers and node.output[0] not in view.outputs:
            yield Finding("Q11", node_label(node), "nothing reads its result")
        elif node.op_type == "QuantizeLinear" and not any(r.op_type == "DequantizeLinear" for r, _ in readers):
            yield Finding("Q11", node_label(node), "no DequantizeLinear follows")
        elif node.op_type == "DequantizeLinear" and not view.is_constant(node.input[0]):
            before = view.producer.get(node.input[0])
            if before is None or before.op_type != "QuantizeLinear":
                yield Finding("Q11", node_label(node), "no QuantizeLinear precedes")


def doubled(view: GraphView) -> Iterator[Finding]:
    """Q12: twice in a row."""
    for node in view.qdq_nodes:
        before = view.producer.get(node.input[0])
        if node.op_type == "QuantizeLinear" and before is not None and before.op_type == "DequantizeLinear":
            yield Finding("Q12", node_label(node), f"directly after '{node_label(before)}'")


def half_quantized(view: GraphView) -> Iterator[Finding]:
    """Q16: only one operand of a layer."""
    for node, weight_input in weighted(view):
        operands = [_moved_from(view, node.input[i]) for i in (0, weight_input)]
        quantized = [_is_dequantized(view, name) for name in operands]
        for name, is_int8 in zip(operands, quantized, strict=True):
            between = None if is_int8 else _arithmetic_after_pair(view, name)
            if between is not None:
                detail = f"{between.op_type} '{node_label(between)}' lies between it and the Q/DQ of input '{name}'"
                yield Finding("Q16", node_label(node), detail)
            elif any(quantized) and not is_int8:
                yield Finding("Q16", node_label(node), f"input '{name}' is float")


def _is_dequantized(view: GraphView, tensor: str) -> bool:
    maker = view.producer.get(tensor)
    return maker is not None and maker.op_type == "DequantizeLinear"


def _arithmetic_after_pair(view: GraphView, tensor: str) -> onnx.NodeProto | None:
    """The arithmetic with a constant that computes `tensor` from a Q/DQ pair: what it reads is float again."""
    last = maker = view.producer.get(tensor)
    while maker is not None and maker.op_type in ARITHMETIC:
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


def subgraphs(view: GraphView) -> Iterator[Finding]:
    """Q19: inside If, Loop or Scan."""
    inside = (inner for node in view.proto.graph.node for graph in subgraphs_of(node) for inner in graph.node)
    for node in inside:
        if node.op_type in QDQ_OPS:
            yield Finding("Q19", node_label(node), "in a subgraph")
