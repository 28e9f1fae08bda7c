"""Where the error of a Q/DQ model comes from: tensor by tensor along the network, weight by weight per channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import Progress
from quantlab.data import Batch, Batches, BatchSize
from quantlab.errors import in_batch
from quantlab.numerics import dequantize, quantize, sqnr_db
from quantlab.onnx_model import GraphView, Model, input_specs, load_model, node_label, require_float
from quantlab.ort import ActivationReader
from quantlab.ort.pieces import piece_size, pieces
from quantlab.qdq import RULES, WeightError, WeightSite, fold, prepare, weight_error
from quantlab.qdq.rewritten import read_rewritten
from quantlab.threads import thread_count


@dataclass(frozen=True, slots=True)
class ErrorTrace:
    """Where the error of a Q/DQ model comes from.

    Attributes:
        tensors: SQNR in dB of every float tensor that both networks have and that is quantized next or leaves the
            network, in network order: how the error grows. Of a model of `quantize --closest` without those that are
            scaled or shifted in it.
        weights: What quantization does to each.
        unmatched: Weights whose float original was not found, or is scaled in the model.
    """

    tensors: Mapping[str, float]
    weights: tuple[WeightError, ...]
    unmatched: int


def trace_error(model: Model, quantized: Model, batches: Batches, on_sample: Progress | None = None) -> ErrorTrace:
    """Compare a Q/DQ model with its FP32 model on the inside.

    Both run on ONNX Runtime, the Q/DQ model as it is written.

    Args:
        model: The FP32 model.
        quantized: The Q/DQ model that was made from it.
        batches: A few are enough.
        on_sample: Called now and then with the number of samples so far.

    Returns:
        The error tensor by tensor along the network, and weight by weight per channel.

    Raises:
        GraphError: `model` is quantized itself, or one of them cannot be run.
        DataError: The batches do not fit.
    """
    fp32, qdq = load_model(model), load_model(quantized)
    require_float(fp32, "an error trace")
    errors, unmatched = weight_errors_of(fp32, qdq)
    size = BatchSize.of(input_specs(fp32))
    return ErrorTrace(_along(fold(fp32), qdq, list(size.whole(batches)), size, on_sample), errors, unmatched)


def _along(
    fp32: onnx.ModelProto, qdq: onnx.ModelProto, batches: Sequence[Batch], size: BatchSize, on_sample: Progress | None
) -> dict[str, float]:
    """All inner tensors of a whole batch would fill the memory: it goes through in parts where that changes nothing."""
    tensors = _shared_tensors(fp32, qdq)
    if not tensors or not batches:
        return {}
    readers = ActivationReader(fp32, tensors), ActivationReader(qdq, tensors, optimize=False)
    signal, noise = dict.fromkeys(tensors, 0.0), dict.fromkeys(tensors, 0.0)
    part = piece_size(readers, batches[0]) if size.count(batches[0]) > 1 else None
    compared, samples = set[str](), 0
    with ThreadPoolExecutor(thread_count(), thread_name_prefix="quantlab-trace") as pool:
        for number, batch in enumerate(batches):
            for piece in pieces(batch, size.count(batch), part):
                with in_batch(number):
                    wanted, got = (r.read_one(piece) if part is None else r.read_part(piece) for r in readers)
                same = [name for name in tensors if wanted[name].shape == got[name].shape and wanted[name].size]
                compared.update(same)
                pairs = ([values[name] for name in same] for values in (wanted, got))
                for name, (signal2, noise2) in zip(same, pool.map(_signal_and_noise, *pairs), strict=True):
                    signal[name] += signal2
                    noise[name] += noise2
                samples += size.count(piece)
                if on_sample is not None:
                    on_sample(samples)
    return {name: float(sqnr_db(signal[name], noise[name])) for name in tensors if name in compared}


def _signal_and_noise(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> tuple[float, float]:
    """Sums of squares in float64, of the values that are right and of the error."""
    signal = np.ravel(wanted).astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinity less infinity, of a mask of attention: its SQNR is not a number
        noise = np.ravel(got) - signal
    # no `@`: its library would start threads of its own beside those that call this
    return float(np.einsum("i,i->", signal, signal)), float(np.einsum("i,i->", noise, noise))


def _shared_tensors(fp32: onnx.ModelProto, qdq: onnx.ModelProto) -> list[str]:
    """Float tensors of both graphs that a QuantizeLinear reads or that leave the network."""
    made = [name for node in fp32.graph.node for name in node.output]
    view = GraphView(qdq)
    wanted = {n.input[0] for n in view.qdq_nodes if n.op_type == "QuantizeLinear"} | set(view.outputs)
    inside = {name for node in qdq.graph.node for name in node.output}
    floats = set(ActivationReader(fp32, None).tensors)
    others = read_rewritten(qdq).tensors
    return [name for name in made if name in wanted and name in inside and name in floats and name not in others]


def weight_errors_of(fp32: onnx.ModelProto, qdq: onnx.ModelProto) -> tuple[tuple[WeightError, ...], int]:
    """Find what quantization does to every weight. Nodes are matched by their output, else by name.

    Args:
        fp32: The FP32 model.
        qdq: The Q/DQ model that was made from it.

    Returns:
        (the error of every weight, how many weights could not be matched).
    """
    original = GraphView(prepare(fp32))
    view = GraphView(qdq)
    others = read_rewritten(qdq).nodes
    errors, unmatched = [], 0
    for node in view.proto.graph.node:
        rule = RULES.get(node.op_type)
        if rule is None or rule.weight_input is None or len(node.input) <= rule.weight_input:
            continue
        dq = view.producer.get(node.input[rule.weight_input])
        if dq is None or dq.op_type != "DequantizeLinear" or not view.is_weight(dq):
            continue
        kept, axis = _dequantized(view, dq)
        maker = original.producer.get(node.output[0], original.named.get(node.name))
        is_same = maker is not None and maker.op_type == node.op_type and len(maker.input) > rule.weight_input
        values = original.constant(maker.input[rule.weight_input]) if maker is not None and is_same else None
        if values is None or kept is None or values.shape != kept.shape or node.name in others:
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
