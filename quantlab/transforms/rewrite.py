"""Factors into a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantlab.onnx_model import FreshNames, copy_model, drop_unread, require_finite, tensor_names
from quantlab.transforms.channels import Ids
from quantlab.transforms.network import Network
from quantlab.transforms.noise import Floats


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A network with factors, twice.

    Attributes:
        fp32: The same function as before.
        network: The same without the bounds of its Clips, which are left to the saturation of INT8.
        caps: Tensor -> the lowest bound among its channels.
        tensors: Whose channels are scaled.
        nodes: Whose constants are.
    """

    fp32: onnx.ModelProto
    network: onnx.ModelProto
    caps: dict[str, np.float32]
    tensors: frozenset[str]
    nodes: frozenset[str]


def rewrite(prepared: onnx.ModelProto, found: Network, d: Floats) -> Rewritten:
    """Divide the channels of a network by factors, and multiply what reads them.

    Args:
        prepared: The network.
        found: Its channels.
        d: Variable -> its factor.

    Returns:
        The networks; what no factor touches is as it was.

    Raises:
        GraphError: A constant is beyond float32 with its factor.
    """
    fp32 = copy_model(prepared)
    nodes = {node.name: node for node in fp32.graph.node}
    places = {tensor.name: tensor for tensor in fp32.graph.initializer}
    names = FreshNames(tensor_names(prepared) | {node.name for node in prepared.graph.node})
    values = {(f.node, f.input): _scaled(found, d, nodes[f.node], f.input, f.times, f.over) for f in found.factors}
    for (name, index), value in values.items():
        if value is None:
            continue
        node, tensor = nodes[name], nodes[name].input[index]
        if found.is_alone(tensor):
            places[tensor].CopyFrom(numpy_helper.from_array(value, tensor))
        else:  # others read the constant as it is
            node.input[index] = names.new(f"{tensor}_equalized")
            fp32.graph.initializer.append(numpy_helper.from_array(value, node.input[index]))
    network = copy_model(fp32)
    caps = _split_clips(fp32, network, found, d, names)
    for proto in (fp32, network):
        drop_unread(proto)
        require_finite(proto, "the equalized network")
    tensors = frozenset(name for name, ids in found.layouts.items() if np.any(d[ids] != 1))
    changed = frozenset(node for (node, _), value in values.items() if value is not None)
    return Rewritten(fp32, network, caps, tensors, changed)


def _scaled(
    found: Network, d: Floats, node: onnx.NodeProto, index: int, times: Ids | None, over: Ids | None
) -> NDArray[np.float32] | None:
    """The new value of a constant; None where it stays."""
    one = np.ones(1)
    factor = (one if times is None else d[times]) / (one if over is None else d[over])
    old = found.constant(node, index)
    if old is None or np.all(factor == 1):
        return None
    with np.errstate(over="ignore"):
        return np.ascontiguousarray((old * factor).astype(np.float32))


def _split_clips(
    fp32: onnx.ModelProto, network: onnx.ModelProto, found: Network, d: Floats, names: FreshNames
) -> dict[str, np.float32]:
    """Clip(0, a) with factors: Relu and Min(a / d), and Relu alone."""
    caps = {}
    for name in found.clips:
        clip = found.nodes[name]
        result, high = clip.output[0], found.constant(clip, 2)
        factors = d[found.layouts[result]]
        if high is None or np.all(factors == 1):
            continue
        bounds = np.minimum(high.item() / factors, np.finfo(np.float32).max).astype(np.float32)
        caps[result] = bounds.min()
        low, bound = names.new(f"{result}_relu"), names.new(f"{result}_bounds")
        relu = helper.make_node("Relu", [clip.input[0]], [low], name=names.new(f"{name}_relu"))
        fp32.graph.initializer.append(numpy_helper.from_array(bounds, bound))
        at = next(k for k, node in enumerate(fp32.graph.node) if node.name == name)
        fp32.graph.node[at].CopyFrom(helper.make_node("Min", [low, bound], [result], name=name))
        fp32.graph.node.insert(at, relu)
        alone = next(node for node in network.graph.node if node.name == name)
        alone.CopyFrom(helper.make_node("Relu", [clip.input[0]], [result], name=name))
    return caps
