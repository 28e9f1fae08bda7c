"""What an observer is. One that a user writes needs these two methods and nothing else."""

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
    """A new observer with the settings of `prototype`, which itself never sees data: one is needed per tensor.

    Raises:
        ConfigError: It holds something that cannot be copied, such as a lock or an open file.
    """
    try:
        return copy.deepcopy(prototype)
    except TypeError as error:
        raise ConfigError(
            f"algorithm '{algorithm_name(prototype)}' cannot be copied, and every tensor needs one: {error}",
            hint="open such things in observe, or give the class a __deepcopy__",
        ) from error


def algorithm_name(observer: Observer) -> str:
    """The name recorded in results: the `name` of the observer, else its class in lower case."""
    return str(getattr(observer, "name", type(observer).__name__.lower()))


def final_amax(observer: Observer) -> np.float32:
    """What an observer has found, checked: a user may have written it.

    Raises:
        DataError: It gave something other than one finite number >= 0.
    """
    with np.errstate(over="ignore"):  # of values near the end of float32: refused below
        given = observer.compute_amax()
    name = algorithm_name(observer)
    try:
        values = np.asarray(given)
        if values.dtype.kind not in "fiu":
            raise TypeError(f"{values.dtype} is no type of numbers")
    except (TypeError, ValueError, RuntimeError) as error:  # a torch tensor that needs gradients has the last
        raise DataError(
            f"algorithm '{name}' gave {given!r:.80}, expected one number", hint="return a float from compute_amax"
        ) from error
    if values.size != 1:
        raise DataError(
            f"algorithm '{name}' gave an array of shape {values.shape}, expected one number",
            hint="a tensor has one range: return the largest magnitude to keep from compute_amax",
        )
    with np.errstate(over="ignore"):  # a number beyond float32 is refused as infinity is
        amax = np.float32(values.item())
    if not (np.isfinite(amax) and amax >= 0):
        raise DataError(
            f"algorithm '{name}' gave {values.item():g}, expected a finite number >= 0",
            hint="compute_amax must return the largest magnitude to keep",
        )
    kept: np.float32 = np.abs(amax)  # -0.0 has another bit pattern in a calibration cache
    return kept


def as_observer(algorithm: Observer | type[Observer]) -> Observer:
    """An observer that was given as an object, or as a class that needs no arguments.

    Raises:
        ConfigError: It is neither, or the class needs arguments.
    """
    if isinstance(algorithm, type):
        kind = algorithm
        try:
            algorithm = kind()
        except TypeError as error:
            raise ConfigError(
                f"algorithm {kind.__name__} is a class that cannot be made without arguments: {error}",
                hint=f"give an object: {kind.__name__}(...)",
            ) from error
    if not isinstance(algorithm, Observer):
        raise ConfigError(
            f"algorithm is a {type(algorithm).__name__}, expected a name or an object with observe and compute_amax",
            hint="use 'entropy', 'minmax', 'mse', 'percentile-99.99', or quantlab.Entropy()",
        )
    return algorithm
