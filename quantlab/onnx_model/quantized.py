"""Whether a model is quantized, and whether that is in the way of quantizing it."""

from __future__ import annotations

import onnx

from quantlab.errors import GraphError, Notice
from quantlab.onnx_model.nodes import QDQ_OPS, all_nodes, inner_nodes, names_read, node_label
from quantlab.onnx_model.specs import input_specs


def qdq_nodes(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Every QuantizeLinear and DequantizeLinear node, those in subgraphs included."""
    return [node for node in all_nodes(proto.graph) if node.op_type in QDQ_OPS]


def has_qdq(proto: onnx.ModelProto) -> bool:
    """Whether a model is quantized: it has a QuantizeLinear or DequantizeLinear node anywhere."""
    return any(node.op_type in QDQ_OPS for node in all_nodes(proto.graph))


def constant_tensors(proto: onnx.ModelProto) -> set[str]:
    """The tensors of the main graph that depend on no input: initializers, and what is computed from them."""
    names = {tensor.name for tensor in proto.graph.initializer} - {value.name for value in input_specs(proto)}
    for node in proto.graph.node:
        read = names_read(node)  # by a body too: that of a Loop reads activations without naming them as inputs
        if node.op_type == "Constant" or (read and read <= names):
            names |= set(node.output)
    return names


def activation_qdq(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The Q/DQ nodes that are in the way of others: those of the main graph that work on activations. Those of
    constants, such as biases, are float values written in another way; those in subgraphs are left as they are."""
    constant = constant_tensors(proto)
    return [n for n in proto.graph.node if n.op_type in QDQ_OPS and n.input and n.input[0] not in constant]


def has_float_weights(proto: onnx.ModelProto) -> bool:
    """Whether weights are stored as float behind Q/DQ pairs, as quantization-aware training has them."""
    constant = constant_tensors(proto)
    return any(n.op_type == "QuantizeLinear" and n.input and n.input[0] in constant for n in proto.graph.node)


def require_float(proto: onnx.ModelProto, purpose: str) -> None:
    """Refuse a model whose activations are quantized already.

    Args:
        proto: The model.
        purpose: What needs the FP32 model, as a noun for the error text.

    Raises:
        GraphError: The model has Q/DQ nodes on activations.
    """
    found = activation_qdq(proto)
    if found:
        raise GraphError(
            f"the model already has {len(qdq_nodes(proto))} QuantizeLinear/DequantizeLinear nodes (first: "
            f"'{node_label(found[0])}'); {purpose} needs the FP32 model",
            hint="give the model it was made from; or quantlab quantize --requantize, quantlab repair",
        )


def constant_qdq_notices(proto: onnx.ModelProto) -> tuple[Notice, ...]:
    """What a reader must know of Q/DQ nodes that are not in the way."""
    found = qdq_nodes(proto)
    inside = {id(node) for outer in proto.graph.node for node in inner_nodes(outer)}
    kept = [node for node in found if id(node) in inside]
    computed = [node for node in found if id(node) not in inside]
    notices = []
    if computed:
        notices.append(Notice(
            f"{len(computed)} Q/DQ nodes of constants like biases (first: '{node_label(computed[0])}') are computed: "
            "the values that they stand for are float constants from here on"
        ))  # fmt: skip
    if kept:
        text = f"{len(kept)} Q/DQ nodes in If, Loop or Scan (first: '{node_label(kept[0])}') stay as they are"
        notices.append(Notice(text))
    return tuple(notices)


def require_qdq(proto: onnx.ModelProto) -> None:
    """GraphError unless a model is quantized."""
    if not has_qdq(proto):
        raise GraphError("the model has no Q/DQ nodes", hint="quantize it: quantlab calibrate, quantlab quantize")
