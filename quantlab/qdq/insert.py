"""A placement and scales into the graph: Q/DQ pairs on activations, int8 + DequantizeLinear for weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from quantlab.errors import DataError, GraphError
from quantlab.numerics import PER_TENSOR, PerChannel, amax_of, quantize, scale_from_amax
from quantlab.qdq.names import Names
from quantlab.qdq.placement import Placement, WeightSite
from quantlab.qdq.prepare import export_graph


@dataclass(frozen=True, slots=True)
class Inserted:
    """The Q/DQ model, and facts about it that a reader must know (dead channels, zero scales)."""

    model: onnx.ModelProto
    warnings: tuple[str, ...]


def insert(prepared: onnx.ModelProto, placement: Placement, scale_of: Callable[[str], NDArray[np.float32]]) -> Inserted:
    """Put `placement` into a prepared model. scale_of: tensor name -> float32 > 0, shape ().

    The same inputs give the same bytes. GraphError if the result is not valid ONNX.
    """
    graph = gs.import_onnx(prepared)
    nodes = {node.name: node for node in graph.nodes}
    names = Names(graph)
    new: dict[str, list[gs.Node]] = {name: [] for name in nodes}  # what goes before each node, so that order stays
    pairs: dict[str, gs.Variable] = {}
    for node_name, index, tensor in placement.activations:
        if tensor not in pairs:
            new[node_name] += _activation_pair(names, nodes[node_name].inputs[index], scale_of(tensor))
            pairs[tensor] = new[node_name][-1].outputs[0]
        nodes[node_name].inputs[index] = pairs[tensor]
    warnings: list[str] = []
    weights: dict[tuple[str, int | None], gs.Variable] = {}
    for site in placement.weights:
        key = (site.tensor, site.axis)
        if key not in weights:
            new[site.node].append(_weight(names, nodes[site.node].inputs[site.input], site, warnings))
            weights[key] = new[site.node][-1].outputs[0]
        nodes[site.node].inputs[site.input] = weights[key]
    graph.nodes = [n for node in list(graph.nodes) for n in (*new[node.name], node)]
    graph.cleanup()
    model = export_graph(graph, prepared)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise GraphError(f"the Q/DQ model is not valid ONNX: {reason}", hint="please report this model") from error
    return Inserted(model, tuple(warnings))


def _activation_pair(names: Names, tensor: gs.Tensor, scale: NDArray[np.float32]) -> list[gs.Node]:
    base = tensor.name
    parameters = [
        gs.Constant(names.new(f"{base}_scale"), np.asarray(scale, np.float32)),
        gs.Constant(names.new(f"{base}_zero_point"), np.asarray(0, np.int8)),
    ]
    codes = gs.Variable(names.new(f"{base}_quantized"), np.int8, tensor.shape)
    result = gs.Variable(names.new(f"{base}_dequantized"), np.float32, tensor.shape)
    return [
        gs.Node("QuantizeLinear", names.new(f"{base}_QuantizeLinear"), None, [tensor, *parameters], [codes]),
        gs.Node("DequantizeLinear", names.new(f"{base}_DequantizeLinear"), None, [codes, *parameters], [result]),
    ]


def _weight(names: Names, constant: gs.Constant, site: WeightSite, warnings: list[str]) -> gs.Node:
    values = constant.values
    try:
        amax = amax_of(values, PER_TENSOR if site.axis is None else PerChannel(site.axis))
    except DataError as error:
        raise GraphError(f"weight '{site.tensor}' of node '{site.node}': {error.message}", hint=error.hint) from error
    if dead := int((amax == 0).sum()):
        warnings.append(f"weight '{site.tensor}' of node '{site.node}': {dead} of {amax.size} channels are all zero")
    scale = scale_from_amax(amax)
    base = site.tensor
    codes = gs.Constant(names.new(f"{base}_quantized"), quantize(values, scale, site.axis))
    parameters = [
        gs.Constant(names.new(f"{base}_scale"), scale),
        gs.Constant(names.new(f"{base}_zero_point"), np.zeros(scale.shape, np.int8)),
    ]
    result = gs.Variable(names.new(f"{base}_dequantized"), np.float32, values.shape)
    name = names.new(f"{base}_DequantizeLinear")
    attrs = {} if site.axis is None else {"axis": site.axis}
    return gs.Node("DequantizeLinear", name, attrs, [codes, *parameters], [result])
