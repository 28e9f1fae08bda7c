"""Task metrics of the user: a function of outputs and labels, per sample, or an object for the whole set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quantlab.data.python_file import FAILURES, run_python_file, split_python
from quantlab.errors import ConfigError, DataError

Outputs = Mapping[str, NDArray[Any]]
Labels = NDArray[Any] | None
PerSample = Callable[[Outputs, Labels], NDArray[np.floating]]
"""(outputs of a batch, its labels or None) -> (N,) a value per sample, higher is better; their mean is reported."""


@runtime_checkable
class WholeSet(Protocol):
    """A metric that is no mean over samples (mAP, mIoU): its class is given, one object is made per backend."""

    def update(self, outputs: Outputs, labels: Labels) -> None:
        """Take one batch.

        Args:
            outputs: Of the backend, by name; they cannot be written into.
            labels: int64 (N,), or None.
        """

    def compute(self) -> float:
        """The value over everything so far, higher is better."""


Metric = PerSample | type[WholeSet]


class TaskMetric:
    """A user's metric of one backend.

    Args:
        metric: A function, or a class.

    Raises:
        ConfigError: It is a class whose objects cannot be made, or are no metrics.
    """

    def __init__(self, metric: Metric) -> None:
        self._object: WholeSet | None = None
        self._batches = 0  # that the object was given
        self._function: Any = metric
        if not callable(metric):
            raise ConfigError(
                f"the metric is a {type(metric).__name__}, expected a function or a class",
                hint="a metric is a function of (outputs, labels), or a class with update and compute",
            )
        if isinstance(metric, type):
            try:
                made = metric()
            except FAILURES as error:
                reason = f"{type(error).__name__}: {error}"
                raise ConfigError(
                    f"metric {metric.__name__}() failed: {reason}", hint="its objects are made without arguments"
                ) from error
            if not isinstance(made, WholeSet):
                raise ConfigError(
                    f"metric {metric.__name__} is a class without update and compute",
                    hint="a metric is a function of (outputs, labels), or a class with update and compute",
                )
            self._object = made

    def of_batch(self, outputs: Outputs, labels: Labels, size: int) -> NDArray[np.float64] | None:
        """Judge one batch.

        Args:
            outputs: Of the backend, by name.
            labels: int64 (size,), or None.
            size: How many samples there are.

        Returns:
            float64 (size,), or None for a metric of the whole set, which keeps the batch itself.

        Raises:
            DataError: The function does not give a value per sample.
        """
        if self._object is not None:
            self._batches += 1  # before it: an update that is interrupted has taken a part of the batch
            self._object.update(outputs, labels)
            return None
        values = np.asarray(self._function(outputs, labels), np.float64)
        if values.shape != (size,):
            raise DataError(
                f"the metric gave shape {values.shape} for {size} samples", hint=f"return a value per sample, ({size},)"
            )
        return values

    def of_set(self, batches: int) -> float:
        """What an object computes of the whole set.

        Args:
            batches: How many batches the comparison kept.

        Returns:
            Its value.

        Raises:
            DataError: It was interrupted while it took another one.
        """
        assert self._object is not None
        if self._batches != batches:
            raise DataError(
                f"the metric has taken {self._batches} batches, the comparison was interrupted after {batches}",
                hint="run it again to the end",
            )
        return float(self._object.compute())


def load_metric(text: str) -> Metric:
    """A metric from a file of the user.

    Args:
        text: `file.py:NAME`.

    Returns:
        What the file has under that name.

    Raises:
        ConfigError: That is not what was given, or the file has no such name.
        DataError: The file cannot be run.
    """
    source = split_python(text)
    if source is None:
        raise ConfigError(
            f"metric '{text}' is not file.py:NAME", hint="a Python file with the metric, and its name after a colon"
        )
    found: Metric = run_python_file(source[0], "metric").named(source[1])
    return found
