"""Names that are the same in every conversion: tf2onnx numbers what it makes through the whole process, and a table or
a calibration cache of one conversion would not fit the next."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod

import onnx

from quantlab.onnx_model import all_nodes

BATCH = "N"
SMALL = 64
"""Values of a constant that is no weight."""
_NUMBER = re.compile(r"(?<=__)\d+")


def settle_names(proto: onnx.ModelProto) -> None:
    """Number what tf2onnx made from 0 on, in the order of the network, list no constant as an input, and call the batch
    N; in this very model.

    Args:
        proto: As tf2onnx made it.
    """
    graph = proto.graph
    constant = {tensor.name for tensor in graph.initializer}
    fed = [value for value in graph.input if value.name not in constant]
    del graph.input[:]
    graph.input.extend(fed)
    _name_small_constants(graph)
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


def _name_small_constants(graph: onnx.GraphProto) -> None:
    """Equal constants are merged under the name of any of them: they are called after the first that reads them."""
    small = {t.name for t in graph.initializer if prod(t.dims) <= SMALL}
    names: dict[str, str] = {}
    for node in all_nodes(graph):
        for place, read in enumerate(node.input):
            if read in small and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
                names.setdefault(read, f"{node.name or node.output[0]}/constant_{place}")
    outputs = {value.name for value in graph.output}
    _rename(graph, lambda name: name if name in outputs else names.get(name, name))


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
