"""Empirical bias correction: quantization shifts the mean of a layer's output; its float bias takes the shift back.

Nagel, van Baalen, Blankevoort, Welling: "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, section 4.2 (with data): `b += E[y] - E[y_q]` per output channel, where y_q is the layer with quantized
weights and quantized inputs, the inputs taken from the FP32 network. All layers are measured in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantlab.calibration import Progress
from quantlab.data import Batches, BatchSize, notices_of
from quantlab.errors import DataError, GraphError, expect_type, in_batch
from quantlab.onnx_model import (
    QDQ_OPS,
    FreshNames,
    GraphView,
    Model,
    attribute,
    copy_model,
    input_specs,
    load_model,
    opset_of,
    tensor_names,
    why_invalid,
)
from quantlab.ort import Session
from quantlab.qdq import Quantized, prepare
from quantlab.qdq.rules import row_of


@dataclass(frozen=True, slots=True)
class _Layer:
    """A quantized layer.

    Attributes:
        output: What it gives.
        mean: The output of the probe that holds E[y - y_q], float32 (channels,).
    """

    output: str
    mean: str


def correct_bias(model: Model, quantized: Quantized, batches: Batches, on_batch: Progress | None = None) -> Quantized:
    """Correct the biases of a quantized model; scales, weights and nodes stay as they are.

    Args:
        model: The FP32 model that it was made from.
        quantized: The quantized model.
        batches: Calibration data. A last batch too short for a network with a fixed batch size is left out; the
            warnings name it.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        The corrected model; its warnings say how many layers were corrected. A layer whose bias is missing gets one;
        layers with a computed bias are left alone.

    Raises:
        DataError: There are no batches, they do not fit, or no layer has a bias to correct.
        GraphError: ONNX Runtime cannot run the model.
    """
    expect_type(quantized, Quantized, "the quantized model", "give what quantlab.quantize returns")
    prepared = prepare(load_model(model))
    probe, layers = _probe(prepared, quantized.model)
    session = Session(probe, optimize=False)
    size = BatchSize.of(input_specs(prepared))
    whole = size.whole(batches)
    total: dict[str, NDArray[np.float64]] = {}
    samples = 0
    for number, batch in enumerate(whole):
        with in_batch(number):
            count = size.count(batch)
            means = session.run(batch, [layer.mean for layer in layers])
        for name, mean in means.items():
            total[name] = total.get(name, np.zeros(mean.shape)) + count * mean.astype(np.float64)
        samples += count
        if on_batch:
            on_batch(samples)
    if samples == 0:
        raise DataError("there are no batches to correct the biases with", hint="the stream is empty: check the data")
    shifts = {layer.output: (total[layer.mean] / samples).astype(np.float32) for layer in layers}
    corrected = copy_model(quantized.model)
    names = FreshNames(tensor_names(corrected))
    for node in corrected.graph.node:
        if node.output[0] in shifts:
            _add_to_bias(corrected, node, shifts[node.output[0]], names)
    reason = why_invalid(corrected)
    if reason is not None:
        raise GraphError(f"the corrected model is not valid ONNX: {reason}", hint="please report this model")
    note = f"the biases of {len(layers)} layers were corrected with {samples} samples"
    return replace(quantized, model=corrected, warnings=(*quantized.warnings, note, *notices_of(whole)))


def _probe(prepared: onnx.ModelProto, qdq: onnx.ModelProto) -> tuple[onnx.ModelProto, list[_Layer]]:
    """The FP32 network, beside each layer its quantized twin on the same inputs, and the mean of their difference."""
    view = GraphView(qdq)
    probe = copy_model(prepared)
    graph = probe.graph
    names = FreshNames(tensor_names(prepared) | tensor_names(qdq))
    known = {t.name for t in graph.initializer}
    graph.initializer.extend(t for t in qdq.graph.initializer if t.name not in known)
    graph.node.extend(n for n in qdq.graph.node if n.op_type in QDQ_OPS)
    layers = []
    for node in qdq.graph.node:
        if row_of(node.op_type, node.domain).bias_input is None or not _can_correct(view, node):
            continue
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        output = node.output[0]
        twin.name, twin.output[0] = f"{node.name}/twin", names.new(f"{output}/twin")
        layer, error = _Layer(output, names.new(f"{output}/mean")), names.new(f"{output}/error")
        graph.node.extend([twin, helper.make_node("Sub", [output, twin.output[0]], [error])])
        weight = view.weight(view.producer[node.input[1]])
        rank = 2 if node.op_type == "Gemm" or weight is None else weight.ndim
        _append_mean(probe, error, layer.mean, rank, names)
        layers.append(layer)
    del graph.output[:]
    graph.output.extend(onnx.ValueInfoProto(name=layer.mean) for layer in layers)
    if not layers:
        raise DataError("no layer of the model has a bias that can be corrected", hint="leave the correction out")
    return probe, layers


def _can_correct(view: GraphView, node: onnx.NodeProto) -> bool:
    quantized = all(view.maker(name, "DequantizeLinear") is not None for name in node.input[:2])
    has_bias = len(node.input) > 2 and bool(node.input[2])
    bias = view.constant(node.input[2]) if has_bias else None
    plain = not has_bias or (bias is not None and bias.ndim == 1)
    return quantized and plain and attribute(node, "beta", 1.0) == 1.0


def _append_mean(probe: onnx.ModelProto, error: str, mean: str, rank: int, names: FreshNames) -> None:
    """`mean` (C,) of `error` (N, C, ...): over all axes but the channels."""
    moved, flat = names.new(f"{error}/moved"), names.new(f"{error}/flat")
    order = [1, 0, *range(2, rank)]
    probe.graph.node.append(helper.make_node("Transpose", [error], [moved], perm=order))
    probe.graph.node.append(helper.make_node("Flatten", [moved], [flat], axis=1))
    if opset_of(probe) < 18:
        probe.graph.node.append(helper.make_node("ReduceMean", [flat], [mean], axes=[1], keepdims=0))
        return
    axes = names.new(f"{mean}/axes")  # an input since opset 18
    probe.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), axes))
    probe.graph.node.append(helper.make_node("ReduceMean", [flat, axes], [mean], keepdims=0))


def _add_to_bias(model: onnx.ModelProto, node: onnx.NodeProto, shift: NDArray[np.float32], names: FreshNames) -> None:
    """A new bias for this node alone: other nodes may share the old one."""
    old = next((t for t in model.graph.initializer if len(node.input) > 2 and t.name == node.input[2]), None)
    value = shift + (numpy_helper.to_array(old) if old is not None else np.float32(0))
    name = names.new(f"{node.output[0]}_bias")
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    inputs = [*node.input[:2], name]
    del node.input[:]
    node.input.extend(inputs)
    if old is not None and not any(old.name in n.input for n in model.graph.node):
        model.graph.initializer.remove(old)
