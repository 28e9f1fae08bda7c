"""Task metrics of the user's own: a function of outputs and labels, per sample, or an object for the whole set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import ConfigError, DataError

Outputs = Mapping[str, NDArray[Any]]
Labels = NDArray[Any] | None
PerSample = Callable[[Outputs, Labels], NDArray[np.floating]]
"""(outputs of a batch, its labels or None) -> (N,) a value per sample, higher is better; their mean is reported."""


@runtime_checkable
class WholeSet(Protocol):
    """A metric that is no mean over samples (mAP, mIoU): its class is given, one object is made per backend."""

    def update(self, outputs: Outputs, labels: Labels) -> None:
        """Take one batch."""

    def compute(self) -> float:
        """The value over everything so far, higher is better."""


Metric = PerSample | type[WholeSet]


class TaskMetric:
    """One backend's value of a user's metric."""

    def __init__(self, metric: Metric) -> None:
        self._object: WholeSet | None = None
        self._function: Any = metric
        if isinstance(metric, type):
            try:
                made = metric()
            except Exception as error:
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
        self._values: list[NDArray[np.float64]] = []

    def add(self, outputs: Outputs, labels: Labels, size: int) -> None:
        """One batch of `size` samples. DataError if the function does not give a value per sample."""
        if self._object is not None:
            self._object.update(outputs, labels)
            return
        values = np.asarray(self._function(outputs, labels), np.float64)
        if values.shape != (size,):
            raise DataError(
                f"the metric gave shape {values.shape} for {size} samples", hint=f"return a value per sample, ({size},)"
            )
        self._values.append(values)

    def value(self) -> float:
        """The mean, or what the object computes."""
        return float(self._object.compute()) if self._object is not None else float(np.concatenate(self._values).mean())

    @property
    def samples(self) -> NDArray[np.float64] | None:
        """(N,) the value of every sample, None for a metric of the whole set."""
        return None if self._object is not None else np.concatenate(self._values)
