"""Which layers of a Q/DQ model to leave in float where it is far from FP32, and what that brings: measured.

The error trace says where the noise grows; the layers there are switched to float one at a time, everything else
staying in INT8. Those that help most go together, one more each time, until the outputs are close enough. What is
reported is the model that `quantize --exclude` writes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from quantlab.calibration import CalibrationTable
from quantlab.comparison import ErrorTrace
from quantlab.data import Batch, BatchSize
from quantlab.numerics import ErrorSums, error_sums
from quantlab.onnx_model import GraphView, input_specs, load_model
from quantlab.ort import Session
from quantlab.qdq import Selection, calibrated_name, exactly, import_scales, quantize_model
from quantlab.qdq.planning import plan
from quantlab.qdq.rules import weighted_nodes
from quantlab.tune.switched_graph import SwitchedGraph, switched_graph_of
from quantlab.tune.switched_model import Outputs, SwitchedModel

LOW_DB = 20.0
"""Below this a model is called far from FP32, and this is what a hint tries to reach."""
TRIED, MOST = 12, 8
"""Layers that are switched to float one at a time; the most that are proposed together."""
LEAST_GAIN_DB = 0.1
"""A layer that brings less, beside the others, is not proposed."""
SAME_DB = 0.5
"""The model made anew from the scales of the given one must be as close to FP32."""
SAMPLES = 32


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Layers to leave in float.

    Attributes:
        layers: Names of nodes, those that help most first.
        sqnr_db: SQNR of the worst output of the model as it is.
        without_db: The same with these layers in float.
        samples: How many both were measured on.
    """

    layers: tuple[str, ...]
    sqnr_db: float
    without_db: float
    samples: int


def propose_exclusion(
    fp32: onnx.ModelProto, quantized: onnx.ModelProto, trace: ErrorTrace, batches: Sequence[Batch]
) -> Exclusion | None:
    """Find the layers whose error costs most.

    Args:
        fp32: The FP32 model.
        quantized: A Q/DQ model of it.
        trace: How the error grows along the network.
        batches: A few; at most `SAMPLES` samples of them are used.

    Returns:
        The layers, or None where leaving layers in float does not help, or its scales do not make the model anew.

    Raises:
        DataError: The batches do not fit.
        GraphError: A model cannot be run.
    """
    fp32, few = load_model(fp32), _few(fp32, batches)
    layers = _int8_layers(quantized)
    table = import_scales(quantized)
    made = quantize_model(fp32, table, Selection(include=tuple(map(exactly, layers))))
    graph = switched_graph_of(fp32, made)
    judge = _Judge(graph, few)
    given = judge.of_model(quantized)
    if not layers or abs(judge.without(()) - given) > SAME_DB:
        return None
    gains = {layer: judge.without((layer,)) - given for layer in _suspects(graph, trace, layers)}
    best = sorted((layer for layer in gains if gains[layer] > 0), key=lambda layer: -gains[layer])[:MOST]
    chosen = _together(judge, best, given)
    if not chosen:
        return None
    excluded = _closed(graph, layers, chosen, table)
    kept = Selection(include=tuple(map(exactly, layers)), exclude=tuple(map(exactly, excluded)))
    without = judge.of_model(quantize_model(fp32, table, kept).model)
    samples = sum(BatchSize.of(input_specs(fp32)).count(batch) for batch in few)
    return Exclusion(excluded, given, without, samples) if without >= given + LEAST_GAIN_DB else None


def _closed(
    graph: SwitchedGraph, layers: Collection[str], chosen: Sequence[str], table: CalibrationTable
) -> tuple[str, ...]:
    """The chosen layers, and the sums behind them that would then take another branch, of which no range is known."""
    excluded, include = tuple(chosen), tuple(map(exactly, layers))
    while True:
        read = plan(graph.prepared, Selection(include, tuple(map(exactly, excluded)))).activations
        lost = [node for node, _, tensor in read if calibrated_name(tensor, table.amax) not in table.amax]
        if not lost:
            return excluded
        excluded = (*excluded, *dict.fromkeys(lost))


def _few(fp32: onnx.ModelProto, batches: Sequence[Batch]) -> list[Batch]:
    """Batches of at most `SAMPLES` samples in all, but one at least."""
    size, samples = BatchSize.of(input_specs(fp32)), 0
    found: list[Batch] = []
    for batch in batches:
        samples += size.count(batch)
        if found and samples > SAMPLES:
            break
        found.append(batch)
    return found


def _int8_layers(quantized: onnx.ModelProto) -> list[str]:
    """Names of the weighted nodes that read INT8, in network order."""
    view = GraphView(quantized)
    return [
        node.name
        for node, _ in weighted_nodes(quantized.graph)
        if any(view.maker(name, "DequantizeLinear") is not None for name in node.input)
    ]


def _together(judge: _Judge, layers: Sequence[str], given: float) -> tuple[str, ...]:
    """The shortest run of layers, from the first on, that is close enough, or the best; without those that bring
    nothing beside the others."""
    chosen: tuple[str, ...] = ()
    reached = given
    for layer in layers:
        with_it = judge.without((*chosen, layer))
        if with_it >= reached + LEAST_GAIN_DB:
            chosen, reached = (*chosen, layer), with_it
        if reached >= LOW_DB:
            break
    for layer in chosen[:-1]:
        rest = tuple(other for other in chosen if other != layer)
        without = judge.without(rest)
        if without >= min(reached, LOW_DB) and without > reached - LEAST_GAIN_DB:
            chosen, reached = rest, without
    return chosen


def _suspects(graph: SwitchedGraph, trace: ErrorTrace, layers: Collection[str]) -> list[str]:
    """The layers over which the noise grows most, by the tensors of the trace before and behind them."""
    noise = {tensor: 10 ** (-db / 10) for tensor, db in trace.tensors.items() if not math.isnan(db)}
    view = GraphView(graph.prepared)
    grown = {}
    for node in graph.prepared.graph.node:
        if node.name in layers:
            before = [noise[t] for t in _nearest(view, node.input, noise, forward=False)]
            behind = [noise[t] for t in _nearest(view, node.output, noise, forward=True)]
            grown[node.name] = max(behind, default=0.0) - max(before, default=0.0)
    return sorted(grown, key=lambda name: -grown[name])[:TRIED]


def _nearest(view: GraphView, start: Sequence[str], known: Mapping[str, float], *, forward: bool) -> Iterator[str]:
    """The first tensors of `known` on every way from some tensors on, forward or backward."""
    queue, seen = list(start), set(start)
    while queue:
        tensor = queue.pop()
        if tensor in known:
            yield tensor
            continue
        if forward:
            further = [out for node, _ in view.readers.get(tensor, ()) for out in node.output]
        else:
            maker = view.producer.get(tensor)
            further = [] if maker is None else list(maker.input)
        queue += [name for name in further if name not in seen]
        seen.update(further)


class _Judge:
    """The SQNR of the worst output with some layers in float, on a few batches."""

    def __init__(self, graph: SwitchedGraph, batches: Sequence[Batch]) -> None:
        self._model, self._sites = SwitchedModel(graph), graph.sites
        self._batches = [(batch, *self._model.run_fp32(batch)) for batch in batches]
        self._known: dict[frozenset[str], float] = {}

    def without(self, layers: Sequence[str]) -> float:
        """With these layers in float and all else in INT8."""
        key = frozenset(layers)
        if key not in self._known:
            on = [site for site in self._sites if site.node not in key]
            self._known[key] = self._worst(self._model.run(batch, on, starts) for batch, _, starts in self._batches)
        return self._known[key]

    def of_model(self, model: onnx.ModelProto) -> float:
        """Of another model with the same outputs, as it is written."""
        session = Session(model, optimize=False)
        return self._worst(session.run(batch, self._model.outputs) for batch, _, _ in self._batches)

    def _worst(self, results: Iterator[Outputs]) -> float:
        sums = {name: ErrorSums() for name in self._model.float_outputs}
        for (_, wanted, _), got in zip(self._batches, results, strict=True):
            for name in sums:
                sums[name] += error_sums(wanted[name], got[name], name, finite=False)
        return min((total.sqnr_db for total in sums.values()), default=math.inf)
