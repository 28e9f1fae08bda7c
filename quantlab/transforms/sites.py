"""The places of a network where noise depends on the factors of its channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from quantlab.qdq.placement import Placement
from quantlab.qdq.rules import row_of
from quantlab.transforms.channels import Ids, axes_of
from quantlab.transforms.moments import Key, Moments
from quantlab.transforms.network import Network, Weighted
from quantlab.transforms.noise import LayerSite, Reach, Site, TensorSite

_NONE: Key = ("", ())
"""No tensor."""


def key_of(network: Network, tensor: str, axis: int | None = None) -> Key | None:
    """The axes along which a tensor is measured.

    Args:
        network: The channels.
        tensor: Its name.
        axis: Of the channels that a layer reads or makes; None for those of the layout.

    Returns:
        The tensor and its axes; None where they are not known.
    """
    rank = network.rank(tensor)
    if rank is None or rank < 2:
        return None
    if axis is not None:
        return tensor, (axis % rank,)
    return (tensor, axes_of(network.layouts[tensor])) if tensor in network.layouts else None


def wanted(network: Network, placement: Placement, roots: Ids) -> set[Key]:
    """What must be measured: everything quantized that depends on a factor, and what is computed from it.

    Args:
        network: The channels.
        placement: Where Q/DQ goes.
        roots: Variable -> the one that stands for it.

    Returns:
        Tensors with the axes of their channels.
    """
    free = {tensor for tensor in placement.tensors if _is_free(network, tensor, roots)}
    for group in placement.groups:
        free |= set(group) & set(placement.tensors) if free & set(group) else set()
    keys = {key_of(network, tensor) for tensor in free}
    per_tensor = _per_tensor(placement)
    for layer, source, result in _layers(network, placement):
        if source in free or (layer.node in per_tensor and roots[layer.outputs].any()):
            keys |= {key_of(network, source), *_ends(network, layer, source, result)}
    return {key for key in keys if key is not None and key != _NONE}


def reaches(network: Network, placement: Placement, roots: Ids, found: Mapping[Key, Moments]) -> dict[str, Reach]:
    """Quantized tensor -> what its scale follows from.

    Args:
        network: The channels.
        placement: Where Q/DQ goes.
        roots: Variable -> the one that stands for it.
        found: What was measured.

    Returns:
        The tensors that were measured.
    """
    alone = {}
    for tensor in placement.tensors:
        key = key_of(network, tensor)
        if key is not None and key in found:
            ids, moments = roots[network.layouts[tensor].reshape(-1)], found[key]
            alone[tensor] = Reach(ids, moments.reach.reshape(-1), moments.second.reshape(-1))
    result = dict(alone)
    for group in placement.groups:
        members = [alone[tensor] for tensor in group if tensor in alone]
        if members:
            shared = Reach(
                *(np.concatenate(parts) for parts in zip(*((m.ids, m.reach, m.second) for m in members), strict=True))
            )
            result |= {tensor: shared for tensor in group if tensor in alone}
    return result


def sites(
    network: Network, placement: Placement, roots: Ids, found: Mapping[Key, Moments], shared: Mapping[str, Reach]
) -> Iterator[Site]:
    """The places whose noise depends on the factors.

    Args:
        network: The channels.
        placement: Where Q/DQ goes.
        roots: Variable -> the one that stands for it.
        found: What was measured.
        shared: What the scales follow from.

    Yields:
        Layers with weights, then tensors that something else reads.
    """
    per_tensor, layers = _per_tensor(placement), set()
    for layer, source, result in _layers(network, placement):
        layers.add(layer.node)
        before, after = (found.get(key) for key in _ends(network, layer, source, result))
        power = 0.0 if after is None else float(after.variance.sum())
        if source in shared and before is not None and power > 0:
            yield _layer_site(network, layer, shared[source], before, roots, layer.node not in per_tensor, power)
    nodes = network.nodes
    plain = {
        tensor
        for node, _, tensor in placement.activations
        if node not in layers and not row_of(nodes[node].op_type, nodes[node].domain).share_scale
    }
    for tensor in placement.tensors:
        moments = found.get(key_of(network, tensor) or _NONE)
        power = 0.0 if moments is None else float(moments.variance.sum())
        if tensor in plain and tensor in shared and moments is not None and power > 0:
            yield TensorSite(shared[tensor], roots[network.layouts[tensor].reshape(-1)], moments, power)


def _ends(network: Network, layer: Weighted, source: str, result: str) -> tuple[Key, Key]:
    """What a layer reads and what it makes, channel by channel."""
    before, after = (key_of(network, tensor, layer.axis) or _NONE for tensor in (source, result))
    return before, after


def _layer_site(
    network: Network,
    layer: Weighted,
    shared: Reach,
    before: Moments,
    roots: Ids,
    is_per_channel: bool,
    power: float,
) -> LayerSite:
    node = network.nodes[layer.node]
    weight = network.constant(node, layer.weight)
    assert weight is not None, "a layer has constant weights"
    column, row = (np.broadcast_to(v, weight.shape) for v in (layer.column, layer.row))
    taps = tuple(a for a in range(weight.ndim) if not _varies(layer, a, weight.ndim))
    first = tuple(0 if a in taps else slice(None) for a in range(weight.ndim))
    values = np.abs(weight.astype(np.float64))
    return LayerSite(
        shared,
        roots[layer.inputs],
        roots[layer.outputs],
        before,
        values.max(taps, initial=0),
        np.square(values).sum(taps),
        int(np.prod([weight.shape[a] for a in taps])),
        column[first],
        row[first],
        is_per_channel,
        power,
    )


def _varies(layer: Weighted, axis: int, rank: int) -> bool:
    """Whether the channels of a weight change along an axis of it."""
    sizes = [(1,) * (rank - ids.ndim) + ids.shape for ids in (layer.column, layer.row)]
    return any(shape[axis] > 1 for shape in sizes)


def _is_free(network: Network, tensor: str, roots: Ids) -> bool:
    return tensor in network.layouts and bool(roots[network.layouts[tensor]].any())


def _per_tensor(placement: Placement) -> set[str]:
    return {site.node for site in placement.weights if site.axis is None}


def _layers(network: Network, placement: Placement) -> Iterator[tuple[Weighted, str, str]]:
    """The layers in INT8, with what they read and what they make."""
    quantized = {site.node for site in placement.weights} & {node for node, _, _ in placement.activations}
    for layer in network.layers:
        if layer.node in quantized:
            node = network.nodes[layer.node]
            yield layer, node.input[0], node.output[0]
