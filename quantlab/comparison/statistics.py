"""Is a difference in accuracy real? Paired tests: both models saw the same samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class AccuracyDifference:
    """Accuracy of a model minus FP32's, on the same samples.

    Attributes:
        points: The difference in hundredths.
        low: Lower end of its 95 % paired bootstrap interval.
        high: Upper end.
        p: Of McNemar's exact test that the two are equally accurate.
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


def accuracy_difference(reference: NDArray[np.bool_], other: NDArray[np.bool_], seed: int = 0) -> AccuracyDifference:
    """Compare two models on the same samples.

    Paired bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13. The difference of a sample
    is -1, 0 or 1, so resampling the samples is a multinomial draw of the three counts.

    Args:
        reference: bool (N,), whether FP32 was right on each sample.
        other: bool (N,), whether the model was.
        seed: Of the bootstrap; the same seed gives the same interval.

    Returns:
        The difference, other minus reference.
    """
    count = len(reference)
    lost, won = int((reference & ~other).sum()), int((~reference & other).sum())
    shares = np.array([lost, won, count - lost - won]) / count
    drawn = np.random.default_rng(seed).multinomial(count, shares, size=DRAWS)
    low, high = np.percentile(100 * (drawn[:, 1] - drawn[:, 0]) / count, [2.5, 97.5])
    return AccuracyDifference(100 * (won - lost) / count, float(low), float(high), mcnemar_p(lost, won), lost, won)


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
    """Compare two means over the same samples, by a paired bootstrap as in `accuracy_difference`.

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


def mcnemar_p(lost: int, won: int) -> float:
    """McNemar's exact test (McNemar, Psychometrika 1947): lost of lost + won under a fair coin.

    Args:
        lost: Samples that only the first model gets right.
        won: Samples that only the second one gets right.

    Returns:
        The two-sided p, 0..1.
    """
    total, smaller = lost + won, min(lost, won)
    if total == 0:
        return 1.0
    half = math.log(0.5) * total
    tail = sum(
        math.exp(math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) + half)
        for k in range(smaller + 1)
    )
    return min(1.0, 2 * tail)
