"""Empirical bias correction: quantization shifts the mean of a layer's output; its float bias takes the shift back.

Nagel, van Baalen, Blankevoort, Welling: "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, section 4.2 (with data): `b += E[y] - E[y_q]` per output channel, where y_q is the layer with quantized
weights and quantized inputs, the inputs taken from the FP32 network. All layers are measured in one pass.

Layers are corrected one by one, and together the corrections can do harm: what is kept is what is better on samples
that were held back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantlab.calibration import Progress
from quantlab.calibration.made_from import correction_notices, write_correction
from quantlab.data import Batch, Batches, BatchSize, notices_of, stream_facts
from quantlab.data.hash import SamplesHash
from quantlab.errors import DataError, GraphError, Notice, expect_type, in_batch
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
    require_finite,
    tensor_names,
    why_invalid,
)
from quantlab.ort import ActivationReader, Session
from quantlab.ort.pieces import piece_size, pieces
from quantlab.qdq import Quantized, prepare
from quantlab.qdq.rewritten import require_not_rewritten
from quantlab.qdq.rules import row_of
from quantlab.tune.fed_model import FedModel, Samples
from quantlab.tune.held_back import Split, first_few
from quantlab.tune.refine import FEWEST_TO_REFINE, LIKELY, Assignment, error_db, is_better, refine
from quantlab.tune.stage import Stages, no_stages


@dataclass(frozen=True, slots=True)
class _Layer:
    """A quantized layer.

    Attributes:
        output: What it gives.
        mean: The output of the probe that holds E[y - y_q], float32 (channels,).
    """

    output: str
    mean: str


def correct_bias(
    model: Model,
    quantized: Quantized,
    batches: Batches,
    on_batch: Progress | None = None,
    on_stage: Stages = no_stages,
) -> Quantized:
    """Correct the biases of a quantized model where that helps; scales, weights and nodes stay as they are.

    All layers, those of a part of the network, or none are corrected: by the outputs on samples that were held back,
    with corrections from the others. What is kept is computed from all samples. With too few samples to hold any back
    they are judged on those that they come from.

    Args:
        model: The FP32 model that it was made from.
        quantized: The quantized model.
        batches: Calibration data. A last batch too short for a network with a fixed batch size is left out; the
            warnings name it.
        on_batch: Called after every batch with the number of samples so far.
        on_stage: Told of the work that follows it.

    Returns:
        The corrected model; its warnings say how many layers were corrected and what it brings, or that it does not
        help. A layer whose bias is missing gets one; layers with a computed bias are left alone.

    Raises:
        DataError: There are no batches, they do not fit, or no layer has a bias to correct.
        GraphError: ONNX Runtime cannot run the model.
    """
    expect_type(quantized, Quantized, "the quantized model", "give what quantlab.quantize returns")
    require_not_rewritten(quantized.model, "bias correction")
    prepared = prepare(load_model(model))
    probe, layers = _probe(prepared, quantized.model)
    inputs = input_specs(prepared)
    whole = BatchSize.of(inputs).whole(batches)
    shifts = _Shifts(Session(probe, optimize=False), layers, BatchSize.of(inputs))
    outputs = [layer.output for layer in layers]
    named = SamplesHash([spec.name for spec in inputs], BatchSize.of(inputs))
    number = -1
    for number, batch in enumerate(whole):
        with in_batch(number):
            if number == 0 and shifts.size.count(batch) > 1:
                shifts.piece = piece_size([ActivationReader(prepared, outputs)], batch, _COPIES)
            shifts.add(batch)
            named.add(batch, None)
        if on_batch:
            on_batch(shifts.samples)
    if shifts.samples == 0:
        raise DataError("there are no batches to correct the biases with", hint="the stream is empty: check the data")
    preprocess = stream_facts(batches).preprocess
    notices = (*correction_notices(quantized.model, named.data(), preprocess), *notices_of(whole))
    split = Split(whole, inputs, shifts.samples, number + 1)
    rest = shifts
    if split.holds_back:
        for _ in split:
            pass
        held = _Shifts(shifts.session, layers, shifts.size, shifts.piece)
        for batch in (*split.search, *split.proof):
            held.add(batch)
        rest = shifts.without(held)
    kept, text = _kept(prepared, quantized.model, rest.means(), split, whole, on_stage)
    means = shifts.means()
    corrected, _ = _corrected(quantized.model, {name: means[name] for name in outputs if name in kept})
    require_finite(corrected, "the corrected model")
    reason = why_invalid(corrected)
    if reason is not None:
        raise GraphError(f"the corrected model is not valid ONNX: {reason}", hint="please report this model")
    if kept:
        write_correction(corrected, named.data(), shifts.samples, preprocess)
    note = f"the biases of {len(kept)} layers were corrected with {shifts.samples} samples"
    return replace(quantized, model=corrected, warnings=(*quantized.warnings, text, *([note] * bool(kept)), *notices))


_COPIES = 6
"""Of the output of a layer, that the probe holds: of its twin, their difference, that transposed, and what is read."""
ON, OFF = "corrected", "as it is"
MOST_TRIALS = 16
"""Parts of the network that are tried without, or alone with, a correction."""


def _kept(
    fp32: onnx.ModelProto,
    qdq: onnx.ModelProto,
    shifts: Mapping[str, NDArray[np.float32]],
    split: Split,
    whole: Batches,
    on_stage: Stages,
) -> tuple[set[str], Notice]:
    """The layers whose correction helps, and that in words."""
    corrected, biases = _corrected(qdq, shifts)
    model = FedModel(fp32, corrected, [bias.name for bias in biases.values()])
    search, proof = model.samples(split.search), model.samples(split.proof or first_few(whole))
    done = on_stage("judging the correction", (2 + MOST_TRIALS) * search.forwards + 4 * proof.forwards)

    def errors(layers: Assignment[str], samples: Samples) -> NDArray[np.float64]:
        values = {b.name: b.corrected if layers[name] == ON else b.original for name, b in biases.items()}
        found = model.errors(values, samples)
        done(model.forwards)
        return found

    parts = [part for part in (search, proof) if part.count]
    every = {option: dict.fromkeys(biases, option) for option in (ON, OFF)}
    on, off = (np.concatenate([errors(every[o], p) * p.count for p in parts]) for o in (ON, OFF))
    base, other = (ON, OFF) if is_better(on, off, LIKELY) else (OFF, ON)
    chosen, with_all = every[base], parts_db(on, parts)
    if search.count >= FEWEST_TO_REFINE:
        layers, steps = refine(list(biases), base, [other], lambda a: errors(a, search), MOST_TRIALS)
        if steps and is_better(errors(layers, proof), errors(every[base], proof), LIKELY):
            chosen = layers
    kept = {name for name, option in chosen.items() if option == ON}
    where = f"{sum(p.forwards for p in parts)} " + ("held-back samples" if split.holds_back else "samples of its own")
    figures = f"{with_all:.2f} dB with all layers corrected, {parts_db(off, parts):.2f} with none, on {where}"
    if not kept:
        return kept, Notice(f"the biases were left as they are: correcting them is no clear gain ({figures})", "choice")
    return kept, Notice(f"bias correction helps {len(kept)} of {len(biases)} layers ({figures})", "choice")


def parts_db(errors: NDArray[np.float64], parts: Sequence[Samples]) -> float:
    """The SQNR of all parts together.

    Args:
        errors: The error sum of every part.
        parts: The samples they come from, whose numbers are their weights.

    Returns:
        The SQNR, in dB.
    """
    return error_db(errors / sum(part.count for part in parts))


class _Shifts:
    """E[y - y_q] of every layer: sums over samples, so that those of some can be taken out again."""

    def __init__(self, session: Session, layers: Sequence[_Layer], size: BatchSize, piece: int | None = None) -> None:
        self.session, self.size, self.piece = session, size, piece
        self._layers = layers
        self.total: dict[str, NDArray[np.float64]] = {}
        self.samples = 0

    def add(self, batch: Batch) -> None:
        """One batch more."""
        samples = self.size.count(batch)
        for piece in pieces(batch, samples, self.piece):
            count = self.size.count(piece)
            means = self.session.run(piece, [layer.mean for layer in self._layers])
            for layer in self._layers:
                mean = means[layer.mean].astype(np.float64)
                self.total[layer.output] = self.total.get(layer.output, np.zeros(mean.shape)) + count * mean
        self.samples += samples

    def without(self, other: _Shifts) -> _Shifts:
        """What is left without the samples of another."""
        rest = _Shifts(self.session, self._layers, self.size, self.piece)
        rest.total = {name: total - other.total[name] for name, total in self.total.items()}
        rest.samples = self.samples - other.samples
        return rest

    def means(self) -> dict[str, NDArray[np.float32]]:
        """Layer output -> what its bias lacks, float32 (channels,)."""
        return {name: (total / self.samples).astype(np.float32) for name, total in self.total.items()}


@dataclass(frozen=True, slots=True)
class _Bias:
    """A new bias.

    Attributes:
        name: Of the initializer.
        original: What the layer had.
        corrected: What it has now.
    """

    name: str
    original: NDArray[np.float32]
    corrected: NDArray[np.float32]


def _corrected(
    qdq: onnx.ModelProto, shifts: Mapping[str, NDArray[np.float32]]
) -> tuple[onnx.ModelProto, dict[str, _Bias]]:
    """The model with some biases shifted, and those by the output of their layer."""
    corrected = copy_model(qdq)
    names = FreshNames(tensor_names(corrected))
    old = {t.name: numpy_helper.to_array(t) for t in _biases(corrected, shifts)}
    found = {}
    for node in corrected.graph.node:
        if node.output[0] in shifts:
            found[node.output[0]] = _add_to_bias(corrected, node, shifts[node.output[0]], old, names)
    read = {name for node in corrected.graph.node for name in node.input}
    kept = [t for t in corrected.graph.initializer if t.name in read or t.name not in old]
    del corrected.graph.initializer[:]
    corrected.graph.initializer.extend(kept)
    return corrected, found


def _biases(model: onnx.ModelProto, layers: Collection[str]) -> list[onnx.TensorProto]:
    wanted = {n.input[2] for n in model.graph.node if n.output[0] in layers and len(n.input) > 2}
    return [t for t in model.graph.initializer if t.name in wanted]


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


def _add_to_bias(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    shift: NDArray[np.float32],
    old: Mapping[str, NDArray[np.float32]],
    names: FreshNames,
) -> _Bias:
    """A new bias for this node alone: other nodes may share the old one."""
    original = old.get(node.input[2]) if len(node.input) > 2 else None
    original = np.zeros_like(shift) if original is None else original.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        value = np.asarray(shift + original, np.float32)
    name = names.new(f"{node.output[0]}_bias")
    if not np.isfinite(value).all():
        raise DataError(f"bias '{name}' has NaN or infinity after its correction", hint="leave the correction out")
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    inputs = [*node.input[:2], name]
    del node.input[:]
    node.input.extend(inputs)
    return _Bias(name, np.broadcast_to(original, value.shape).astype(np.float32), value)
