"""Checks of `lint` of where Q/DQ nodes stand. One function per code."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from quantlab.onnx_model import QDQ_OPS, GraphView, all_nodes, has_axes_as_input, inner_nodes, node_label
from quantlab.qdq.finding import Finding
from quantlab.qdq.rules import QdqRule, row_of, weighted_nodes


def _row(node: onnx.NodeProto) -> QdqRule:
    return row_of(node.op_type, node.domain)


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
        makers = [view.maker(name, "DequantizeLinear") for name in node.input]
        scales = [view.scale(maker) for maker in makers if maker is not None]
        values = {float(s) for s in scales if s is not None and s.size == 1}
        if len(scales) == len(node.input) and len(values) > 1:
            yield Finding("Q09", node_label(node), f"scales {', '.join(f'{v:.6g}' for v in sorted(values))}")


def shape_computations(view: GraphView) -> Iterator[Finding]:
    """Q10: behind Shape and the like."""
    for node in view.qdq_nodes:
        tensor, steps = node.input[0], 0
        while (maker := view.producer.get(tensor)) is not None and steps < 8:
            if _row(maker).shape:
                yield Finding("Q10", node_label(node), f"behind {maker.op_type} '{node_label(maker)}'")
                break
            if not _row(maker).shape_step:
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
        elif node.op_type == "DequantizeLinear" and not _has_codes(view, node.input[0]):
            yield Finding("Q11", node_label(node), "no QuantizeLinear precedes")


def _has_codes(view: GraphView, tensor: str) -> bool:
    """Whether a tensor holds codes that are stored or made by a QuantizeLinear."""
    return view.is_constant(tensor) or view.maker(tensor, "QuantizeLinear") is not None


def doubled(view: GraphView) -> Iterator[Finding]:
    """Q12: twice in a row."""
    for node in view.qdq_nodes:
        before = view.maker(node.input[0], "DequantizeLinear")
        if node.op_type == "QuantizeLinear" and before is not None:
            yield Finding("Q12", node_label(node), f"directly after '{node_label(before)}'")


def one_operand_float(view: GraphView) -> Iterator[Finding]:
    """Q16: only one operand of a layer."""
    for node, weight_input in weighted_nodes(view.proto.graph):
        operands = [_moved_from(view, node.input[i]) for i in (0, weight_input)]
        quantized = [view.maker(name, "DequantizeLinear") is not None for name in operands]
        for name, is_int8 in zip(operands, quantized, strict=True):
            between = _arithmetic_after_pair(view, name)
            if between is not None:
                detail = f"{between.op_type} '{node_label(between)}' lies between it and the Q/DQ of input '{name}'"
                yield Finding("Q16", node_label(node), detail)
            elif any(quantized) and not is_int8 and not (name == operands[1] and _is_left_float(view, node)):
                yield Finding("Q16", node_label(node), f"input '{name}' is float")


def is_in_int8(view: GraphView, node: onnx.NodeProto, weight_input: int) -> bool:
    """Find whether a layer was meant for INT8.

    Args:
        view: Of the model.
        node: The layer.
        weight_input: The index of its weight.

    Returns:
        Whether it has Q/DQ, at its activation or its weight, and its weight is not float on purpose.
    """
    by_input = view.maker(node.input[0], "DequantizeLinear") is not None
    by_weight = view.maker(_moved_from(view, node.input[weight_input]), "DequantizeLinear") is not None
    return by_weight or (by_input and not _is_left_float(view, node))


def _is_left_float(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether something else reads the pair before a layer, or what moves it there: then float weights are meant."""
    way, name = [node], node.input[0]
    tensors = [name]
    while (maker := view.producer.get(name)) is not None and maker.op_type != "DequantizeLinear":
        if not _row(maker).share_scale and not _row(maker).kernel:
            return False
        way.append(maker)
        name = maker.input[0]
        tensors += [name, *maker.output]
    others = [r for tensor in tensors for r, _ in view.readers.get(tensor, []) if not any(r is one for one in way)]
    return any(not _has_float_weights(view, reader) for reader in others)


def _has_float_weights(view: GraphView, node: onnx.NodeProto) -> bool:
    index = _row(node).weight_input
    return index is not None and view.maker(_moved_from(view, node.input[index]), "DequantizeLinear") is None


def _arithmetic_after_pair(view: GraphView, tensor: str) -> onnx.NodeProto | None:
    """The arithmetic with a constant that computes `tensor` from a Q/DQ pair: what it reads is float again."""
    last = maker = view.producer.get(tensor)
    while maker is not None and _row(maker).affine and maker.op_type != "BatchNormalization":
        data = [name for name in maker.input if not view.is_constant(name)]
        if len(data) != 1:
            return None
        maker = view.producer.get(_moved_from(view, data[0]))
    return last if maker is not None and maker is not last and maker.op_type == "DequantizeLinear" else None


def _moved_from(view: GraphView, tensor: str) -> str:
    """The tensor before Transpose, Reshape and the like, which change no value."""
    while (maker := view.producer.get(tensor)) is not None:
        if not _row(maker).share_scale or (_row(maker).all_inputs and len(maker.input) > 2):
            break
        tensor = maker.input[0]
    return tensor


def subgraphs(view: GraphView) -> Iterator[Finding]:
    """Q19: inside If, Loop or Scan."""
    for outer in view.proto.graph.node:
        for node in inner_nodes(outer):
            if node.op_type in QDQ_OPS:
                yield Finding("Q19", node_label(node), "in a subgraph")


def axes_as_inputs(view: GraphView) -> Iterator[Finding]:
    """Q25: Reduce operators of opset 18."""
    for node in all_nodes(view.proto.graph):
        if has_axes_as_input(node):
            yield Finding("Q25", node_label(node), f"{node.op_type} of opset 18 or later")
