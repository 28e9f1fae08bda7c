"""What an observer is. A user's own needs these two methods and nothing else."""

from __future__ import annotations

import copy
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Observer(Protocol):
    """Accumulates over batches and says how much of the range to keep."""

    def observe(self, x: NDArray[np.float32]) -> None:
        """Take one calibration batch of a tensor: float32, any shape, to read only. NaN or infinity raise DataError.

        The observers of different tensors are called from several threads, that of one tensor by one at a time.
        """

    def compute_amax(self) -> NDArray[np.float32]:
        """float32 >= 0 of shape (). Pure and repeatable; NotCalibratedError before any data."""


O = TypeVar("O", bound=Observer)  # noqa: E741


def fresh(prototype: O) -> O:
    """A new observer with the settings of `prototype`, which itself never sees data: one is needed per tensor."""
    return copy.deepcopy(prototype)


def algorithm_name(observer: Observer) -> str:
    """The name recorded in results: the observer's own `name`, else its class in lower case."""
    return str(getattr(observer, "name", type(observer).__name__.lower()))
