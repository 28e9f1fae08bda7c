"""How far a difference in accuracy may be chance. Oracle: scipy's distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

stats = pytest.importorskip("scipy.stats")

from quantlab.comparison import accuracy_difference
from quantlab.comparison.statistics import mean_difference, share_interval


def outcomes(count: int, accuracy: float, flips: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    reference = random.random(count) < accuracy
    return reference, reference ^ (random.random(count) < flips)


@pytest.mark.parametrize("count", [20, 100])
@pytest.mark.parametrize("shares", [(0.01, 0.01), (0.05, 0.05), (0.1, 0.02), (0.0, 0.05), (0.3, 0.3)])
def test_interval_holds_the_true_difference_as_often_as_it_says(count: int, shares: tuple[float, float]) -> None:
    held = 0.0
    truth = 100 * (shares[1] - shares[0])
    for lost in range(count + 1):
        for won in range(count + 1 - lost):
            chance = stats.multinomial.pmf([lost, won, count - lost - won], count, [*shares, 1 - sum(shares)])
            if chance < 1e-7:
                continue
            result = accuracy_difference(*differing(count, lost, won))
            held += chance * (result.low <= truth <= result.high)
    assert 0.94 <= held <= 1.0


def differing(count: int, lost: int, won: int) -> tuple[np.ndarray, np.ndarray]:
    places = np.arange(count)
    return places >= won, (places < won) | (places >= won + lost)


@given(count=st.integers(1, 300), data=st.data())
def test_interval_and_p_say_the_same(count: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, count))
    won = data.draw(st.integers(0, count - lost))
    result = accuracy_difference(*differing(count, lost, won))
    assert (result.lost, result.won) == (lost, won)
    assert result.is_noise == (result.low <= 0 <= result.high)
    assert result.low < result.high
    assert result.low - 1e-9 <= result.points <= result.high + 1e-9
    mirrored = accuracy_difference(*differing(count, won, lost))
    assert (mirrored.low, mirrored.high, mirrored.p) == pytest.approx((-result.high, -result.low, result.p))


def test_interval_is_the_middle_95_percent_of_the_normal_distribution() -> None:
    reference, other = outcomes(200_000, 0.7, 0.1, seed=3)
    result = accuracy_difference(reference, other)
    change = other.astype(float) - reference
    error = 100 * change.std() / math.sqrt(len(change))
    low, high = (result.points + error * stats.norm.ppf(share) for share in (0.025, 0.975))
    assert (result.low, result.high) == pytest.approx((low, high), abs=0.001 * error)
    assert result.p == pytest.approx(2 * stats.norm.sf(abs(result.points) / error), abs=0.001)


def test_interval_of_a_mean_is_the_same_at_every_call_and_another_with_another_seed() -> None:
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
    assert (same.points, same.p, same.is_noise) == (0, 1, True)
    assert same.low == -same.high < 0  # as many samples as these cannot tell 0 from 2 points
    assert same.high == pytest.approx(2.7, abs=0.1)
    worse = reference.copy()
    worse[:20] = False
    result = accuracy_difference(reference, worse)
    assert (result.lost, result.won, result.points) == (20, 0, -20)
    assert not result.is_noise
    assert result.high < 0


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 50), (50, 50), (1, 3), (170, 200), (99_999, 100_000)])
def test_interval_of_a_share_is_that_of_scipy(hits: int, count: int) -> None:
    wanted = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert share_interval(hits, count) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert 0 <= share_interval(hits, count)[0] <= hits / count <= share_interval(hits, count)[1] <= 1
