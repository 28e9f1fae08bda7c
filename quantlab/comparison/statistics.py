"""Is a difference in accuracy real? Both models saw the same samples, so the test and the interval are paired."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIGNIFICANT = 0.05
_Z = 1.959963984540054
"""The standard normal distribution has 95 % within so many standard deviations."""


@dataclass(frozen=True, slots=True)
class AccuracyDifference:
    """Accuracy of a model minus FP32's, on the same samples.

    Attributes:
        points: The difference in hundredths.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Of the test that the two are equally accurate, by the same method: 0.05 or less where the interval leaves
            out 0, and nowhere else.
        lost: Samples that only FP32 gets right.
        won: Samples that only the model gets right.
    """

    points: float
    low: float
    high: float
    p: float
    lost: int
    won: int

    @property
    def is_noise(self) -> bool:
        """Whether the difference can well be chance (p above 0.05)."""
        return self.p > SIGNIFICANT


def accuracy_difference(reference: NDArray[np.bool_], other: NDArray[np.bool_]) -> AccuracyDifference:
    """Compare two models on the same samples, see `difference_of_counts`.

    Args:
        reference: bool (N,), whether FP32 was right on each sample.
        other: bool (N,), whether the model was.

    Returns:
        The difference, other minus reference.
    """
    return difference_of_counts(len(reference), int((reference & ~other).sum()), int((~reference & other).sum()))


def difference_of_counts(count: int, lost: int, won: int) -> AccuracyDifference:
    """Compare two models by the samples on which they differ.

    The adjusted Wald interval of Bonett and Price, Adjusted Wald Confidence Interval for a Difference of Binomial
    Proportions Based on Paired Data, Journal of Educational and Behavioral Statistics 37 (2012): with one more sample
    lost and one more won. It keeps its width where no sample differs, as equal results on few samples prove little.

    Args:
        count: All samples, one at least.
        lost: Those that only FP32 gets right.
        won: Those that only the model gets right.

    Returns:
        The difference, the model's accuracy minus FP32's.
    """
    down, up = (lost + 1) / (count + 2), (won + 1) / (count + 2)
    middle = up - down
    error = math.sqrt((up + down - middle**2) / (count + 2))
    low, high = (100 * min(max(middle + side * _Z * error, -1.0), 1.0) for side in (-1, 1))
    p = math.erfc(abs(middle) / error / math.sqrt(2))
    return AccuracyDifference(100 * (won - lost) / count, low, high, p, lost, won)


def share_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson.

    Probable Inference, the Law of Succession, and Statistical Inference, Journal of the American Statistical
    Association 22 (1927): it stays within 0..1, and keeps a width where all or none are hits.

    Args:
        hits: How many of them are.
        count: Of how many, one at least.

    Returns:
        Its lower and its upper end, 0..1.
    """
    share, square = hits / count, _Z**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    # at 0 and 1 the two terms are equal: what rounding leaves of them is not shown
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == count else middle + half)


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """A mean over samples minus FP32's.

    Attributes:
        value: The difference.
        low: Lower end of its 95 % paired bootstrap interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """Whether the interval holds 0."""
        return self.low <= 0 <= self.high


def mean_difference(
    reference: NDArray[np.float64], other: NDArray[np.float64], seed: int = 0, draws: int = 2000
) -> MeanDifference:
    """Compare two means over the same samples, by a paired bootstrap.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13.

    Args:
        reference: float64 (N,), FP32's value of each sample.
        other: float64 (N,), the model's.
        seed: Of the bootstrap; the same seed gives the same interval.
        draws: How often the samples are drawn anew.

    Returns:
        The difference, other minus reference.
    """
    change = other - reference
    generator = np.random.default_rng(seed)
    means = [change[generator.integers(0, len(change), len(change))].mean() for _ in range(draws)]
    low, high = np.percentile(means, [2.5, 97.5])
    return MeanDifference(float(change.mean()), float(low), float(high))
