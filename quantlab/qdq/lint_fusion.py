"""Checks of `lint` of what costs time around convolutions: readers, activations and weights. One function per code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from quantlab.onnx_model import QDQ_OPS, GraphView
from quantlab.onnx_model import node_label as label_of
from quantlab.qdq.activations import Activation, activation_of, is_fused, kind_of
from quantlab.qdq.clips import quantized_clips
from quantlab.qdq.finding import Finding
from quantlab.qdq.graph import feeds_one_reader, import_graph, node_label, readers, walk
from quantlab.qdq.measured import FORMS, INT8_OUTPUT_ONLY
from quantlab.qdq.rules import row_of


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution whose operands are both quantized.

    Attributes:
        conv: The node.
        unfused: The first activation behind it that TensorRT does not fuse and that reads float.
        result: What it and its activations make.
    """

    conv: gs.Node
    unfused: Activation | None
    result: gs.Tensor


def _layers(view: GraphView) -> Iterator[tuple[gs.Graph, _Layer]]:
    graph = import_graph(view.proto)
    for conv in graph.nodes:
        if kind_of(conv) and all(_is_dequantized(tensor) for tensor in conv.inputs[:2]):
            result, unfused = conv.outputs[0], None
            while (activation := activation_of(graph, result)) is not None:
                if unfused is None and not is_fused(conv, activation):
                    unfused = activation
                result = activation.result
            yield graph, _Layer(conv, unfused, result)


def _is_dequantized(tensor: gs.Tensor) -> bool:
    return bool(tensor.inputs) and tensor.inputs[0].op == "DequantizeLinear"


def breaks_fusion(view: GraphView) -> Iterator[Finding]:
    """Q06: a pair between a layer and its activation or BatchNorm, but for one that TensorRT does not fuse anyway."""
    graph = import_graph(view.proto)
    tensors = graph.tensors()
    for node in graph.nodes:
        pair = view.pair_after(node.outputs[0].name) if node.outputs and row_of(node.op, node.domain).heads else None
        if pair is None:
            continue
        dequantized = tensors[pair[1].output[0]]
        fused = [reader for reader in dequantized.outputs if row_of(reader.op, reader.domain).fused]
        activation = activation_of(graph, dequantized)
        is_form = activation is not None and activation.name in FORMS.values()
        if not fused or (len(dequantized.outputs) > 1 and not is_form):
            continue
        if activation is None or is_fused(_before_batch_norm(node) or node, activation):
            behind_it = f"{fused[0].op} '{node_label(fused[0])}'"
            yield Finding("Q06", label_of(pair[0]), f"between '{node_label(node)}' and {behind_it}")


def residual_adds(view: GraphView) -> Iterator[Finding]:
    """Q07: both branches of a residual Add, one of which is made by a convolution that would take it."""
    graph = import_graph(view.proto)
    for node in graph.nodes:
        if not row_of(node.op, node.domain).residual:
            continue
        if all(_is_dequantized(tensor) for tensor in node.inputs) and any(_takes_sums(graph, t) for t in node.inputs):
            sources = [_source(tensor).name for tensor in node.inputs]
            yield Finding("Q07", node_label(node), f"inputs '{sources[0]}' and '{sources[1]}'")


def _source(tensor: gs.Tensor) -> gs.Tensor:
    """What a Q/DQ pair reads."""
    before = tensor.inputs[0].inputs[0]
    is_pair = bool(before.inputs) and before.inputs[0].op == "QuantizeLinear"
    return before.inputs[0].inputs[0] if is_pair else tensor


def _takes_sums(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    """Whether nothing but a sum reads what an INT8 convolution makes, or the BatchNorm that is folded into it."""
    source = _source(tensor)
    if not feeds_one_reader(graph, tensor) or not feeds_one_reader(graph, source):
        return False
    maker = _before_batch_norm(source.inputs[0]) if source.inputs else None
    if maker is None or not row_of(maker.op, maker.domain).epilogue or kind_of(maker) in INT8_OUTPUT_ONLY:
        return False
    return all(map(_is_dequantized, maker.inputs[:2]))


def _before_batch_norm(node: gs.Node) -> gs.Node | None:
    """The convolution that a BatchNorm is folded into, or the node itself; None if there is none."""
    maker: gs.Node | None = node
    while maker is not None and maker.op == "BatchNormalization" and len(maker.inputs[0].outputs) == 1:
        maker = maker.inputs[0].inputs[0] if maker.inputs[0].inputs else None
    return maker


def mixed_readers(view: GraphView) -> Iterator[Finding]:
    """Q20: what a depthwise or grouped convolution makes is read in INT8 and in float."""
    for graph, layer in _layers(view):
        quantized, others = _readers(layer.result)
        if kind_of(layer.conv) not in INT8_OUTPUT_ONLY or not quantized:
            continue
        names = [f"{reader.op} '{node_label(reader)}'" for reader in others]
        names += ["the network's output"] * any(layer.result is output for output in graph.outputs)
        if names:
            detail = f"its result '{layer.result.name}' is quantized, and read in float by {', '.join(names)}"
            yield Finding("Q20", node_label(layer.conv), detail)


def unfused_activations(view: GraphView) -> Iterator[Finding]:
    """Q21: an activation that TensorRT does not fuse reads float."""
    for _, layer in _layers(view):
        if layer.unfused is not None and _readers(layer.result)[0]:
            name = f"{layer.unfused.name} '{node_label(layer.unfused.nodes[0])}'"
            yield Finding(
                "Q21", node_label(layer.conv), f"{name} is not fused into a {kind_of(layer.conv)} convolution"
            )


def weights_dequantized(view: GraphView) -> Iterator[Finding]:
    """Q22: a depthwise or grouped convolution whose result nothing reads in INT8."""
    for _, layer in _layers(view):
        if kind_of(layer.conv) in INT8_OUTPUT_ONLY and not _readers(layer.result)[0]:
            yield Finding("Q22", node_label(layer.conv), f"its result '{layer.result.name}' is read in float only")


def clips_of_float_layers(view: GraphView) -> Iterator[Finding]:
    """Q24: a float layer whose Clip is quantized."""
    for layer, clip in quantized_clips(import_graph(view.proto)):
        yield Finding("Q24", node_label(layer), f"its Clip '{node_label(clip)}' is quantized")


def _readers(tensor: gs.Tensor) -> tuple[list[gs.Node], list[gs.Node]]:
    """(those that quantize a tensor, the others): what only moves values quantizes what is quantized behind it."""
    quantize = [reader for reader in tensor.outputs if _quantizes(reader)]
    others = [reader for reader in tensor.outputs if not any(reader is one for one in quantize)]
    return quantize, [reader for reader in others if not row_of(reader.op, reader.domain).shape]


def _quantizes(node: gs.Node) -> bool:
    if not _moves(node):
        return node.op in QDQ_OPS
    behind = [one for result in node.outputs for one in walk(result, readers, lambda n: n.outputs if _moves(n) else ())]
    ends = [one for one in behind if not _moves(one)]
    return bool(ends) and all(one.op in QDQ_OPS for one in ends)


def _moves(node: gs.Node) -> bool:
    return row_of(node.op, node.domain).share_scale
