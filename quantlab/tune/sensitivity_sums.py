"""What one choice of INT8 has done to the outputs so far: a sum per batch, added up exactly at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from quantlab.comparison.metrics import classify
from quantlab.comparison.task import Metric, TaskMetric
from quantlab.data.python_file import FAILURES, described
from quantlab.errors import DataError, QuantlabError
from quantlab.numerics import squares
from quantlab.tune.sensitivity_feed import FedBatch
from quantlab.tune.sensitivity_table import Effect

T = TypeVar("T")
Outputs = Mapping[str, NDArray[Any]]


def relative_noise(errors: Mapping[str, float], power: Mapping[str, float]) -> float:
    """Squared error over power, the mean over the outputs; an output that is zero in FP32 is right or wrong as a whole.

    Args:
        errors: Output -> sum of its squared errors.
        power: Output -> sum of FP32's squares.

    Returns:
        `10 ** (-SQNR / 10)` for a single output.
    """
    return math.fsum(errors[n] / p if p else float(errors[n] > 0) for n, p in power.items()) / len(power)


class EffectSums:
    """One choice of sites against FP32. The order of the batches does not matter but to a metric of the whole set.

    Args:
        metric: Of the user, or None.
    """

    def __init__(self, metric: Metric | None) -> None:
        self._errors: dict[str, list[float]] = {}
        self._values: list[float] = []
        self._metric = TaskMetric(metric) if metric is not None else None
        self._samples = self._batches = self._scored = self._same = self._labeled = self._right = 0

    def add(self, wanted: Outputs, got: Outputs, fed: FedBatch, scores: str | None) -> None:
        """Take one batch.

        Args:
            wanted: FP32's outputs.
            got: The outputs to judge.
            fed: The batch.
            scores: The output that is read as class scores, if any.

        Raises:
            DataError: The metric fails.
        """
        for name, reference in wanted.items():
            if np.issubdtype(reference.dtype, np.floating):
                error = squares(got[name].astype(np.float64) - reference.astype(np.float64))
                self._errors.setdefault(name, []).append(float(error))
        if scores is not None:
            counts = classify(wanted[scores], got[scores], fed.labels)
            self._scored += counts.samples
            self._same += int((counts.fp32_class == counts.quantized_class).sum())
            self._labeled += counts.labeled
            self._right += int(counts.right.sum())
        self._samples += fed.size
        self._batches += 1
        metric = self._metric
        if metric is not None:
            values = _of_user(lambda: metric.of_batch(got, fed.labels, fed.size))
            self._values += [] if values is None else [math.fsum(values)]

    def effect(self, power: Mapping[str, float]) -> Effect:
        """What all batches say, given FP32's power; DataError where an output or the metric is not finite."""
        noise = relative_noise({name: math.fsum(parts) for name, parts in self._errors.items()}, power)
        if not math.isfinite(noise):
            raise DataError("an output has NaN or infinity", hint="look for a scale that is far too small")
        changed = 1 - self._same / self._scored if self._scored else None
        return Effect(noise, changed, self._accuracy())

    def _accuracy(self) -> float | None:
        metric = self._metric
        if metric is None:
            return self._right / self._labeled if self._labeled else None
        whole = not self._values
        value = _of_user(lambda: metric.of_set(self._batches)) if whole else math.fsum(self._values) / self._samples
        if not math.isfinite(value):
            raise DataError(f"the metric is {value}", hint="it has to be a number")
        return value


def _of_user(function: Callable[[], T]) -> T:
    """Code of the user: what it raises becomes an error that names it."""
    try:
        return function()
    except QuantlabError:
        raise
    except FAILURES as error:
        raise DataError(
            f"the metric failed: {described(error)}", hint="without --labels it is given None for them"
        ) from error
