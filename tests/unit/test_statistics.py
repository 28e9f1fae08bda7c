"""Against scipy, and against the bootstrap written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

stats = pytest.importorskip("scipy.stats")

from quantlab.comparison import accuracy_difference, mcnemar_p
from quantlab.comparison.statistics import mean_difference


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (5, 5), (3, 9), (40, 22), (0, 12), (812, 790), (3000, 2500)])
def test_mcnemar_equals_scipys_binomial_test(lost: int, won: int) -> None:
    expected = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar_p(lost, won) == pytest.approx(expected, rel=1e-9)


def outcomes(count: int, accuracy: float, flips: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    reference = random.random(count) < accuracy
    return reference, reference ^ (random.random(count) < flips)


@pytest.mark.parametrize("seed", range(3))
def test_interval_equals_scipys_paired_bootstrap(seed: int) -> None:
    reference, other = outcomes(600, 0.8, 0.05, seed)
    result = accuracy_difference(reference, other)

    def points(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return 100 * (b.mean(axis=axis) - a.mean(axis=axis))

    scipys = stats.bootstrap(
        (reference.astype(float), other.astype(float)), points, paired=True, method="percentile", n_resamples=10_000,
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    assert result.points == pytest.approx(100 * (other.mean() - reference.mean()))
    # both are quantiles of 10,000 draws of a statistic with steps of 1/6 point
    assert result.low == pytest.approx(scipys.low, abs=0.2)
    assert result.high == pytest.approx(scipys.high, abs=0.2)


def test_interval_is_the_middle_95_percent_of_the_normal_distribution() -> None:
    reference, other = outcomes(20_000, 0.7, 0.1, seed=3)
    result = accuracy_difference(reference, other)
    change = other.astype(float) - reference
    error = 100 * change.std() / math.sqrt(len(change))
    low, high = (result.points + error * stats.norm.ppf(share) for share in (0.025, 0.975))
    # an end is a quantile of 10,000 draws: its standard error is 2.7 % of theirs; five of those
    assert result.low == pytest.approx(low, abs=0.14 * error)
    assert result.high == pytest.approx(high, abs=0.14 * error)


def test_interval_is_the_same_at_every_call_and_another_with_another_seed() -> None:
    reference, other = outcomes(20_000, 0.7, 0.3, seed=5)  # steps of 1/200 point
    assert accuracy_difference(reference, other) == accuracy_difference(reference, other)
    assert accuracy_difference(reference, other) == accuracy_difference(reference, other, seed=0)
    assert accuracy_difference(reference, other) != accuracy_difference(reference, other, seed=1)
    values = np.random.default_rng(1).normal(size=(2, 50))
    assert mean_difference(*values) == mean_difference(*values, seed=0) != mean_difference(*values, seed=1)


def test_interval_of_a_mean_is_the_middle_95_percent_of_the_normal_distribution() -> None:
    generator = np.random.default_rng(4)
    reference = generator.normal(size=1000)
    other = reference + 0.1 + generator.normal(size=1000)
    result = mean_difference(reference, other)
    change = other - reference
    error = change.std() / math.sqrt(len(change))
    assert result.value == pytest.approx(change.mean(), rel=1e-12)
    # 2,000 draws: the standard error of an end is 6 % of theirs; five of those
    assert result.low == pytest.approx(result.value + error * stats.norm.ppf(0.025), abs=0.3 * error)
    assert result.high == pytest.approx(result.value + error * stats.norm.ppf(0.975), abs=0.3 * error)
    assert not result.is_noise
    assert mean_difference(reference, reference[::-1]).is_noise


def test_counts_noise_and_certainty() -> None:
    reference = np.array([True] * 90 + [False] * 10)
    same = accuracy_difference(reference, reference)
    assert (same.points, same.low, same.high, same.p, same.is_noise) == (0, 0, 0, 1, True)
    worse = reference.copy()
    worse[:20] = False
    result = accuracy_difference(reference, worse)
    assert (result.lost, result.won, result.points) == (20, 0, -20)
    assert not result.is_noise
    assert result.high < 0
