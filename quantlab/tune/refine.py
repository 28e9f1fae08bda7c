"""A choice of one option for the whole network, bettered part by part where held-back samples show that it helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from quantlab.numerics import sqnr_db

MIN_GAIN_DB = 0.05
"""Less is not worth a choice of its own."""
FEWEST_TO_REFINE = 12
"""With fewer samples to choose by, all parts of the network have one option."""
SURE, LIKELY = 2.0, 1.0
"""Standard errors that a gain must be above: where many choices are tried, and where one is proven."""

Unit = TypeVar("Unit")
Assignment = Mapping[Unit, str]
"""The option that every part of the network takes."""


@dataclass(frozen=True, slots=True)
class Step(Generic[Unit]):
    """A part of the network that takes another option.

    Attributes:
        units: The part.
        option: What it takes.
        gain_db: SQNR of the outputs that this alone added, on the samples that were chosen by.
    """

    units: tuple[Unit, ...]
    option: str
    gain_db: float


def error_db(errors: NDArray[np.float64]) -> float:
    """The SQNR of all samples together."""
    return float(sqnr_db(1.0, errors.sum()))


def is_better(new: NDArray[np.float64], old: NDArray[np.float64], standard_errors: float) -> bool:
    """Whether a choice is better than another on the same samples, by more than other samples would change.

    Args:
        new: The errors with it, (samples,).
        old: The errors with the other.
        standard_errors: How sure it must be; 0 to go by the sum alone.

    Returns:
        True if the gain is MIN_GAIN_DB at least and so many standard errors of the paired differences.
    """
    if not np.isfinite(new).all():
        return False
    if not np.isfinite(old).all():
        return True
    if error_db(new) - error_db(old) < MIN_GAIN_DB:
        return False
    difference = old - new
    if standard_errors == 0:
        return True
    if len(difference) < 2:
        return False
    return bool(difference.sum() > standard_errors * np.sqrt(len(difference)) * difference.std(ddof=1))


def refine(
    units: Sequence[Unit],
    base: str,
    others: Sequence[str],
    measure: Callable[[Assignment[Unit]], NDArray[np.float64]],
    trials: int,
) -> tuple[dict[Unit, str], list[Step[Unit]]]:
    """One pass over the network, each part takes the option that is clearly best, the others as chosen so far.

    The parts are as small as the number of trials allows: single units, or runs of neighbours.

    Args:
        units: In network order.
        base: The option that all have.
        others: The options that are tried, the likeliest first.
        measure: The errors of the samples that are chosen by.
        trials: The most calls of `measure`, less one.

    Returns:
        The option of every unit, and the parts that have changed.
    """
    current = dict.fromkeys(units, base)
    steps: list[Step[Unit]] = []
    parts = min(len(units), trials // max(len(others), 1))
    if parts < 2:  # the network as a whole has been tried before
        return current, steps
    errors = measure(current)
    for part in np.array_split(np.arange(len(units)), parts):
        block = tuple(units[i] for i in part)
        tried = [(measure({**current, **dict.fromkeys(block, option)}), option) for option in others]
        best, option = min(tried, key=lambda row: float(row[0].sum()))
        if is_better(best, errors, SURE):
            steps.append(Step(block, option, error_db(best) - error_db(errors)))
            errors = best
            current |= dict.fromkeys(block, option)
    return current, steps
