"""Where the error of a Q/DQ model comes from: tensor by tensor along the network, weight by weight per channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.data import Batch, Batches, BatchSize
from quantlab.errors import in_batch
from quantlab.numerics import ErrorSums, dequantize, error_sums, quantize
from quantlab.onnx_model import GraphView, Model, input_specs, load_model, node_label, require_float
from quantlab.ort import ActivationReader
from quantlab.qdq import RULES, WeightError, WeightSite, fold, prepare, weight_error


@dataclass(frozen=True, slots=True)
class ErrorTrace:
    """Where the error of a Q/DQ model comes from.

    Attributes:
        tensors: SQNR in dB of every float tensor that both networks have and that is quantized next or leaves the
            network, in network order: how the error grows.
        weights: What quantization does to each.
        unmatched: Weights whose float original was not found.
    """

    tensors: Mapping[str, float]
    weights: tuple[WeightError, ...]
    unmatched: int


def trace_error(model: Model, quantized: Model, batches: Batches) -> ErrorTrace:
    """Compare a Q/DQ model with its FP32 model on the inside.

    Both run on ONNX Runtime, the Q/DQ model as it is written.

    Args:
        model: The FP32 model.
        quantized: The Q/DQ model that was made from it.
        batches: A few are enough.

    Returns:
        The error tensor by tensor along the network, and weight by weight per channel.

    Raises:
        GraphError: `model` is quantized itself, or one of them cannot be run.
        DataError: The batches do not fit.
    """
    fp32, qdq = load_model(model), load_model(quantized)
    require_float(fp32, "an error trace")
    errors, unmatched = weight_errors_of(fp32, qdq)
    whole = list(BatchSize.of(input_specs(fp32)).whole(batches))
    return ErrorTrace(_along(fold(fp32), qdq, whole), errors, unmatched)


def _along(fp32: onnx.ModelProto, qdq: onnx.ModelProto, batches: Sequence[Batch]) -> dict[str, float]:
    tensors = _shared_tensors(fp32, qdq)
    if not tensors or not batches:
        return {}
    reference, other = ActivationReader(fp32, tensors), ActivationReader(qdq, tensors, optimize=False)
    sums = {name: ErrorSums() for name in tensors}
    for number, batch in enumerate(batches):
        with in_batch(number):
            wanted, got = reference.read_one(batch), other.read_one(batch)
        for name in sums:
            if wanted[name].shape == got[name].shape:
                sums[name] += error_sums(wanted[name], got[name], name, finite=False)
    return {name: total.sqnr_db for name, total in sums.items() if total.count}


def _shared_tensors(fp32: onnx.ModelProto, qdq: onnx.ModelProto) -> list[str]:
    """Float tensors of both graphs that a QuantizeLinear reads or that leave the network."""
    made = [name for node in fp32.graph.node for name in node.output]
    view = GraphView(qdq)
    wanted = {n.input[0] for n in view.qdq_nodes if n.op_type == "QuantizeLinear"} | set(view.outputs)
    inside = {name for node in qdq.graph.node for name in node.output}
    floats = set(ActivationReader(fp32, None).tensors)
    return [name for name in made if name in wanted and name in inside and name in floats]


def weight_errors_of(fp32: onnx.ModelProto, qdq: onnx.ModelProto) -> tuple[tuple[WeightError, ...], int]:
    """Find what quantization does to every weight. Nodes are matched by their output.

    Args:
        fp32: The FP32 model.
        qdq: The Q/DQ model that was made from it.

    Returns:
        (the error of every weight, how many weights could not be matched).
    """
    original = GraphView(prepare(fp32))
    view = GraphView(qdq)
    errors, unmatched = [], 0
    for node in view.proto.graph.node:
        rule = RULES.get(node.op_type)
        if rule is None or rule.weight_input is None or len(node.input) <= rule.weight_input:
            continue
        dq = view.producer.get(node.input[rule.weight_input])
        if dq is None or dq.op_type != "DequantizeLinear" or not view.is_weight(dq):
            continue
        kept, axis = _dequantized(view, dq)
        maker = original.producer.get(node.output[0])
        values = original.constant(maker.input[rule.weight_input]) if maker is not None else None
        if values is None or kept is None or values.shape != kept.shape:
            unmatched += 1
            continue
        site = WeightSite(node_label(node), rule.weight_input, dq.input[0], axis)
        scale = np.atleast_1d(np.asarray(view.scale(dq), np.float32))
        errors.append(weight_error(site, values, kept, scale))
    return tuple(errors), unmatched


def _dequantized(view: GraphView, dq: onnx.NodeProto) -> tuple[NDArray[np.float32] | None, int | None]:
    """(the values that the layer reads, the axis of its scales), or None for what is no symmetric int8 weight."""
    given = view.parameters(dq)
    if given is None or given.code_type != np.int8 or not given.is_symmetric:
        return None, None
    before = view.producer.get(dq.input[0])
    source = view.constant(dq.input[0] if before is None else before.input[0])
    blocked = given.scale.size > 1 and (given.scale.ndim != 1 or given.block_size)
    if source is None or given.scale.dtype != np.float32 or blocked:
        return None, None
    axis = given.channel_axis(source.ndim)
    scale = given.scale.reshape(()) if axis is None else given.scale
    codes = source if source.dtype == np.int8 else quantize(source.astype(np.float32), scale, axis)
    return dequantize(codes, scale, axis), axis
