"""Operators with constants that take the factors: with x / d on the way in, constants are chosen so that y / e comes
out. For the channels i of the input and o of the output:

    convolution, Gemm, MatMul   w[o,i] -> w[o,i] d[i] / e[o]        b[o] -> b[o] / e[o]
    BatchNormalization          scale -> scale d / e    mean -> mean / d    bias -> bias / e    variance stays
    Layer-, InstanceNormalization  scale -> scale / e   bias -> bias / e    d = 1: its input is normalized as it is
    x * c, x / c                c -> c d / e            c -> c e / d
    x + c, x - c, c - x         c -> c / d              e = d

Nagel, van Baalen, Blankevoort, Welling: "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, section 4.1, has the first row about a ReLU; Xiao, Lin, Seznec, Wu, Demouth, Han: "SmoothQuant", ICML 2023,
the third followed by the first.

Every function gives the layout of the output, or None where the operator cannot be scaled: then the caller freezes
the channels of all its inputs and outputs.
"""

from __future__ import annotations

import numpy as np
import onnx

from quantlab.onnx_model import attribute
from quantlab.transforms.channels import Ids, along, widened
from quantlab.transforms.network import Factor, Network, Weighted


def convolution(network: Network, node: onnx.NodeProto) -> Ids | None:
    """Conv: weights (O, I / groups, ...).

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    weight, groups = network.weight(node, 1), int(attribute(node, "group", 1))
    if weight is None or not _has_plain_bias(network, node):
        return None
    outs, per = weight.shape[0], weight.shape[1]
    rows = np.arange(outs)
    columns = rows[:, None] // (outs // groups) * per + np.arange(per)
    return _convolution(network, node, columns, rows[:, None], (per * groups, outs))


def transposed_convolution(network: Network, node: onnx.NodeProto) -> Ids | None:
    """ConvTranspose: weights (I, O / groups, ...).

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    weight, groups = network.weight(node, 1), int(attribute(node, "group", 1))
    if weight is None or not _has_plain_bias(network, node):
        return None
    ins, per = weight.shape[0], weight.shape[1]
    columns = np.arange(ins)
    rows = columns[:, None] // (ins // groups) * per + np.arange(per)
    return _convolution(network, node, columns[:, None], rows, (ins, per * groups))


def gemm(network: Network, node: onnx.NodeProto) -> Ids | None:
    """Gemm: x (N, I), weights (I, O) or (O, I), a constant C that broadcasts over (N, O).

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    weight = network.weight(node, 1)
    has_bias = network.has(node, 2)
    if weight is None or attribute(node, "transA", 0) or (has_bias and network.constant(node, 2) is None):
        return None
    turned = bool(attribute(node, "transB", 0))
    outs, ins = weight.shape if turned else weight.shape[::-1]
    columns, rows = (np.arange(ins), np.arange(outs)[:, None]) if turned else (np.arange(ins)[:, None], np.arange(outs))
    made = _layer(network, node, 1, 1, (ins, outs), columns, rows)
    if has_bias:
        network.factors.append(Factor(node.name, 2, over=made))
    return network.made(made, 1, 2)


def matmul(network: Network, node: onnx.NodeProto) -> Ids | None:
    """MatMul of x (..., I) with weights (..., I, O). Of two tensors A and B it is linear in each: the channels of B
    along its last axis pass, and A stays as it is (what attention does to its values).

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    left, right = node.input
    rank = network.rank(node.output[0])
    weight = network.weight(node, 1)
    if weight is not None and (network.rank(left) or 0) > 1:
        ins, outs = weight.shape[-2:]
        made = _layer(network, node, 1, -1, (ins, outs), np.arange(ins)[:, None], np.arange(outs))
        return network.made(made, -1, rank)
    ids = network.layouts.get(right)
    if ids is None or ids.ndim < 2 or ids.shape[-2] > 1 or rank is None or (network.rank(left) or 0) < 2:
        return None
    network.freeze(left)
    return widened(ids, rank)


def batch_normalization(network: Network, node: onnx.NodeProto) -> Ids | None:
    """BatchNormalization with the statistics of its training.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    constants = [network.constant(node, index) for index in range(1, 5)]
    scale = constants[0]
    if scale is None or any(c is None for c in constants) or attribute(node, "training_mode", 0):
        return None
    ins, outs = network.vector(node.input[0], 1, scale.size), network.channels.fresh(scale.size)
    network.factors.extend(
        [Factor(node.name, 1, ins, outs), Factor(node.name, 2, over=outs), Factor(node.name, 3, over=ins)]
    )
    return network.made(outs, 1, network.rank(node.output[0]))


def normalization(network: Network, node: onnx.NodeProto, axis: int) -> Ids | None:
    """A normalization whose scale and bias are constants along one axis.

    Args:
        network: What is known so far.
        node: The node.
        axis: Of the channels.

    Returns:
        The layout of its output.
    """
    scale, rank = network.constant(node, 1), network.rank(node.output[0])
    lacks_bias = network.has(node, 2) and network.constant(node, 2) is None
    if scale is None or scale.ndim != 1 or lacks_bias or rank is None:
        return None
    network.freeze(node.input[0])
    outs = network.channels.fresh(scale.size)
    network.factors.extend(Factor(node.name, index, over=outs) for index in (1, 2) if network.has(node, index))
    return network.made(outs, axis, rank)


def sum_of(network: Network, node: onnx.NodeProto) -> Ids | None:
    """Add or Sub: of a constant, or of two tensors, whose channels are tied.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    given = [network.layouts.get(name) for name in node.input]
    values = [network.constant(node, index) for index in (0, 1)]
    if given[0] is not None and given[1] is not None:
        rank = max(ids.ndim for ids in given if ids is not None)
        left, right = np.broadcast_arrays(widened(given[0], rank), widened(given[1], rank))
        network.channels.tie(left, right)
        return np.array(left)
    index = 0 if given[0] is not None else 1
    ids, value = given[index], values[1 - index]
    if ids is None or value is None:
        return None
    network.factors.append(Factor(node.name, 1 - index, over=ids))
    return widened(ids, value.ndim)


def product_of(network: Network, node: onnx.NodeProto) -> Ids | None:
    """Mul or Div: by a constant with one value per channel, which gives its output new variables, by another constant,
    which leaves those of x, or by a tensor, which stays as it is.

    Args:
        network: What is known so far.
        node: The node.

    Returns:
        The layout of its output.
    """
    given = [network.layouts.get(name) for name in node.input]
    values = [network.constant(node, index) for index in (0, 1)]
    is_division = node.op_type == "Div"
    if values[1] is not None or (values[0] is not None and not is_division):
        index = 1 if values[1] is not None else 0
        return _by_constant(network, node, index, is_division)
    if any(network.view.is_constant(name) for name in node.input):
        return None
    rank = network.rank(node.output[0])
    kept = 0 if is_division or given[1] is None else 1 if given[0] is None else _larger(network, node)
    ids = given[kept]
    if ids is None or rank is None:
        return None
    network.freeze(node.input[1 - kept])
    return widened(ids, rank)


def _by_constant(network: Network, node: onnx.NodeProto, index: int, is_division: bool) -> Ids | None:
    value, source = network.constant(node, index), node.input[1 - index]
    ids, rank = network.layouts.get(source), network.rank(node.output[0])
    if value is None or rank is None or rank < value.ndim:
        return None
    shape = (1,) * (rank - value.ndim) + value.shape
    axes = [a for a, size in enumerate(shape) if size > 1]
    if len(axes) != 1 or axes[0] == 0:  # a scalar, or not along channels
        return None if ids is None else widened(ids, rank)
    axis, size = axes[0], shape[axes[0]]
    before = along(network.vector(source, axis - rank, size), axis, rank)
    after = along(network.channels.fresh(size), axis, rank)
    network.factors.append(Factor(node.name, index, *((after, before) if is_division else (before, after))))
    return after


def _larger(network: Network, node: onnx.NodeProto) -> int:
    """The factor that is no gate: the one that is not broadcast, else the first whose channels are not frozen."""
    shapes = [network.shape(name) or [] for name in node.input]
    ones = [shape.count(1) - len(shape) for shape in shapes]
    if ones[0] != ones[1]:
        return int(ones[0] > ones[1])
    return int(not network.channels.are_free(network.layouts[node.input[0]]))


def _has_plain_bias(network: Network, node: onnx.NodeProto) -> bool:
    bias = network.constant(node, 2)
    return not network.has(node, 2) or (bias is not None and bias.ndim == 1)


def _convolution(
    network: Network, node: onnx.NodeProto, columns: Ids, rows: Ids, channels: tuple[int, int]
) -> Ids | None:
    rank = len(network.shape(node.input[1]) or ())
    taps = (1,) * (rank - 2)
    made = _layer(network, node, 1, 1, channels, *(v.reshape(v.shape + taps) for v in (columns, rows)))
    if network.has(node, 2):
        network.factors.append(Factor(node.name, 2, over=made))
    return network.made(made, 1, rank)


def _layer(
    network: Network,
    node: onnx.NodeProto,
    weight: int,
    axis: int,
    channels: tuple[int, int],
    columns: Ids,
    rows: Ids,
) -> Ids:
    """Note a layer; its output channels."""
    ins, outs = network.vector(node.input[0], axis, channels[0]), network.channels.fresh(channels[1])
    network.layers.append(Weighted(node.name, weight, axis, ins, outs, columns, rows))
    network.factors.append(Factor(node.name, weight, ins[columns], outs[rows]))
    return outs
