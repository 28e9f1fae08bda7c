"""Operators that move channels about, or let them pass: their layouts are moved alike.

Every function gives the layouts of the outputs, or None where the operator cannot be followed: then the caller freezes
the channels of all its inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from quantlab.onnx_model import attribute
from quantlab.transforms.channels import Ids, axes_of, compressed, frozen, reshaped, widened
from quantlab.transforms.network import Network


def passed(network: Network, node: onnx.NodeProto, everywhere: bool) -> Ids | None:
    """f(x / d) = f(x) / d, for d > 0.

    Args:
        network: What is known so far.
        node: The node; all inputs but the first must be constant.
        everywhere: Whether it computes element by element; else what it does along axes behind the second is its own.

    Returns:
        The layout of its output.
    """
    ids, rank = network.layouts.get(node.input[0]), network.rank(node.output[0])
    others = [name for name in node.input[1:] if name]
    if ids is None or rank is None or not all(network.view.is_constant(name) for name in others):
        return None
    if not everywhere and not set(axes_of(ids)) <= {1}:
        return None
    return widened(ids, rank)


def resized(network: Network, node: onnx.NodeProto) -> Ids | None:
    """Resize of the axes behind the channels; values from outside of the image must be zero times the channel's.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    if attribute(node, "coordinate_transformation_mode", b"half_pixel") == b"tf_crop_and_resize":
        return None
    ids = network.layouts.get(node.input[0])
    return ids if ids is not None and set(axes_of(ids)) <= {1} else None


def reduced(network: Network, node: onnx.NodeProto) -> Ids | None:
    """A homogeneous Reduce over axes without channels.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    ids = network.layouts.get(node.input[0])
    given = network.integers(node, 1) if network.has(node, 1) else attribute(node, "axes", None)
    if ids is None or (network.has(node, 1) and given is None):
        return None
    if not given and attribute(node, "noop_with_empty_axes", 0):
        return ids
    axes = {int(a) % ids.ndim for a in given} if given else set(range(ids.ndim))
    if axes & set(axes_of(ids)):
        return None
    return ids if attribute(node, "keepdims", 1) else np.squeeze(ids, tuple(axes))


def viewed(network: Network, node: onnx.NodeProto) -> Ids | None:
    """Reshape, and what it can do too.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    ids = network.layouts.get(node.input[0])
    before, after = network.shape(node.input[0]), network.shape(node.output[0])
    if ids is None or before is None or after is None:
        return None
    return reshaped(ids, before, after)


def transposed(network: Network, node: onnx.NodeProto) -> Ids | None:
    """Transpose.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    ids = network.layouts.get(node.input[0])
    return None if ids is None else np.transpose(ids, attribute(node, "perm", None))


def padded(network: Network, node: onnx.NodeProto) -> Ids | None:
    """Pad: with zeros, which any factor suits where they become channels, or with what is there.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    ids, pads = network.layouts.get(node.input[0]), network.integers(node, 1)
    axes = network.integers(node, 3) if network.has(node, 3) else None
    if ids is None or pads is None or (network.has(node, 3) and axes is None):
        return None
    mode = attribute(node, "mode", b"constant").decode()
    if mode == "constant" and network.has(node, 2):
        value = network.constant(node, 2)
        if value is None or np.any(value):
            return None
    half = len(pads) // 2
    widths = [(0, 0)] * ids.ndim
    for axis, low, high in zip(axes or range(half), pads[:half], pads[half:], strict=True):
        if ids.shape[axis] > 1:
            widths[axis] = (low, high)
    if any(width < 0 for pair in widths for width in pair):
        return None
    if mode != "constant":
        return np.asarray(np.pad(ids, widths, mode))  # type: ignore[call-overload, unused-ignore]
    wide = np.pad(ids, widths, constant_values=-1)
    wide[wide < 0] = network.channels.fresh(int((wide < 0).sum()))
    return wide


def sliced(network: Network, node: onnx.NodeProto) -> Ids | None:
    """Slice with constant limits.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    ids = network.layouts.get(node.input[0])
    limits = [network.integers(node, index) for index in range(1, len(node.input)) if network.has(node, index)]
    if ids is None or len(limits) != sum(bool(name) for name in node.input[1:]) or any(v is None for v in limits):
        return None
    starts, ends = network.integers(node, 1), network.integers(node, 2)
    if starts is None or ends is None:
        return None
    axes = network.integers(node, 3) or list(range(len(starts)))
    steps = network.integers(node, 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = ids.shape[axis]
        if size > 1:
            stop = None if step < 0 and end < -size else end
            ids = ids[(slice(None),) * (axis % ids.ndim) + (slice(start, stop, step),)]
    return ids


def gathered(network: Network, node: onnx.NodeProto) -> Ids | None:
    """Gather with constant indices.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    ids, axis = network.layouts.get(node.input[0]), int(attribute(node, "axis", 0))
    indices = network.view.constant(node.input[1])
    if ids is None or indices is None:
        return None
    return compressed(np.take(ids, indices if ids.shape[axis] > 1 else np.zeros_like(indices), axis))


def split(network: Network, node: onnx.NodeProto) -> list[Ids] | None:
    """Split in known sizes.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layouts of its outputs.
    """
    ids, axis = network.layouts.get(node.input[0]), int(attribute(node, "axis", 0))
    if ids is None:
        return None
    if ids.shape[axis] == 1:
        return [ids] * len(node.output)
    sizes = network.integers(node, 1) if network.has(node, 1) else attribute(node, "split", None)
    if network.has(node, 1) and sizes is None:
        return None
    if sizes is None:
        sizes = [-(-ids.shape[axis] // len(node.output))] * len(node.output)
    return list(np.split(ids, np.cumsum(sizes)[:-1], axis))


def joined(network: Network, node: onnx.NodeProto) -> Ids | None:
    """Concat: of channels, which lie side by side, or of parts that have the same channels, which are tied.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    shapes = [network.shape(name) for name in node.input]
    if any(shape is None for shape in shapes):
        return None
    parts = [network.layouts.get(name, frozen(len(s or ()))) for name, s in zip(node.input, shapes, strict=True)]
    axis = int(attribute(node, "axis", 0)) % parts[0].ndim
    others = [tuple(a for a in axes_of(ids) if a != axis) for ids in parts]
    if not any(others):
        return _side_by_side(parts, axis, [(s or [])[axis] for s in shapes])
    if any(ids.shape[axis] > 1 for ids in parts):
        return None
    for ids in parts[1:]:
        network.channels.tie(parts[0], ids)
    return np.array(np.broadcast_arrays(*parts)[0])


def _side_by_side(parts: Sequence[Ids], axis: int, sizes: Sequence[int | str | None]) -> Ids | None:
    wide = []
    for ids, size in zip(parts, sizes, strict=True):
        if not isinstance(size, int):
            return None
        shape = [size if a == axis else 1 for a in range(ids.ndim)]
        wide.append(np.broadcast_to(ids, shape))
    return compressed(np.concatenate(wide, axis))


def depth_to_space(network: Network, node: onnx.NodeProto) -> Ids | None:
    """DepthToSpace: the channels that become neighbours in space are tied.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    ids, area = network.layouts.get(node.input[0]), int(attribute(node, "blocksize", 1)) ** 2
    if ids is None or axes_of(ids) != (1,):
        return None
    is_depth_first = attribute(node, "mode", b"DCR") == b"DCR"
    blocks = ids.reshape(area, -1) if is_depth_first else ids.reshape(-1, area).T
    network.channels.tie(blocks, blocks[:1])
    first: Ids = blocks[0]
    return first.reshape(1, -1, 1, 1)


def space_to_depth(network: Network, node: onnx.NodeProto) -> Ids | None:
    """SpaceToDepth: every channel becomes several.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    ids, area = network.layouts.get(node.input[0]), int(attribute(node, "blocksize", 1)) ** 2
    if ids is None or not set(axes_of(ids)) <= {1}:
        return None
    wide: Ids = np.concatenate([ids] * area, 1)
    return wide
