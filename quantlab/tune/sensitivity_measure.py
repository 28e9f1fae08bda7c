"""The truth about choices of INT8: the network runs with each of them on every batch, beside FP32 on the same batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from quantlab.calibration import Progress
from quantlab.comparison.backend import comparable
from quantlab.comparison.feed import check_range
from quantlab.comparison.judge import judge_fp32, scores_output
from quantlab.comparison.metrics import ClassificationCounts, classify
from quantlab.data import stream_facts
from quantlab.errors import DataError, in_batch
from quantlab.numerics import squares
from quantlab.tune.sensitivity_feed import EvenSamples, Feed, Judged
from quantlab.tune.sensitivity_sums import EffectSums
from quantlab.tune.sensitivity_table import Effect
from quantlab.tune.switched_graph import Site
from quantlab.tune.switched_model import SwitchedModel


@dataclass(frozen=True, slots=True)
class Reference:
    """FP32 on all batches.

    Attributes:
        data_hash: Names the batches.
        labels_hash: Names the labels; '' without.
        batches: How many there are.
        samples: How many there are.
        power: Sum of the squares of every float output.
        scores: The output that is read as class scores, if any.
        metric: FP32's, None without labels or a metric.
        warnings: About the data and FP32.
    """

    data_hash: str
    labels_hash: str
    batches: int
    samples: int
    power: dict[str, float]
    scores: str | None
    metric: float | None
    warnings: tuple[str, ...]


def run_reference(
    proto: onnx.ModelProto,
    model: SwitchedModel,
    judged: Judged,
    samples: EvenSamples,
    on_batch: Progress | None = None,
) -> Reference:
    """Run FP32 on all batches.

    Args:
        proto: The FP32 model.
        model: The same with switches.
        judged: The data.
        samples: Takes some of them.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        What the choices are judged by.

    Raises:
        DataError: The data do not fit, FP32 is no better than guessing, or has no finite float output.
        GraphError: The model cannot be run.
    """
    feed, sums = Feed(proto, judged), EffectSums(judged.metric)
    proto = comparable(proto)  # the model's own outputs may lie behind what ONNX Runtime cannot run
    powers: dict[str, list[float]] = {name: [] for name in model.float_outputs}
    scores, counts = scores_output(proto), list[ClassificationCounts]()
    for fed in feed:
        with in_batch(fed.number):
            outputs = feed.cut(model.run_fp32(fed.batch)[0], fed)
            if scores is not None and len(outputs[scores]) != fed.size:
                scores, counts = None, []  # rows of something else, such as detections
            if scores is not None:
                if fed.labels is not None:
                    check_range(fed.labels, outputs[scores].shape[1])
                counts.append(classify(outputs[scores], outputs[scores], fed.labels))
            sums.add(outputs, outputs, fed, scores)
            for name, parts in powers.items():
                parts.append(float(squares(outputs[name])))
        samples.take(fed)
        if on_batch:
            on_batch(feed.samples)
    power = _checked({name: math.fsum(parts) for name, parts in powers.items()})
    warnings = _judged(proto, judged, scores, ClassificationCounts.joined(counts), bool(feed.labels_hash))
    metric = sums.effect(power).metric
    return Reference(
        feed.data_hash, feed.labels_hash, feed.batches, feed.samples, power, scores, metric, tuple(warnings)
    )


def _judged(
    proto: onnx.ModelProto, judged: Judged, scores: str | None, counts: ClassificationCounts, has_labels: bool
) -> list[str]:
    """What a reader must know of the data and FP32; DataError if it is no better than guessing."""
    warnings = [str(notice) for notice in stream_facts(judged.batches).notices()]
    if scores is not None and counts.labeled:
        return warnings + judge_fp32(counts, proto, scores)
    if has_labels and judged.metric is None:
        warnings.append("there are labels, but no output of shape (N, classes): they were not used")
    return warnings


def _checked(power: dict[str, float]) -> dict[str, float]:
    if not power:
        raise DataError("the model has no floating point output to measure an error at", hint="is it a detector's end?")
    wrong = next((name for name, value in power.items() if not np.isfinite(value)), None)
    if wrong is not None:
        raise DataError(f"output '{wrong}' of FP32 has NaN or infinity", hint="look at the model itself")
    return power


def measure_effects(
    model: SwitchedModel,
    proto: onnx.ModelProto,
    judged: Judged,
    reference: Reference,
    choices: Sequence[Sequence[Site]],
    on_batch: Progress | None = None,
) -> list[Effect]:
    """Run choices of INT8 on all batches; FP32 runs once per batch.

    Args:
        model: The network with its switches.
        proto: The FP32 model.
        judged: The data.
        reference: What `run_reference` found on them.
        choices: The sites that are in INT8 together.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        One effect per choice.

    Raises:
        DataError: The batches are not those of the reference, or an output is not finite.
        GraphError: The model cannot be run.
    """
    feed = Feed(proto, judged)
    distinct = {frozenset(choice): EffectSums(judged.metric) for choice in choices}
    for fed in feed:
        with in_batch(fed.number):
            outputs, starts = model.run_fp32(fed.batch)
            wanted = feed.cut(outputs, fed)
            for sites, sums in distinct.items():
                sums.add(wanted, feed.cut(model.run(fed.batch, sites, starts), fed), fed, reference.scores)
        if on_batch:
            on_batch(feed.samples)
    if (feed.data_hash, feed.labels_hash) != (reference.data_hash, reference.labels_hash):
        raise DataError(
            "the batches are others in every pass", hint="shuffle and augment nothing: give the same batches each time"
        )
    effects = {sites: sums.effect(reference.power) for sites, sums in distinct.items()}
    return [effects[frozenset(choice)] for choice in choices]
