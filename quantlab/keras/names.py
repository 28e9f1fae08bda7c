"""Names that are the same in every conversion: tf2onnx numbers what it makes through the whole process, and a table or a
calibration cache of one conversion would not fit the next."""

from __future__ import annotations

import re
from collections.abc import Callable

import onnx

from quantlab.onnx_model import all_nodes

BATCH = "N"
_NUMBER = re.compile(r"(?<=__)\d+")


def settle_names(proto: onnx.ModelProto) -> None:
    """Number what tf2onnx made from 0 on, in the order of the network, and call the batch N; in this very model.

    Args:
        proto: As tf2onnx made it.
    """
    graph = proto.graph
    fixed = {value.name for value in (*graph.input, *graph.output)}
    numbers: dict[str, str] = {}

    def renamed(name: str) -> str:
        return name if name in fixed else _NUMBER.sub(lambda m: numbers.setdefault(m[0], str(len(numbers))), name)

    for node in all_nodes(graph):
        node.name = renamed(node.name)
    _rename(graph, renamed)
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_param = BATCH
    for value in graph.value_info:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = ""


def _rename(graph: onnx.GraphProto, renamed: Callable[[str], str]) -> None:
    """Every tensor of a graph and of those within it."""
    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
        for one in node.attribute:
            for inner in [one.g] if one.HasField("g") else list(one.graphs):
                _rename(inner, renamed)
    for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        named.name = renamed(named.name)
