"""A Q/DQ network in which every place where INT8 is read has a switch: a graph input of type bool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from quantlab.calibration import CalibrationTable
from quantlab.onnx_model import (
    QDQ_OPS,
    FreshNames,
    GraphView,
    all_nodes,
    copy_model,
    inner_nodes,
    load_model,
    tensor_names,
)
from quantlab.qdq import EVERYTHING, Placement, Quantized, WeightStyle, nothing_in_int8, prepare, quantize_model


@dataclass(frozen=True, slots=True)
class Site:
    """A place where INT8 is read.

    Attributes:
        node: Who reads.
        input: The index of the input.
        tensor: What is read, an activation or a constant.
        is_weight: Whether it is a constant.
    """

    node: str
    input: int
    tensor: str
    is_weight: bool


@dataclass(frozen=True)
class SwitchedGraph:
    """A network with switches.

    Attributes:
        prepared: The FP32 network that Q/DQ nodes go into.
        quantized: The same with all of them.
        placement: Where they are.
        model: `prepared` with an If per site: a Q/DQ pair where its switch is on, else the tensor as it is.
        switches: Site -> the bool input that is its switch, in network order.
    """

    prepared: onnx.ModelProto
    quantized: onnx.ModelProto
    placement: Placement
    model: onnx.ModelProto
    switches: Mapping[Site, str]

    @property
    def sites(self) -> tuple[Site, ...]:
        """All sites, in network order."""
        return tuple(self.switches)


def switched_graph(proto: onnx.ModelProto, table: CalibrationTable) -> SwitchedGraph:
    """Give every place that can be in INT8 a switch, also where INT8 does not pay.

    Args:
        proto: The FP32 model.
        table: Made for this model.

    Returns:
        The network, with the scales and codes that `quantize_model` gives it.

    Raises:
        DataError: The table is of another model, or lacks a tensor.
        GraphError: Nothing in the model can be INT8, or it has Q/DQ already.
    """
    proto = load_model(proto)
    return switched_graph_of(proto, quantize_model(proto, table, EVERYTHING, WeightStyle(stored="int8")))


def switched_graph_of(proto: onnx.ModelProto, made: Quantized) -> SwitchedGraph:
    """Give every place that a Q/DQ model has in INT8 a switch.

    Args:
        proto: The FP32 model.
        made: What `quantize_model` made of it.

    Returns:
        The network, with the scales and codes of `made`.

    Raises:
        GraphError: Nothing in it is INT8.
    """
    prepared = prepare(proto)
    placement = made.placement
    if not placement.activations:
        raise nothing_in_int8(prepared, placement.skipped)
    names = FreshNames(tensor_names(prepared) | tensor_names(made.model) | {n.name for n in all_nodes(prepared.graph)})
    switches = {site: names.new(f"int8_{k}") for k, site in enumerate(_sites(made.model, placement))}
    model = _with_switches(prepared, made.model, switches, names)
    return SwitchedGraph(prepared, made.model, placement, model, switches)


def _sites(model: onnx.ModelProto, placement: Placement) -> list[Site]:
    """In network order, those of a node by input."""
    order = {node.name: k for k, node in enumerate(model.graph.node)}
    found = [Site(node, index, tensor, False) for node, index, tensor in placement.activations]
    found += [Site(w.node, w.input, w.tensor, True) for w in placement.weights]
    return sorted(found, key=lambda site: (order[site.node], site.input))


def _with_switches(
    prepared: onnx.ModelProto, quantized: onnx.ModelProto, switches: Mapping[Site, str], names: FreshNames
) -> onnx.ModelProto:
    """The Q/DQ model, each pair moved into the branch of an If beside its reader."""
    view, model = GraphView(quantized), copy_model(quantized)
    by_place = {(site.node, site.input): site for site in switches}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type in QDQ_OPS:
            continue
        for index, name in enumerate(node.input):
            site = by_place.get((node.name, index))
            if site is not None:
                result = names.new(f"{site.tensor}/switched")
                branch = _pair(view, name, names)
                nodes.append(if_node(switches[site], branch, site.tensor, result, names))
                node.input[index] = result
        nodes.append(node)
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    stored = {t.name for t in model.graph.initializer}
    wanted = {site.tensor for site in switches if site.is_weight} - stored
    model.graph.initializer.extend(t for t in prepared.graph.initializer if t.name in wanted)
    model.graph.input.extend(bool_input(name) for name in switches.values())
    return model


def _pair(view: GraphView, dequantized: str, names: FreshNames) -> list[onnx.NodeProto]:
    """Copies of what makes a dequantized tensor: (Q, DQ), or DQ of stored codes; the last output is the result."""
    dq = _copied(view.producer[dequantized], names)
    q = view.maker(dq.input[0], "QuantizeLinear")
    if q is None:
        return [dq]
    first = _copied(q, names)
    dq.input[0] = first.output[0]
    return [first, dq]


def _copied(node: onnx.NodeProto, names: FreshNames) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    copied.name, copied.output[0] = names.new(node.name), names.new(node.output[0])
    return copied


def if_node(
    switch: str, branch: Sequence[onnx.NodeProto], tensor: str, result: str, names: FreshNames
) -> onnx.NodeProto:
    """An If that replaces a tensor where a switch is on.

    Args:
        switch: A bool scalar.
        branch: What is computed then; its last output is the result.
        tensor: The result otherwise.
        result: The name of the result.
        names: Gives new ones.

    Returns:
        The node. Only the branch that is taken costs time.
    """
    same = helper.make_node("Identity", [tensor], [names.new(f"{tensor}/same")], names.new(f"{result}/Identity"))
    branches = {"then_branch": list(branch), "else_branch": [same]}
    graphs = {
        key: helper.make_graph(
            nodes, names.new(key), [], [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
        )
        for key, nodes in branches.items()
    }
    return helper.make_node("If", [switch], [result], names.new(f"{result}/If"), **graphs)


def bool_input(name: str) -> onnx.ValueInfoProto:
    """A graph input that is one bool."""
    return helper.make_tensor_value_info(name, TensorProto.BOOL, [])


def cut_tensors(prepared: onnx.ModelProto) -> dict[str, int]:
    """The float tensors through which every way to the outputs goes, in network order.

    Args:
        prepared: The network.

    Returns:
        Tensor -> how many nodes run before it is complete. All nodes after those need nothing else of them.
    """
    graph = prepared.graph
    constant = {t.name for t in graph.initializer}
    shapes = {v.name: v.type.tensor_type for v in graph.value_info}
    last = {name: k for k, node in enumerate(graph.node) for name in reads_of(node)}
    last |= {o.name: len(graph.node) for o in graph.output}
    alive = {i.name for i in graph.input if i.name in last} - constant
    found: dict[str, int] = {}
    for k, node in enumerate(graph.node):
        alive |= {name for name in node.output if name in last}
        alive -= {name for name in alive if last[name] <= k}
        if len(alive) == 1:
            (tensor,) = alive
            kind = shapes.get(tensor)
            if kind is not None and kind.elem_type == TensorProto.FLOAT and kind.HasField("shape"):
                found.setdefault(tensor, k + 1)
    return found


def reads_of(node: onnx.NodeProto) -> Iterator[str]:
    """Every tensor that a node reads, its subgraphs included."""
    yield from (name for name in node.input if name)
    for inner in inner_nodes(node):
        yield from (name for name in inner.input if name)


def part_from(model: onnx.ModelProto, start: onnx.ValueInfoProto, kept_inputs: Sequence[str]) -> onnx.ModelProto:
    """The part of a network behind a tensor through which every way goes.

    Args:
        model: The network.
        start: The tensor, with its type.
        kept_inputs: Inputs of the network that stay inputs where the part reads them.

    Returns:
        The part, with the tensor as an input.
    """
    makers = {name: k for k, node in enumerate(model.graph.node) for name in node.output}
    needed: set[int] = set()
    waiting = [o.name for o in model.graph.output]
    read: set[str] = set(waiting)
    while waiting:
        name = waiting.pop()
        if name == start.name or name not in makers or makers[name] in needed:
            continue
        needed.add(makers[name])
        more = list(reads_of(model.graph.node[makers[name]]))
        read |= set(more)
        waiting += more
    part = onnx.ModelProto()
    part.CopyFrom(copy_model(model, with_weights=False))
    del part.graph.node[:], part.graph.input[:], part.graph.initializer[:]
    part.graph.node.extend(node for k, node in enumerate(model.graph.node) if k in needed)
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in read)
    part.graph.input.append(start)
    part.graph.input.extend(i for i in model.graph.input if i.name in kept_inputs and i.name in read)
    return part
