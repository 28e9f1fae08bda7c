"""Two networks for the estimate: one gives the local errors of all layers and tensors, one takes noise anywhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from quantlab.onnx_model import QDQ_OPS, FreshNames, GraphView, copy_model, tensor_names
from quantlab.tune.switched_graph import SwitchedGraph, bool_input, if_node

Place = tuple[str, int]
"""(node, input index) of a read, or (node, OUTPUT) of a layer's output: where noise can be put."""
OUTPUT = -1


@dataclass(frozen=True)
class ErrorProbe:
    """FP32, and beside it each layer and tensor in INT8 on FP32's values.

    Attributes:
        model: Its outputs are the differences.
        layers: Layer -> its difference.
        tensors: Tensor -> its difference.
    """

    model: onnx.ModelProto
    layers: Mapping[str, str]
    tensors: Mapping[str, str]


@dataclass(frozen=True)
class NoiseProbe:
    """FP32 with an entrance for noise at every place.

    Attributes:
        model: It has the inputs of the network, `noise` and the switches.
        noise: The input that takes the values of a tensor in one dimension.
        switches: Place -> the bool input that lets the noise in there.
    """

    model: onnx.ModelProto
    noise: str
    switches: Mapping[Place, str]


def error_probe(graph: SwitchedGraph, layers: Collection[str]) -> ErrorProbe:
    """Build the network of local errors.

    Args:
        graph: The network.
        layers: The nodes with weights that read INT8.

    Returns:
        The probe.
    """
    model, view = copy_model(graph.prepared), GraphView(graph.quantized)
    names = FreshNames(tensor_names(graph.prepared) | tensor_names(graph.quantized))
    known = {t.name for t in model.graph.initializer}
    model.graph.initializer.extend(t for t in graph.quantized.graph.initializer if t.name not in known)
    model.graph.node.extend(n for n in graph.quantized.graph.node if n.op_type in QDQ_OPS)
    errors: dict[str, dict[str, str]] = {"layers": {}, "tensors": {}}

    def difference(of: str, wanted: str, got: str, kind: str) -> None:
        errors[kind][of] = names.new(f"{wanted}/error")
        model.graph.node.append(helper.make_node("Sub", [got, wanted], [errors[kind][of]]))

    for node in graph.quantized.graph.node:
        if node.name in layers:
            twin = onnx.NodeProto()
            twin.CopyFrom(node)
            twin.name, twin.output[0] = f"{node.name}/twin", names.new(f"{node.output[0]}/twin")
            model.graph.node.append(twin)
            difference(node.name, node.output[0], twin.output[0], "layers")
    for tensor in graph.placement.tensors:
        pair = view.pair_after(tensor)
        assert pair is not None
        difference(tensor, tensor, pair[1].output[0], "tensors")
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for kind in errors.values() for name in kind.values())
    return ErrorProbe(model, errors["layers"], errors["tensors"])


def noise_probe(graph: SwitchedGraph, layers: Collection[str]) -> NoiseProbe:
    """Build the network that takes noise at the outputs of layers and where activations are read.

    Args:
        graph: The network.
        layers: The nodes with weights that read INT8.

    Returns:
        The probe.
    """
    model = copy_model(graph.prepared)
    names = FreshNames(tensor_names(graph.prepared) | {n.name for n in model.graph.node})
    noise = names.new("noise")
    reads = {(node, index) for node, index, _ in graph.placement.activations}
    switches: dict[Place, str] = {}
    nodes: list[onnx.NodeProto] = []

    def entrance(place: Place, tensor: str, result: str) -> None:
        switches[place] = names.new(f"noise_{len(switches)}")
        shape, shaped = names.new(f"{tensor}/shape"), names.new(f"{tensor}/shaped")
        branch = [
            helper.make_node("Shape", [tensor], [shape]),
            helper.make_node("Reshape", [noise, shape], [shaped]),
            helper.make_node("Add", [tensor, shaped], [names.new(f"{tensor}/noisy")]),
        ]
        nodes.append(if_node(switches[place], branch, tensor, result, names))

    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if (node.name, index) in reads:
                node.input[index] = names.new(f"{name}/entered")
                entrance((node.name, index), name, node.input[index])
        nodes.append(node)
        if node.name in layers:
            result = node.output[0]
            node.output[0] = names.new(f"{result}/clean")
            entrance((node.name, OUTPUT), node.output[0], result)
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.input.append(helper.make_tensor_value_info(noise, TensorProto.FLOAT, ["values"]))
    model.graph.input.extend(bool_input(name) for name in switches.values())
    return NoiseProbe(model, noise, switches)
