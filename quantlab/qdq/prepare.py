"""Before Q/DQ: constants folded, BatchNorm and the like folded into their convolution, every node named, no Cast
without effect, means over images written as poolings, channel shuffles absorbed, opset at least 13."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from quantlab.onnx_model import infer_shapes, opset_of, raise_opset
from quantlab.ort import is_known
from quantlab.qdq.branches import inline_branches
from quantlab.qdq.graph import export_graph, feeds_one_reader, fresh_names, import_graph, name_nodes, other_type
from quantlab.qdq.rules import row_of
from quantlab.qdq.shuffles import absorb_shuffles

OPSET = 13  # the first with per-channel QuantizeLinear and DequantizeLinear
_LOG = logging.getLogger(__name__)


def fold(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with constant subgraphs computed. Tensor names and the order of the nodes stay."""
    return export_graph(_folded(proto), proto)


def prepare(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The network that Q/DQ nodes go into; see the module. The inputs and outputs stay."""
    graph = _prepared(proto)
    absorb_shuffles(graph)
    return export_graph(graph.cleanup(), proto)


def prepare_for_cache(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same with every tensor as it was: those of a cache that TensorRT made."""
    return export_graph(_prepared(proto), proto)


def _prepared(proto: onnx.ModelProto) -> gs.Graph:
    graph = import_graph(fold(proto))  # once more: with what was computed, shapes are known that were not
    name_nodes(graph)
    _drop_casts(graph)
    _fold_affine(graph)
    _merge_slices(graph)
    _pool_means(graph)
    return graph.cleanup()


def _folded(proto: onnx.ModelProto) -> gs.Graph:
    if opset_of(proto) < OPSET:
        proto = raise_opset(proto, OPSET)
        _LOG.info("converted to opset %d", OPSET)
    graph = import_graph(infer_shapes(proto))
    while True:  # what decides inside of a branch is known once its own decision is
        graph.fold_constants(flatten_subgraphs=False, should_exclude_node=lambda n: not is_known(n.op, n.domain))
        if not inline_branches(graph):
            return graph.cleanup()


def _drop_casts(graph: gs.Graph) -> None:
    """Casts to the type that a tensor has already, as some exporters write them, stand between nodes that fuse."""
    outputs = {id(t) for t in graph.outputs}
    for cast in [n for n in graph.nodes if n.op == "Cast"]:
        source, result = cast.inputs[0], cast.outputs[0]
        if id(result) in outputs or source.dtype is None or cast.attrs.get("to") is None:
            continue
        dtype = source.dtype  # an ONNX number where numpy has no such type (bfloat16, float8)
        kind = dtype if isinstance(dtype, int) else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        if kind != int(cast.attrs["to"]):
            continue
        for reader in list(result.outputs):
            reader.inputs = [source if t is result else t for t in reader.inputs]
        cast.outputs = []


def _fold_affine(graph: gs.Graph) -> None:
    """What only scales and shifts the channels of a convolution becomes part of it, in float64: BatchNorm, and its
    forms with Mul, Div, Add and Sub of a constant."""
    names = fresh_names(graph)
    for node in list(graph.nodes):
        affine = _affine(node)
        conv = affine.source.inputs[0] if affine is not None and len(affine.source.inputs) == 1 else None
        if affine is None or conv is None or not feeds_one_reader(graph, affine.source):
            continue
        row = row_of(conv.op, conv.domain)
        if not row.epilogue or not all(isinstance(t, gs.Constant) for t in conv.inputs[1:]):
            continue
        weight = conv.inputs[1].values
        axis = row.axis(conv.attrs, weight.ndim)
        if axis is None:  # no axis of the weight is the output channels
            continue
        channels = _per_channel(affine, weight.shape[axis], weight.ndim)
        if channels is None:
            continue
        factor, shift = channels
        scaled = weight * factor.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
        bias = conv.inputs[2].values if len(conv.inputs) > 2 else 0.0
        folded = gs.Constant(names.new(f"{conv.name}_folded_bias"), (bias * factor + shift).astype(weight.dtype))
        kernel = gs.Constant(names.new(f"{conv.name}_folded_weight"), scaled.astype(weight.dtype))
        conv.inputs = [conv.inputs[0], kernel, folded]
        conv.outputs = [node.outputs[0]]
        node.outputs = []


def _merge_slices(graph: gs.Graph) -> None:
    """Two Slices in a row over different axes become one: TensorRT runs each as a kernel of its own."""
    names = fresh_names(graph)
    for node in [n for n in graph.nodes if n.op == "Slice"]:
        middle = node.inputs[0]
        before = middle.inputs[0] if len(middle.inputs) == 1 else None
        if before is None or before.op != "Slice" or not feeds_one_reader(graph, middle):
            continue
        first, second = _slice_ranges(before), _slice_ranges(node)
        if first is None or second is None or set(first[2]) & set(second[2]):
            continue
        parts = [np.array([*a, *b], np.int64) for a, b in zip(first, second, strict=True)]
        constants = [gs.Constant(names.new(f"{node.name}_{k}"), values) for k, values in enumerate(parts)]
        node.inputs = [before.inputs[0], *constants]
        before.outputs = []


def _pool_means(graph: gs.Graph) -> None:
    """A mean over height and width becomes a GlobalAveragePool, which has an INT8 kernel where ReduceMean has none."""
    names = fresh_names(graph)
    for node in [n for n in graph.nodes if n.op == "ReduceMean"]:
        if not _is_over_pixels(node):
            continue
        result, keeps = node.outputs[0], node.attrs.get("keepdims", 1)
        if not keeps:
            shape = None if result.shape is None else [*result.shape, 1, 1]
            pooled = gs.Variable(names.new(f"{result.name}_pooled"), result.dtype, shape)
            flatten = gs.Node("Flatten", names.new(f"{node.name}_Flatten"), {"axis": 1}, [pooled], [result])
            graph.nodes.insert(graph.nodes.index(node) + 1, flatten)
            node.outputs = [pooled]
        node.op, node.inputs = "GlobalAveragePool", node.inputs[:1]
        node.attrs.clear()


def _is_over_pixels(node: gs.Node) -> bool:
    shape, axes = node.inputs[0].shape, node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1 and isinstance(node.inputs[1], gs.Constant):
        axes = node.inputs[1].values.reshape(-1).tolist()
    if shape is None or len(shape) != 4 or axes is None:
        return False
    return {int(axis) % 4 for axis in axes} == {2, 3} and other_type(node.inputs[0]) is None


def _slice_ranges(node: gs.Node) -> tuple[list[int], ...] | None:
    """(starts, ends, axes, steps) of a Slice with constant ones, axes counted from the front; else None."""
    rank = len(node.inputs[0].shape) if node.inputs[0].shape is not None else None
    if rank is None or not all(isinstance(t, gs.Constant) for t in node.inputs[1:]):
        return None
    values = [t.values.reshape(-1).tolist() for t in node.inputs[1:]]
    starts, ends = values[:2]
    axes = values[2] if len(values) > 2 else list(range(len(starts)))
    steps = values[3] if len(values) > 3 else [1] * len(starts)
    return starts, ends, [a % rank for a in axes], steps


@dataclass(frozen=True, slots=True)
class _Affine:
    """A node as `y = source * factor + shift`.

    Attributes:
        source: The tensor.
        factor: Of shape (C,) along axis 1 if `by_channel`, else as ONNX broadcasts it.
        shift: As `factor`.
        by_channel: Whether there is one value per channel.
    """

    source: gs.Tensor
    factor: NDArray[np.float64]
    shift: NDArray[np.float64]
    by_channel: bool


def _affine(node: gs.Node) -> _Affine | None:
    """A node as `y = x * factor + shift` with constants, or None."""
    row = row_of(node.op, node.domain)
    if not row.affine:
        return None
    if node.op == "BatchNormalization":
        # in training mode it normalizes by the batch's own statistics
        if node.attrs.get("training_mode", 0) or len(node.outputs) != 1:
            return None
        if not all(isinstance(t, gs.Constant) for t in node.inputs[1:5]):
            return None
        gamma, beta, mean, var = (t.values.astype(np.float64) for t in node.inputs[1:5])
        factor = gamma / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
        return _Affine(node.inputs[0], factor, beta - mean * factor, by_channel=True)
    left, right = node.inputs
    if isinstance(left, gs.Constant) and row.commutes:
        left, right = right, left
    if isinstance(left, gs.Constant) or not isinstance(right, gs.Constant):
        return None
    parts = _factor_and_shift(node.op, right.values.astype(np.float64))
    return None if parts is None else _Affine(left, *parts, by_channel=False)


def _factor_and_shift(op: str, value: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """`y = x op value` as a factor and a shift of x, or None."""
    one, zero = np.ones_like(value), np.zeros_like(value)
    match op:
        case "Mul":
            return value, zero
        case "Div":
            return (1 / value, zero) if np.all(value) else None
        case "Add":
            return one, value
        case "Sub":
            return one, -value
    return None


def _per_channel(affine: _Affine, channels: int, ndim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(factor, shift), float64 (channels,), or None if they differ within a channel or would change the shape."""
    if not affine.by_channel:
        shape = affine.factor.shape
        padded = (1,) * (ndim - len(shape)) + shape
        along_channels = affine.factor.size == 1 or padded == (1, channels, *(1,) * (ndim - 2))
        if len(shape) > ndim or not along_channels:
            return None
    factor, shift = (np.broadcast_to(v.reshape(-1), channels).copy() for v in (affine.factor, affine.shift))
    return factor, shift
