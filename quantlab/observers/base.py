"""What an observer is. A user's own needs these two methods and nothing else."""

from __future__ import annotations

import copy
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import ConfigError, DataError

AmaxLike = float | np.floating[Any] | NDArray[np.floating[Any]]
"""What an observer may give back: a number, or an array of one number."""


@runtime_checkable
class Observer(Protocol):
    """Accumulates over batches and says how much of the range to keep."""

    def observe(self, x: NDArray[np.float32]) -> None:
        """Take one calibration batch of a tensor: float32, any shape, to read only. NaN or infinity raise DataError.

        The observers of different tensors are called from several threads, that of one tensor by one at a time.
        """

    def compute_amax(self) -> AmaxLike:
        """One finite number >= 0. Pure and repeatable; NotCalibratedError before any data."""


O = TypeVar("O", bound=Observer)  # noqa: E741


def fresh(prototype: O) -> O:
    """A new observer with the settings of `prototype`, which itself never sees data: one is needed per tensor."""
    return copy.deepcopy(prototype)


def algorithm_name(observer: Observer) -> str:
    """The name recorded in results: the observer's own `name`, else its class in lower case."""
    return str(getattr(observer, "name", type(observer).__name__.lower()))


def final_amax(observer: Observer) -> np.float32:
    """What an observer has found, checked: it may be a user's own.

    Raises:
        DataError: It gave something other than one finite number >= 0.
    """
    given = observer.compute_amax()
    name = algorithm_name(observer)
    try:
        amax = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"algorithm '{name}' gave {given!r:.80}, expected one number", hint="return a float from compute_amax"
        ) from error
    if amax.size != 1:
        raise DataError(
            f"algorithm '{name}' gave an array of shape {amax.shape}, expected one number",
            hint="a tensor has one range: return the largest magnitude to keep",
        )
    if not (np.isfinite(amax).all() and (amax >= 0).all()):
        raise DataError(
            f"algorithm '{name}' gave {float(amax.reshape(())):g}, expected a finite number >= 0",
            hint="look at its compute_amax",
        )
    kept: np.float32 = np.float32(amax.reshape(()))
    return kept


def as_observer(algorithm: Observer | type[Observer]) -> Observer:
    """An observer that was given as an object, or as a class that needs no arguments.

    Raises:
        ConfigError: It is neither, or the class needs arguments.
    """
    if isinstance(algorithm, type):
        try:
            algorithm = algorithm()
        except TypeError as error:
            raise ConfigError(
                f"algorithm {algorithm} is a class, and it cannot be made without arguments: {error}",
                hint="give an object, such as quantlab.Percentile(99.99)",
            ) from error
    if not isinstance(algorithm, Observer):
        raise ConfigError(
            f"algorithm is a {type(algorithm).__name__}, expected a name or an object with observe and compute_amax",
            hint="use 'entropy', 'minmax', 'mse', 'percentile-99.99', or quantlab.Entropy()",
        )
    return algorithm
