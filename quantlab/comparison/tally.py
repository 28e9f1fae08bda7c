"""What is kept of one backend while the batches go by: a row per batch, summed up at the end.

A row is made as a whole and kept in one step, so that an interrupted comparison consists of whole batches.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.comparison.backend import Outputs
from quantlab.comparison.metrics import ClassificationCounts, classify, sample_sqnr_db
from quantlab.comparison.task import TaskMetric
from quantlab.data import Labels
from quantlab.data.python_file import FAILURES, described
from quantlab.errors import DataError, QuantlabError
from quantlab.numerics import ErrorSums, OutputError, error_sums

WORST = 10
"""Samples of a model that are listed."""


@dataclass(frozen=True, slots=True)
class WorstSample:
    """A sample whose outputs moved far.

    Attributes:
        index: Its place in the data, from 0.
        sqnr_db: Over all outputs whose error is measured.
        fp32_class: The best class that FP32 gives, None without scores.
        quantized_class: The best class that this model gives, None without scores.
        label: Its label, None without labels.
    """

    index: int
    sqnr_db: float
    fp32_class: int | None
    quantized_class: int | None
    label: int | None


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch of one backend against FP32.

    Attributes:
        errors: Per output.
        runtime: Against the same Q/DQ model on ONNX Runtime, over the same outputs.
        samples: float64 (N,): the SQNR of every sample.
        counts: Of the class scores, None if nothing is read as such.
        metric: float64 (N,): the user's metric of every sample, None for none or one of the whole set.
        unequal: Of the outputs whose error is not measured: how many values are not FP32's, of how many.
    """

    errors: dict[str, ErrorSums]
    runtime: ErrorSums
    samples: NDArray[np.float64]
    counts: ClassificationCounts | None
    metric: NDArray[np.float64] | None
    unequal: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Truth:
    """What every backend is judged by in one batch.

    Attributes:
        outputs: FP32's.
        labels: int64 (size,), or None.
        size: How many samples there are.
        scores: The output that is read as class scores, if any.
    """

    outputs: Outputs
    labels: Labels | None
    size: int
    scores: str | None


@dataclass
class Tally:
    """One backend against FP32.

    Attributes:
        name: The backend's.
        outputs: The names of the outputs whose error is measured.
        metric: The user's; no other backend uses this object.
        rows: One per batch.
        failed: Why it is out of the comparison, or empty.
        metric_failed: What went wrong in the metric, or empty.
    """

    name: str
    outputs: Sequence[str]
    metric: TaskMetric | None = None
    rows: list[BatchRow] = field(default_factory=list)
    failed: str = ""
    metric_failed: str = ""

    def row(self, truth: Truth, outputs: Outputs, twin: Outputs | None) -> BatchRow:
        """Judge one batch; nothing is kept of it yet, but by a metric of the whole set.

        Args:
            truth: What FP32 gives and what the labels say.
            outputs: The outputs of this backend.
            twin: The outputs of the same Q/DQ model on ONNX Runtime, where they are known.

        Returns:
            What is known of the batch.

        Raises:
            DataError: Outputs are missing, do not fit or have NaN.
        """
        missing = [name for name in truth.outputs if name not in outputs]
        if missing:
            raise DataError(
                f"backend '{self.name}' gives no output '{missing[0]}' (it gives {', '.join(outputs) or 'none'})",
                hint="its outputs need FP32's names",
            )
        wanted, scores = truth.outputs, truth.scores
        errors = {n: error_sums(wanted[n], outputs[n], f"{self.name}/{n}") for n in self.outputs}
        runtime = ErrorSums()
        if twin is not None:
            for name in self.outputs:
                runtime += error_sums(twin[name], outputs[name], f"{self.name}/{name}")
        counts = classify(wanted[scores], outputs[scores], truth.labels) if scores else None
        samples = sample_sqnr_db(wanted, outputs, self.outputs, truth.size)
        unequal = {n: _unequal(wanted[n], outputs[n]) for n in wanted if n not in self.outputs}
        return BatchRow(errors, runtime, samples, counts, self._metric_of(truth, outputs), unequal)

    def _metric_of(self, truth: Truth, outputs: Outputs) -> NDArray[np.float64] | None:
        if self.metric is None or self.metric_failed:
            return None
        try:
            read_only = {name: _read_only(values) for name, values in outputs.items()}
            return self.metric.of_batch(read_only, truth.labels, truth.size)
        except QuantlabError as error:
            self.metric_failed = error.message
        except FAILURES as error:  # the user's code: its traceback is the message, everything else goes on
            self.metric_failed = "".join(traceback.format_tb(error.__traceback__)) + described(error)
        return None

    @property
    def counts(self) -> ClassificationCounts:
        """The class scores of all batches."""
        return ClassificationCounts.joined([row.counts for row in self.rows if row.counts is not None])

    @property
    def runtime(self) -> ErrorSums:
        """Against the same Q/DQ model on ONNX Runtime, over all batches and outputs."""
        return sum((row.runtime for row in self.rows), ErrorSums())

    def results(self) -> dict[str, OutputError]:
        """The errors of every output; empty for a backend that failed."""
        if self.failed:
            return {}
        sums = {name: sum((row.errors[name] for row in self.rows), ErrorSums()) for name in self.outputs}
        return {name: total.result() for name, total in sums.items() if total.count}

    def unequal(self) -> dict[str, float]:
        """Share of the values that are not FP32's, of every output whose error is not measured; none that is equal."""
        names = self.rows[0].unequal if self.rows and not self.failed else {}
        sums = {name: np.sum([row.unequal[name] for row in self.rows], axis=0) for name in names}
        return {name: float(differ / count) for name, (differ, count) in sums.items() if differ}

    def metric_values(self) -> NDArray[np.float64] | None:
        """float64 (samples,): the user's metric of every sample; None for none or one of the whole set."""
        values = [row.metric for row in self.rows if row.metric is not None]
        return np.concatenate(values) if values else None

    def worst(self, counts: ClassificationCounts, labels: Labels | None) -> tuple[WorstSample, ...]:
        """List the samples of smallest SQNR, worst first.

        Args:
            counts: The class scores, empty where nothing is read as such.
            labels: int64 (samples,), negative for a sample without one; None without labels.

        Returns:
            At most WORST samples; those that are equal to FP32's are left out.
        """
        values = np.concatenate([row.samples for row in self.rows]) if self.rows else np.zeros(0)
        found = []
        for index in np.argsort(values, kind="stable")[:WORST]:
            if not np.isfinite(values[index]) and values[index] > 0:
                continue
            pair = counts.pair(int(index))
            label = None if labels is None or labels[index] < 0 else int(labels[index])
            found.append(WorstSample(int(index), float(values[index]), *pair, label))
        return tuple(found)


def _unequal(wanted: NDArray[Any], found: NDArray[Any]) -> tuple[int, int]:
    """How many values differ, and how many there are; all of them where the shapes differ, as of found objects."""
    if np.shape(wanted) != np.shape(found):
        count = max(np.size(wanted), np.size(found))
        return count, count
    return int(np.sum(wanted != found)), np.size(wanted)


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    """A view that a metric cannot write into: FP32's outputs are the reference of all others."""
    view: NDArray[Any] = np.asarray(values).view()
    view.flags.writeable = False
    return view
