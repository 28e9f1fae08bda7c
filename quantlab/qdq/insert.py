"""A placement and scales into the graph: Q/DQ pairs on activations, int8 + DequantizeLinear for weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from quantlab.errors import DataError, GraphError
from quantlab.numerics import (
    PER_TENSOR,
    PerChannel,
    amax_of,
    dequantize,
    quantize,
    scale_from_amax,
    sqnr_db,
    squares,
)
from quantlab.onnx_model import FreshNames, require_finite, why_invalid
from quantlab.qdq.clips import write_otherwise
from quantlab.qdq.graph import DEQUANTIZED, export_graph, fresh_names, import_graph
from quantlab.qdq.names import ALIGNED
from quantlab.qdq.placement import Placement, WeightSite
from quantlab.qdq.rules import OPERATORS, row_of


@dataclass(frozen=True, slots=True)
class WeightError:
    """What quantization does to one weight.

    Attributes:
        node: The layer that reads it.
        tensor: Its name.
        axis: The axis of its channels, None for one scale.
        sqnr_db: float64 (channels,), or (1,) for one scale; infinite for a channel that is exact, such as a dead one.
        scale: float32, as many.
        alive: bool, as many: whether a channel has anything but zeros.
    """

    node: str
    tensor: str
    axis: int | None
    sqnr_db: NDArray[np.float64]
    scale: NDArray[np.float32]
    alive: NDArray[np.bool_]

    @property
    def dead(self) -> int:
        """How many channels are all zero."""
        return int((~self.alive).sum())

    @property
    def worst_channel(self) -> int:
        """The channel with the smallest SQNR."""
        return int(np.argmin(self.sqnr_db))


@dataclass(frozen=True, slots=True)
class Inserted:
    """What `insert` made.

    Attributes:
        model: The Q/DQ model.
        warnings: Facts that a reader must know, such as dead channels.
        weight_errors: One per stored weight.
    """

    model: onnx.ModelProto
    warnings: tuple[str, ...]
    weight_errors: tuple[WeightError, ...] = ()


def needs_float_weights(prepared: onnx.ModelProto) -> bool:
    """Whether TensorRT 8 takes no int8 weights in a network: parts of it are compiled as regions."""
    return any(row_of(node.op_type, node.domain).region for node in prepared.graph.node)


def insert(
    prepared: onnx.ModelProto,
    placement: Placement,
    scale_of: Callable[[str], NDArray[np.float32]],
    *,
    float_weights: bool = False,
    weight_amax: Mapping[str, tuple[NDArray[np.float32], int | None]] | None = None,
) -> Inserted:
    """Put Q/DQ nodes into a prepared model. The same inputs give the same bytes.

    Args:
        prepared: The model, see `prepare`.
        placement: Where they go.
        scale_of: Tensor name -> float32 > 0, shape ().
        float_weights: Weights stay float32 behind Q/DQ pairs, as in models from quantization-aware training; the
            outputs are the same.
        weight_amax: Weight -> (amax, its axis) where it is not to be computed anew.

    Returns:
        The Q/DQ model and what quantization does to its weights.

    Raises:
        GraphError: A weight is not finite, or the result is not valid ONNX.
    """
    graph = import_graph(prepared)
    nodes = {node.name: node for node in graph.nodes}
    names = fresh_names(graph)
    new: dict[str, list[gs.Node]] = {name: [] for name in nodes}  # what goes before each node, so that order stays
    pairs: dict[str, gs.Variable] = {}
    for node_name, index, tensor in placement.activations:
        if tensor not in pairs:
            new[node_name] += _activation_pair(names, nodes[node_name].inputs[index], scale_of(tensor))
            pairs[tensor] = new[node_name][-1].outputs[0]
        nodes[node_name].inputs[index] = pairs[tensor]
    errors: list[WeightError] = []
    weights: dict[tuple[str, int | None], gs.Variable] = {}
    for site in placement.weights:
        key = (site.tensor, site.axis)
        if key not in weights:
            constant = nodes[site.node].inputs[site.input]
            amax = _given_amax(constant, site, weight_amax or {})
            new[site.node] += _weight(names, constant, site, amax, errors, float_weights)
            weights[key] = new[site.node][-1].outputs[0]
        node = nodes[site.node]
        if OPERATORS[node.op].epilogue:  # a convolution: TensorRT's parser reads it off constant weights only
            node.attrs.setdefault("kernel_shape", list(node.inputs[site.input].values.shape[2:]))
        node.inputs[site.input] = weights[key]
    graph.nodes = [n for node in list(graph.nodes) for n in (*new[node.name], node)]
    write_otherwise(graph, names)
    graph.cleanup()
    model = export_graph(graph, prepared)
    _check(model, prepared)
    warnings = [
        f"weight '{e.tensor}' of node '{e.node}': {e.dead} of {e.sqnr_db.size} channels are all zero"
        for e in errors
        if e.dead and ALIGNED not in e.tensor  # there they were added
    ]
    return Inserted(model, tuple(warnings), tuple(errors))


def _check(model: onnx.ModelProto, prepared: onnx.ModelProto) -> None:
    require_finite(model, "the Q/DQ model")  # what was folded into one constant may be beyond float32
    reason = why_invalid(model)
    if reason is not None and why_invalid(prepared) is not None:
        raise GraphError(
            f"the shapes that the FP32 model declares contradict its nodes: {reason}", hint="export it again"
        )
    if reason is not None:
        raise GraphError(f"the Q/DQ model is not valid ONNX: {reason}", hint="please report this model")


def _activation_pair(names: FreshNames, tensor: gs.Tensor, scale: NDArray[np.float32]) -> list[gs.Node]:
    base = tensor.name
    parameters = [
        gs.Constant(names.new(f"{base}_scale"), np.asarray(scale, np.float32)),
        gs.Constant(names.new(f"{base}_zero_point"), np.asarray(0, np.int8)),
    ]
    codes = gs.Variable(names.new(f"{base}_quantized"), np.int8, tensor.shape)
    result = gs.Variable(names.new(f"{base}{DEQUANTIZED}"), np.float32, tensor.shape)
    return [
        gs.Node("QuantizeLinear", names.new(f"{base}_QuantizeLinear"), None, [tensor, *parameters], [codes]),
        gs.Node("DequantizeLinear", names.new(f"{base}_DequantizeLinear"), None, [codes, *parameters], [result]),
    ]


def _given_amax(
    constant: gs.Constant, site: WeightSite, given: Mapping[str, tuple[NDArray[np.float32], int | None]]
) -> NDArray[np.float32]:
    """The amax that the weight had, where it is of the granularity that is wanted, else that of its values."""
    amax, axis = given.get(site.tensor, (None, None))
    if amax is not None and (axis is None or axis == site.axis):
        return amax if site.axis is None else np.broadcast_to(amax, constant.values.shape[site.axis]).copy()
    try:
        return amax_of(constant.values, PER_TENSOR if site.axis is None else PerChannel(site.axis))
    except DataError as error:
        raise GraphError(f"weight '{site.tensor}' of node '{site.node}': {error.text}", hint=error.hint) from error


def _weight(
    names: FreshNames,
    constant: gs.Constant,
    site: WeightSite,
    amax: NDArray[np.float32],
    errors: list[WeightError],
    float_weights: bool,
) -> list[gs.Node]:
    values = constant.values
    scale = scale_from_amax(amax)
    stored = quantize(values, scale, site.axis)
    with np.errstate(over="ignore"):
        kept = dequantize(stored, scale, site.axis)
    if not np.isfinite(kept).all():
        raise GraphError(
            f"weight '{site.tensor}' of node '{site.node}' is beyond float32 once it is quantized",
            hint="leave the node in float (--exclude), or look at the weight",
        )
    errors.append(weight_error(site, values, kept, scale))
    base = site.tensor
    parameters = [
        gs.Constant(names.new(f"{base}_scale"), scale),
        gs.Constant(names.new(f"{base}_zero_point"), np.zeros(scale.shape, np.int8)),
    ]
    result = gs.Variable(names.new(f"{base}{DEQUANTIZED}"), np.float32, values.shape)
    attrs = {} if site.axis is None else {"axis": site.axis}
    name = names.new(f"{base}_DequantizeLinear")
    if not float_weights:
        codes = gs.Constant(names.new(f"{base}_quantized"), stored)
        return [gs.Node("DequantizeLinear", name, attrs, [codes, *parameters], [result])]
    kept = gs.Variable(names.new(f"{base}_quantized"), np.int8, values.shape)
    return [
        gs.Node("QuantizeLinear", names.new(f"{base}_QuantizeLinear"), attrs, [constant, *parameters], [kept]),
        gs.Node("DequantizeLinear", name, dict(attrs), [kept, *parameters], [result]),
    ]


def weight_error(
    site: WeightSite, values: NDArray[np.float32], kept: NDArray[np.float32], scale: NDArray[np.float32]
) -> WeightError:
    """What quantization does to a weight.

    Args:
        site: Where the weight is.
        values: The weight in FP32.
        kept: What is left of it, float32 of the same shape.
        scale: Its scales.

    Returns:
        The SQNR of every channel.
    """
    others = tuple(a for a in range(values.ndim) if a != site.axis) if site.axis is not None else None
    signal = np.atleast_1d(squares(values, others))
    noise = np.atleast_1d(squares(values.astype(np.float64) - kept, others))
    sqnr = sqnr_db(signal, noise)
    return WeightError(site.node, site.tensor, site.axis, sqnr, np.atleast_1d(scale), signal > 0)
