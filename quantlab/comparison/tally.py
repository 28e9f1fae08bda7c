"""What is summed up of one backend while the batches go by."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.comparison.backend import Outputs
from quantlab.comparison.metrics import ClassificationCounts, ErrorSums, OutputError, sample_sqnr_db
from quantlab.comparison.task import TaskMetric
from quantlab.errors import DataError

WORST = 10
"""Samples of a model that are listed."""


@dataclass(frozen=True, slots=True)
class WorstSample:
    """A sample whose outputs moved far. index: in the data, from 0. fp32_class, own_class, label: None without scores
    or labels."""

    index: int
    sqnr_db: float
    fp32_class: int | None
    own_class: int | None
    label: int | None


class Tally:
    """One backend against FP32. failed: why it is out of the comparison, or empty."""

    def __init__(self, name: str, outputs: list[str], scores: str | None, metric: TaskMetric | None) -> None:
        self.name, self._scores = name, scores
        self.errors = {output: ErrorSums() for output in outputs}
        self.runtime = ErrorSums()
        self.counts = ClassificationCounts()
        self.metric = metric
        self.metric_failed = ""
        self.failed = ""
        self._samples: list[NDArray[np.float64]] = []

    def add(
        self, reference: Outputs, outputs: Outputs, labels: NDArray[np.int64] | None, twin: Outputs | None, size: int
    ) -> None:
        """One batch of `size` samples; labels int64 (size,). DataError for outputs that do not fit or have NaN."""
        missing = [name for name in self.errors if name not in outputs]
        if missing:
            raise DataError(
                f"backend '{self.name}' gives no output '{missing[0]}' (it gives {', '.join(outputs) or 'none'})",
                hint="its outputs need FP32's names",
            )
        for name, sums in self.errors.items():
            sums.add(reference[name], outputs[name], f"{self.name}/{name}")
            if twin is not None:
                self.runtime.add(twin[name], outputs[name], f"{self.name}/{name}")
        self._samples.append(sample_sqnr_db(reference, outputs, list(self.errors), size))
        if self._scores:
            self.counts.add(reference[self._scores], outputs[self._scores], labels)
        if self.metric is not None and not self.metric_failed:
            try:
                self.metric.add({name: _read_only(values) for name, values in outputs.items()}, labels, size)
            except Exception:  # the user's own code: its traceback is the message, everything else goes on
                self.metric_failed = traceback.format_exc()

    def drop_scores(self) -> None:
        """Nothing is read as class scores, from the first batch on."""
        self._scores, self.counts = None, ClassificationCounts()

    def results(self) -> dict[str, OutputError]:
        """The errors of every output; empty for a backend that failed."""
        return {} if self.failed else {name: sums.result() for name, sums in self.errors.items() if sums.count}

    def worst(self, labels: NDArray[np.int64] | None) -> tuple[WorstSample, ...]:
        """The samples of smallest SQNR, worst first."""
        values = np.concatenate(self._samples) if self._samples else np.zeros(0)
        found = []
        for index in np.argsort(values, kind="stable")[:WORST]:
            if not np.isfinite(values[index]) and values[index] > 0:
                continue
            pair = self.counts.pair(int(index))
            label = None if labels is None or labels[index] < 0 else int(labels[index])
            found.append(WorstSample(int(index), float(values[index]), *pair, label))
        return tuple(found)


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    """A view that a metric cannot write into: FP32's outputs are the reference of all others."""
    view: NDArray[Any] = np.asarray(values).view()
    view.flags.writeable = False
    return view


def agreement_by_class(counts: ClassificationCounts) -> Mapping[int, tuple[int, int]]:
    """Class that FP32 gives -> (samples, those to which the backend gives the same)."""
    reference, own = counts.classes
    return {
        int(c): (int((reference == c).sum()), int(((reference == c) & (own == c)).sum())) for c in np.unique(reference)
    }
