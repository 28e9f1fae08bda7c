"""Channel shuffles absorbed into the convolutions around them.

TensorRT runs a shuffle (Reshape, Transpose, Reshape) and the Split behind it as copies, which take longer than the
convolutions between two of them. But a permutation of channels is only another order of the columns of the next
convolution's weight: `W x[p] = W' x` with `W'[:, p] = W`, and what is passed on unchanged is a 1x1 convolution whose
weight is 0 or 1. Both are exact for finite values. The parts of a Concat then begin at multiples of 32 channels, so
that each can be written in its place: missing channels are zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from quantlab.onnx_model import FreshNames
from quantlab.qdq.activations import Activation, activation_of, kind_of
from quantlab.qdq.graph import constants, feeds_one_reader, fresh_names, is_output, other_type
from quantlab.qdq.measured import DEPTHWISE, VECTOR
from quantlab.qdq.names import ALIGNED, calibrated_name
from quantlab.qdq.rules import row_of
from quantlab.qdq.stages import ends_of_shuffle

Channels = NDArray[np.int64]


def is_selection(node: gs.Node) -> bool:
    """Whether a convolution only picks channels: what it makes has the range of what it reads."""
    if not _takes_columns(node) or len(node.inputs) > 2:
        return False
    weight = node.inputs[1].values
    if not weight.size:
        return False
    picks = ((weight == 0) | (weight == 1)).all() and (weight.reshape(len(weight), -1).sum(axis=1) <= 1).all()
    return bool(picks and np.prod(weight.shape[2:]) == 1 and not any(node.attrs.get("pads", ())))


def absorb_shuffles(graph: gs.Graph) -> None:
    """Rewrite every shuffle of a Concat that is read by convolutions; the others stay as they are.

    Args:
        graph: Every node named, BatchNorm folded.
    """
    names = fresh_names(graph)
    for node in list(graph.nodes):
        shuffle = _shuffle(graph, node)
        if shuffle is not None and all(_can_read(graph, use) for use in shuffle.uses):
            _rewrite(graph, shuffle, names)


@dataclass(frozen=True, slots=True)
class _Use:
    """A tensor that holds channels of a Concat: its channel k is the Concat's channel `channels[k]`."""

    tensor: gs.Tensor
    channels: Channels


@dataclass(frozen=True, slots=True)
class _Shuffle:
    """A shuffle with the Concat before it and what comes out of it."""

    concat: gs.Node
    uses: tuple[_Use, ...]


def _shuffle(graph: gs.Graph, node: gs.Node) -> _Shuffle | None:
    ends = ends_of_shuffle(node)
    if ends is None or not all(feeds_one_reader(graph, tensor) for tensor in (node.inputs[0], node.outputs[0])):
        return None
    (source, result), inner = ends, node.inputs[0].shape
    concat = source.inputs[0] if source.inputs else None
    if concat is None or concat.op != "Concat" or concat.attrs.get("axis") != 1:
        return None
    if not feeds_one_reader(graph, source) or is_output(graph, result) or other_type(source) is not None:
        return None
    if not all(map(_channels, concat.inputs)) or sum(map(_channels, concat.inputs)) != inner[1] * inner[2]:
        return None
    order = np.arange(inner[1] * inner[2]).reshape(inner[1], inner[2]).T.reshape(-1)
    uses = tuple(_uses(result, order))
    if any(is_output(graph, use.tensor) for use in uses):
        return None
    meets_layer = any(row_of(r.op, r.domain).epilogue for use in uses for r in use.tensor.outputs)
    return _Shuffle(concat, uses) if meets_layer else None


def _channels(tensor: gs.Tensor) -> int:
    """How many channels a tensor has, 0 if that is not known."""
    size = tensor.shape[1] if tensor.shape is not None and len(tensor.shape) > 1 else 0
    return size if isinstance(size, int) else 0


def _uses(result: gs.Tensor, order: Channels) -> Iterator[_Use]:
    """The parts that Split and Slice take of a shuffled tensor, and the tensor itself if others read it."""
    rest = []
    for reader in result.outputs:
        parts = _parts(reader, len(order))
        if parts is None:
            rest.append(reader)
        else:
            yield from (_Use(t, order[part]) for t, part in zip(reader.outputs, parts, strict=True))
    if rest:
        yield _Use(result, order)


def _parts(node: gs.Node, count: int) -> list[slice] | None:
    """Which channels each output of a Split or Slice has; None for another node, or axis."""
    if node.op == "Split" and node.attrs.get("axis", 0) == 1:
        sizes = [_channels(t) for t in node.outputs]
        ends = np.cumsum(sizes)
        known = all(sizes) and ends[-1] == count
        return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)] if known else None
    given = node.inputs[1:]
    if (
        node.op != "Slice"
        or len(given) < 3
        or not all(isinstance(t, gs.Constant) and t.values.size == 1 for t in given)
    ):
        return None
    start, end, axis, step = (int(t.values.reshape(-1)[0]) for t in [*given, gs.Constant("", np.ones(1))][:4])
    part = slice(start, end, step)
    return [part] if axis == 1 and step == 1 and len(range(count)[part]) == _channels(node.outputs[0]) else None


def _can_read(graph: gs.Graph, use: _Use) -> bool:
    """Whether all that read a part can be rewritten."""
    return all(_takes_columns(r) or r.op == "Concat" or _moves_on(graph, r, use) for r in use.tensor.outputs)


def _takes_columns(node: gs.Node) -> bool:
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    return node.op == "Conv" and node.attrs.get("group", 1) == 1 and isinstance(weight, gs.Constant)


def _moves_on(graph: gs.Graph, node: gs.Node, use: _Use) -> bool:
    """Whether a node is a depthwise convolution of all channels that only convolutions read: it can keep the order."""
    if kind_of(node) != DEPTHWISE or not all(isinstance(t, gs.Constant) for t in node.inputs[1:]):
        return False
    whole = len(np.unique(use.channels)) == len(use.channels) == node.inputs[1].shape[0] == node.attrs["group"]
    activations = _activations(graph, node)
    last = activations[-1].result if activations else node.outputs[0]
    given = (constant for activation in activations for one in activation.nodes for constant in constants(one))
    if any(constant.values.size > 1 for constant in given):
        return False  # it would have to be put in order too
    return whole and not is_output(graph, last) and all(_takes_columns(reader) for reader in last.outputs)


def _activations(graph: gs.Graph, node: gs.Node) -> list[Activation]:
    """The activations behind a layer."""
    found, tensor = list[Activation](), node.outputs[0]
    while (activation := activation_of(graph, tensor)) is not None:
        found.append(activation)
        tensor = activation.result
    return found


def _rewrite(graph: gs.Graph, shuffle: _Shuffle, names: FreshNames) -> None:
    place = _align(graph, shuffle.concat, names)
    whole = shuffle.concat.outputs[0]
    for use in shuffle.uses:
        channels = place[use.channels]
        for reader in list(use.tensor.outputs):
            if _takes_columns(reader):
                _read_columns(reader, whole, channels, names)
            elif reader.op != "Concat":
                _keep_order(graph, reader, whole, channels, names)
        if use.tensor.outputs:
            _select(graph, shuffle.concat, use.tensor, channels, names)
    graph.cleanup()


def _align(graph: gs.Graph, concat: gs.Node, names: FreshNames) -> Channels:
    """Let the parts of a Concat begin at multiples of 32 channels where that can be; channel -> its new place."""
    places, begin, grown = list[Channels](), 0, False
    for index, tensor in enumerate(concat.inputs):
        count = _channels(tensor)
        places.append(begin + np.arange(count))
        missing = -count % VECTOR
        if missing and index + 1 < len(concat.inputs) and _grow(graph, tensor, missing, names):
            count, grown = count + missing, True
        begin += count
    if grown:
        whole = concat.outputs[0]
        _resize(whole, begin, names)
    return np.concatenate(places)


def _grow(graph: gs.Graph, tensor: gs.Tensor, missing: int, names: FreshNames) -> bool:
    """Add channels of zeros to what a convolution makes, if only a Concat reads it; whether that could be."""
    chain, maker = [tensor], tensor.inputs[0] if tensor.inputs else None
    while maker is not None and row_of(maker.op, maker.domain).keeps_zero and feeds_one_reader(graph, maker.inputs[0]):
        chain.append(maker.inputs[0])
        maker = maker.inputs[0].inputs[0] if maker.inputs[0].inputs else None
    constant = maker is not None and all(isinstance(t, gs.Constant) for t in maker.inputs[1:])
    if maker is None or not constant or not _takes_columns(maker) or not all(feeds_one_reader(graph, t) for t in chain):
        return False
    for index, constant_input in enumerate(maker.inputs[1:], start=1):
        values = constant_input.values
        zeros = np.zeros((missing, *values.shape[1:]), values.dtype)
        maker.inputs[index] = gs.Constant(names.new(f"{constant_input.name}{ALIGNED}"), np.concatenate([values, zeros]))
    for one in chain:
        _resize(one, _channels(one) + missing, names)
    return True


def _resize(tensor: gs.Tensor, channels: int, names: FreshNames) -> None:
    tensor.shape = [tensor.shape[0], channels, *tensor.shape[2:]]
    if calibrated_name(tensor.name) == tensor.name:
        tensor.name = names.new(f"{tensor.name}{ALIGNED}")


def _read_columns(conv: gs.Node, whole: gs.Tensor, channels: Channels, names: FreshNames) -> None:
    """Let a convolution read all channels, those that it does not use with weights of zero."""
    old = conv.inputs[1]
    weight = np.zeros((old.values.shape[0], _channels(whole), *old.values.shape[2:]), old.values.dtype)
    weight[:, channels] = old.values
    conv.inputs[0], conv.inputs[1] = whole, gs.Constant(names.new(f"{old.name}{ALIGNED}"), weight)


def _keep_order(graph: gs.Graph, conv: gs.Node, whole: gs.Tensor, channels: Channels, names: FreshNames) -> None:
    """Let a depthwise convolution work in the order of the Concat, and the convolutions behind it read it so."""
    count = _channels(whole)
    for index, old in enumerate(conv.inputs[1:], start=1):
        values = np.zeros((count, *old.values.shape[1:]), old.values.dtype)
        values[channels] = old.values
        conv.inputs[index] = gs.Constant(names.new(f"{old.name}{ALIGNED}"), values)
    conv.inputs[0], conv.attrs["group"] = whole, count
    made = [conv.outputs[0], *(n.outputs[0] for one in _activations(graph, conv) for n in one.nodes)]
    for tensor in made:
        _resize(tensor, count, names)
    for reader in list(made[-1].outputs):
        _read_columns(reader, made[-1], channels, names)


def _select(graph: gs.Graph, concat: gs.Node, tensor: gs.Tensor, channels: Channels, names: FreshNames) -> None:
    """Make a part of the channels by a convolution whose weight is 0 or 1."""
    whole = concat.outputs[0]
    weight = np.zeros((len(channels), _channels(whole), *[1] * (len(whole.shape) - 2)), np.float32)
    weight[np.arange(len(channels)), channels] = 1
    constant = gs.Constant(names.new(f"{tensor.name}_selection_weight"), weight)
    tensor.inputs.clear()
    attributes = {"kernel_shape": list(weight.shape[2:])}
    node = gs.Node("Conv", names.new(f"{tensor.name}_selection"), attributes, [whole, constant], [tensor])
    graph.nodes.insert(graph.nodes.index(concat) + 1, node)
