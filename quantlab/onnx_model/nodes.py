"""Nodes of a graph: all of them, what they are called, whether they quantize."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx

QDQ_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""The operators of explicit quantization."""

STANDARD_DOMAINS = frozenset({None, "", "ai.onnx"})
"""The names of the default ONNX operator domain; onnx-graphsurgeon gives None for it."""


def subgraphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in the attributes of a node (If, Loop, Scan), and the graphs inside those."""
    for value in node.attribute:
        for graph in (*([value.g] if value.HasField("g") else ()), *value.graphs):
            yield graph
            for inner in graph.node:
                yield from subgraphs_of(inner)


def inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the graphs in the attributes of a node."""
    for graph in subgraphs_of(node):
        yield from graph.node


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the subgraphs in it."""
    for node in graph.node:
        yield node
        yield from inner_nodes(node)


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of the default ONNX domain; 1 where the model names none."""
    return next((o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS), 1)


def label_of(name: str, outputs: Sequence[str], op: str) -> str:
    """What a node is called in messages: its name, else its first output, else its operator.

    Args:
        name: The node's name; exporters may leave it empty.
        outputs: The names of its outputs; optional ones may be empty.
        op: Its operator.

    Returns:
        The first of these that is not empty.
    """
    return str(name or next((output for output in outputs if output), op))


def node_label(node: onnx.NodeProto) -> str:
    """`label_of` a node of an ONNX graph."""
    return label_of(node.name, node.output, node.op_type)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Read an attribute.

    Args:
        node: The node.
        name: Of the attribute.
        default: What it is where the node does not have it.

    Returns:
        Its value.
    """
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def has_axes_as_input(node: onnx.NodeProto) -> bool:
    """Whether a Reduce operator has the form of opset 18, its axes as an input. (ReduceSum has it from 13 on.)"""
    reduces = node.op_type.startswith("Reduce") and node.op_type != "ReduceSum" and node.domain in STANDARD_DOMAINS
    return reduces and (len(node.input) > 1 or bool(attribute(node, "noop_with_empty_axes", 0)))


def node_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """All attributes of a node by name."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def names_read(node: onnx.NodeProto) -> set[str]:
    """What a node reads of the graph around it, its subgraphs too; the names that those make are theirs."""
    names, inner = {name for name in node.input if name}, set[str]()
    for one in inner_nodes(node):
        names |= {name for name in one.input if name}
        inner |= set(one.output)
    for graph in subgraphs_of(node):
        names |= {output.name for output in graph.output}
        inner |= {value.name for value in (*graph.input, *graph.initializer)}
    return names - (inner - set(node.input))
