"""onnx-graphsurgeon graphs: the names in them, and the way back to a ModelProto."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.logger.logger import G_LOGGER

from quantlab.errors import GraphError, first_line
from quantlab.onnx_model import QDQ_OPS, FreshNames, copy_model, infer_shapes, label_of, set_shapes, unique_names
from quantlab.ort import is_known

G_LOGGER.severity = G_LOGGER.ERROR  # it prints to stdout below that
DEQUANTIZED = "_dequantized"
"""What is appended to the name of a tensor for what its Q/DQ make of it."""


def import_graph(proto: onnx.ModelProto) -> gs.Graph:
    """The graph of a model. What is an optional, sequence or map goes as a tensor of unknown shape, as which
    onnx-graphsurgeon passes it on; `export_graph` gives outputs their type back.

    Args:
        proto: The model.

    Returns:
        Its graph.

    Raises:
        GraphError: onnx-graphsurgeon cannot read it.
    """
    values = (*proto.graph.input, *proto.graph.output, *proto.graph.value_info)
    if any(value.type.WhichOneof("value") not in (None, "tensor_type") for value in values):
        proto = copy_model(proto)
        for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
            if value.type.WhichOneof("value") not in (None, "tensor_type"):
                value.type.CopyFrom(onnx.TypeProto(tensor_type=onnx.TypeProto.Tensor(elem_type=1)))
    try:
        return gs.import_onnx(proto)
    except Exception as error:  # it raises what Python raises
        raise GraphError(
            f"onnx-graphsurgeon cannot read the model: {first_line(error)}", hint="export it again"
        ) from error


def fresh_names(graph: gs.Graph) -> FreshNames:
    """Names for new tensors and nodes that collide with none in the graph."""
    return FreshNames(_names(graph))


def _names(graph: gs.Graph) -> set[str]:
    """Tensors and nodes, those of subgraphs too: ONNX wants all of them to be different."""
    inside = [v for node in graph.nodes for v in node.attrs.values() if isinstance(v, gs.Graph)]
    here = set(graph.tensors()) | {node.name for node in graph.nodes}
    return here.union(*(_names(subgraph) for subgraph in inside))


def node_label(node: gs.Node) -> str:
    """What a node is called in messages."""
    return label_of(node.name, [tensor.name for tensor in node.outputs], node.op)


def name_nodes(graph: gs.Graph) -> None:
    """Give every node a name that no other has."""
    names = unique_names((node.name, node.op) for node in graph.nodes)
    for node, name in zip(graph.nodes, names, strict=True):
        node.name = name


def fold_around_qdq(proto: onnx.ModelProto) -> gs.Graph:
    """The graph with constant subgraphs computed, but for Q/DQ nodes; nothing else is removed."""
    graph = import_graph(infer_shapes(proto))
    graph.fold_constants(fold_shapes=False, recurse_subgraphs=False, should_exclude_node=_not_folded)
    graph.nodes = [node for node in graph.nodes if node.outputs]  # what was computed has lost its outputs
    return graph


def _not_folded(node: gs.Node) -> bool:
    return node.op in QDQ_OPS or not is_known(node.op, node.domain)


def other_type(tensor: gs.Tensor) -> str | None:
    """The name of a known type other than float32; None for float32 and unknown ones."""
    if tensor.dtype is None:
        return None
    if isinstance(tensor.dtype, int):  # a type that numpy does not have
        return str(onnx.TensorProto.DataType.Name(tensor.dtype)).lower()
    name: str = np.dtype(tensor.dtype).name
    return None if name == "float32" else name


def constants(node: gs.Node) -> list[gs.Constant]:
    """The inputs of a node that are constants."""
    return [tensor for tensor in node.inputs if isinstance(tensor, gs.Constant)]


def is_output(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    """Find whether a tensor leaves a graph, as an output or into the branches of an If.

    Args:
        graph: The graph.
        tensor: A tensor in it.

    Returns:
        Whether it does.
    """
    inner = _inner_nodes(graph)
    return any(tensor is output for output in graph.outputs) or any(id(reader) in inner for reader in tensor.outputs)


def _inner_nodes(graph: gs.Graph) -> set[int]:
    """The nodes inside the If, Loop and Scan of a graph: what they read leaves the graph. Looked for once a graph."""
    known = graph.__dict__  # its getattr reports what it does not have
    if "inner_nodes" not in known:
        known["inner_nodes"] = {id(node) for outer in graph.nodes for node in _nodes_within(outer)}
    found: set[int] = known["inner_nodes"]
    return found


def _nodes_within(outer: gs.Node) -> Iterator[gs.Node]:
    for value in outer.attrs.values():
        if isinstance(value, gs.Graph):
            for node in value.nodes:
                yield node
                yield from _nodes_within(node)


def feeds_one_reader(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    """Whether nothing but one node reads a tensor, so that its maker and that node may become one.

    Args:
        graph: The graph.
        tensor: A tensor in it.

    Returns:
        False for an output of the graph too.
    """
    return len(tensor.outputs) == 1 and not is_output(graph, tensor)


def walk(
    start: gs.Tensor, nodes_of: Callable[[gs.Tensor], Sequence[gs.Node]], on: Callable[[gs.Node], Sequence[gs.Tensor]]
) -> Iterator[gs.Node]:
    """Every node that is met on the ways from a tensor, once, however many ways there are.

    Args:
        start: The tensor.
        nodes_of: The makers, or the readers, of a tensor.
        on: Where to go on from a node; constants are left out.

    Yields:
        The nodes, in no promised order.
    """
    waiting, seen = [start], set[int]()
    while waiting:
        for node in nodes_of(waiting.pop()):
            if id(node) not in seen:
                seen.add(id(node))
                yield node
                waiting += [tensor for tensor in on(node) if not isinstance(tensor, gs.Constant)]


def makers(tensor: gs.Tensor) -> Sequence[gs.Node]:
    """For `walk`, back."""
    return list(tensor.inputs)


def readers(tensor: gs.Tensor) -> Sequence[gs.Node]:
    """For `walk`, forth."""
    return list(tensor.outputs)


def export_graph(graph: gs.Graph, original: onnx.ModelProto) -> onnx.ModelProto:
    """Turn a graph into a ModelProto.

    Args:
        graph: The graph.
        original: The model it came from, for the IR version and the metadata.

    Returns:
        The model, with shapes.
    """
    proto: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    types = {o.name: o.type for o in original.graph.output if o.type.WhichOneof("value") not in (None, "tensor_type")}
    for output in proto.graph.output:
        if output.name in types:
            output.type.CopyFrom(types[output.name])
    proto.ir_version = max(original.ir_version, 7)  # 7 is the IR of opset 12 and 13
    proto.producer_name, proto.producer_version = original.producer_name, original.producer_version
    del proto.metadata_props[:]
    proto.metadata_props.extend(original.metadata_props)
    set_shapes(proto)
    return proto
