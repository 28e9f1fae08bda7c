"""The channels of a network followed from operator to operator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from quantlab.onnx_model import STANDARD_DOMAINS, attribute, subgraphs_of
from quantlab.qdq.placement import Placement
from quantlab.qdq.rules import row_of
from quantlab.transforms.channels import Ids, frozen
from quantlab.transforms.moved import (
    depth_to_space,
    gathered,
    joined,
    padded,
    passed,
    reduced,
    resized,
    sliced,
    space_to_depth,
    split,
    transposed,
    viewed,
)
from quantlab.transforms.network import Network
from quantlab.transforms.scaled import (
    batch_normalization,
    convolution,
    gemm,
    matmul,
    normalization,
    product_of,
    sum_of,
    transposed_convolution,
)


def follow(prepared: onnx.ModelProto, placement: Placement) -> Network:
    """Find which channels of a network can be scaled, and which together.

    Args:
        prepared: The network, see `quantlab.qdq.prepare`.
        placement: Where Q/DQ goes: a Clip whose result only QuantizeLinear reads is one of its channels each.

    Returns:
        The channels.
    """
    network = Network.of(prepared, _read_by_pairs_alone(prepared, placement))
    for value in prepared.graph.input:
        rank = network.rank(value.name)
        if rank is not None:
            network.layouts[value.name] = frozen(rank)
    for node in network.proto.graph.node:
        found = None if any(True for _ in subgraphs_of(node)) else _layouts(network, node)
        if found is None:
            network.freeze(*node.input)
            ranks = {name: network.rank(name) for name in node.output if name}
            network.layouts.update({name: frozen(rank) for name, rank in ranks.items() if rank is not None})
            continue
        for name, ids in zip(node.output, found, strict=False):
            if name:
                network.set_layout(name, ids)
    return network


def _read_by_pairs_alone(prepared: onnx.ModelProto, placement: Placement) -> frozenset[str]:
    pairs = {(node, index) for node, index, _ in placement.activations}
    network = Network.of(prepared, frozenset())
    readers = network.view.readers
    return frozenset(
        tensor
        for tensor in placement.tensors
        if tensor not in network.outside and all((node.name, index) in pairs for node, index in readers[tensor])
    )


def _layouts(network: Network, node: onnx.NodeProto) -> Sequence[Ids] | None:
    """The layouts of its outputs; None for an operator that lets no factors through."""
    if node.domain not in STANDARD_DOMAINS:
        return None
    if node.op_type == "Split":
        return split(network, node)
    ids = _layout(network, node)
    return None if ids is None else [ids]


def _layout(network: Network, node: onnx.NodeProto) -> Ids | None:
    row = row_of(node.op_type, node.domain)
    match node.op_type:
        case "Conv":
            return convolution(network, node)
        case "ConvTranspose":
            return transposed_convolution(network, node)
        case "Gemm":
            return gemm(network, node)
        case "MatMul":
            return matmul(network, node)
        case "BatchNormalization":
            return batch_normalization(network, node)
        case "LayerNormalization":
            rank = network.rank(node.input[0])
            is_last = attribute(node, "axis", -1) in (-1, None if rank is None else rank - 1)
            return normalization(network, node, -1) if is_last else None
        case "InstanceNormalization":
            return normalization(network, node, 1)
        case "Add":
            return sum_of(network, node)
        case "Sub":
            return sum_of(network, node)
        case "Mul":
            return product_of(network, node)
        case "Div":
            return product_of(network, node)
        case "Clip":
            return _clip(network, node)
        case "Transpose":
            return transposed(network, node)
        case "Pad":
            return padded(network, node)
        case "Slice":
            return sliced(network, node)
        case "Gather":
            return gathered(network, node)
        case "Concat":
            return joined(network, node)
        case "DepthToSpace":
            return depth_to_space(network, node)
        case "SpaceToDepth":
            return space_to_depth(network, node)
        case "Resize":
            return resized(network, node)
    if row.view:
        return viewed(network, node)
    if row.homogeneous and node.op_type.startswith("Reduce"):
        return reduced(network, node)
    return passed(network, node, row.pointwise) if row.homogeneous else None


def _clip(network: Network, node: onnx.NodeProto) -> Ids | None:
    """Clip(0, a): a bound per channel, in INT8 the saturation of its scale; Clip(0, infinity) is homogeneous."""
    low, high = (network.constant(node, index) for index in (1, 2))
    ids = network.layouts.get(node.input[0])
    if ids is None or low is None or np.any(low):
        return None
    if not network.has(node, 2):
        return ids
    if high is None or high.size != 1 or not high.item() > 0 or node.output[0] not in network.droppable:
        return None
    network.clips.append(node.name)
    return ids
