"""Where the error of a Q/DQ model comes from: tensor by tensor along the network, weight by weight per channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.comparison.metrics import ErrorSums
from quantlab.data.batches import Batch, Batches, batch_length
from quantlab.model import Model, fixed_batch, input_specs, load_model, require_float
from quantlab.numerics import dequantize, quantize
from quantlab.ort import ActivationReader
from quantlab.qdq import RULES, WeightError, WeightSite, fold, prepare, weight_error
from quantlab.qdq.view import GraphView, attribute


@dataclass(frozen=True, slots=True)
class ErrorTrace:
    """tensors: SQNR in dB of every float tensor that both networks have and that is quantized next or leaves the
    network, in network order: how the error grows. weights: what quantization does to each. unmatched: weights whose
    float original was not found."""

    tensors: Mapping[str, float]
    weights: tuple[WeightError, ...]
    unmatched: int


def trace_error(model: Model, quantized: Model, batches: Batches) -> ErrorTrace:
    """Compare a Q/DQ model with its FP32 model on the inside. batches: a few are enough.

    Both run on ONNX Runtime, the Q/DQ model as it is written.
    """
    fp32, qdq = load_model(model), load_model(quantized)
    require_float(fp32, "an error trace")
    errors, unmatched = weight_errors_of(fp32, qdq)
    return ErrorTrace(_along(fold(fp32), qdq, _whole(fp32, batches)), errors, unmatched)


def _whole(fp32: onnx.ModelProto, batches: Batches) -> list[Batch]:
    """Without a short batch that a model with a fixed one cannot take."""
    fixed, first = fixed_batch(fp32), input_specs(fp32)[0].name
    return [b for n, b in enumerate(batches) if fixed in (None, batch_length(b, first, n))]


def _along(fp32: onnx.ModelProto, qdq: onnx.ModelProto, batches: Sequence[Batch]) -> dict[str, float]:
    tensors = _shared_tensors(fp32, qdq)
    if not tensors or not batches:
        return {}
    reference, other = ActivationReader(fp32, tensors), ActivationReader(qdq, tensors, optimize=False)
    sums = {name: ErrorSums() for name in tensors}
    for number, batch in enumerate(batches):
        wanted, got = reference.read_one(batch, number), other.read_one(batch, number)
        for name, total in sums.items():
            if wanted[name].shape == got[name].shape:
                total.add(wanted[name], got[name], name, finite=False)
    return {name: total.result().sqnr_db for name, total in sums.items() if total.count}


def _shared_tensors(fp32: onnx.ModelProto, qdq: onnx.ModelProto) -> list[str]:
    """Float tensors of both graphs that a QuantizeLinear reads or that leave the network."""
    made = [name for node in fp32.graph.node for name in node.output]
    view = GraphView(qdq)
    wanted = {n.input[0] for n in view.qdq_nodes if n.op_type == "QuantizeLinear"} | set(view.outputs)
    inside = {name for node in qdq.graph.node for name in node.output}
    floats = set(ActivationReader(fp32, None).tensors)
    return [name for name in made if name in wanted and name in inside and name in floats]


def weight_errors_of(fp32: onnx.ModelProto, qdq: onnx.ModelProto) -> tuple[tuple[WeightError, ...], int]:
    """(what became of every weight, how many could not be matched): nodes are matched by their output."""
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
        site = WeightSite(node.name, rule.weight_input, dq.input[0], axis)
        scale = np.atleast_1d(np.asarray(view.scale(dq), np.float32))
        errors.append(weight_error(site, values, kept, scale))
    return tuple(errors), unmatched


def _dequantized(view: GraphView, dq: onnx.NodeProto) -> tuple[NDArray[np.float32] | None, int | None]:
    """(the values that the layer reads, the axis of its scales), or None for what is no symmetric int8 weight."""
    scale, zero_point = view.scale(dq), view.zero_point(dq)
    if scale is None or zero_point is None or zero_point.dtype != np.int8 or np.any(zero_point):
        return None, None
    before = view.producer.get(dq.input[0])
    source = view.constant(dq.input[0] if before is None else before.input[0])
    blocked = scale.size > 1 and (scale.ndim != 1 or attribute(dq, "block_size", 0))
    if source is None or scale.dtype != np.float32 or blocked:
        return None, None
    axis = None if scale.size == 1 else attribute(dq, "axis", 1) % source.ndim
    scale = scale.reshape(()) if axis is None else scale
    codes = source if source.dtype == np.int8 else quantize(source.astype(np.float32), scale, axis)
    return dequantize(codes, scale, axis), axis
