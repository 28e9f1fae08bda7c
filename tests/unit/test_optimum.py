"""The integer programme and the fit of latencies. The oracle is trying every choice."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.tune.latency import LatencyModel, Observation, fit_latency
from quantlab.tune.optimum import fastest
from quantlab.tune.regions import Border, Region, Regions


def network(count: int, borders: list[tuple[int, int]], same: bool = False) -> Regions:
    regions = tuple(Region(f"r{k}", (f"r{k}",), "s" if same else f"s{k}", 1) for k in range(count))
    return Regions(regions, tuple(Border(a, b, f"t{a}-{b}", 10 + a) for a, b in borders))


def random_model(seed: int, count: int = 6) -> tuple[LatencyModel, list[float]]:
    rng = np.random.default_rng(seed)
    borders = [(a, b) for a in range(count) for b in range(a + 1, count) if b == a + 1 or rng.random() < 0.2]
    times = [tuple(float(t) for t in rng.uniform(1, 20, n)) for n in (count, count)]
    costs = [tuple(float(t) for t in rng.uniform(0, 6, len(borders))) for _ in range(2)]
    return LatencyModel(network(count, borders), *times, *costs), [float(n) for n in rng.uniform(0.1, 1, count)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from([1.0, 1e-5, 1e-9, 1e-14]))
def test_choice_is_the_fastest_of_all_within_the_budget(seed: int, share: float, scale: float) -> None:
    model, noise = random_model(seed)
    noise = [value * scale for value in noise]
    budget = share * sum(noise)
    free = [None] * 5 + [False]
    possible = [x for x in product((False, True), repeat=6) if not x[5] and np.dot(x, noise) <= budget]
    found = fastest(model, noise, budget, free)
    assert found is not None
    assert np.dot(found, noise) <= budget * (1 + 1e-6)
    assert model.latency_us(found) == pytest.approx(min(model.latency_us(x) for x in possible), rel=1e-5)


def test_budget_that_cannot_be_kept_has_no_choice() -> None:
    model, noise = random_model(0)
    assert fastest(model, noise, 0.0, [True] + [None] * 5) is None


def observations(model: LatencyModel, choices: list[tuple[bool, ...]]) -> list[Observation]:
    """What engines of an additive truth take; a border's cost counts for the region that reads it."""
    seen = []
    for choice in choices:
        times = [q if on else f for f, q, on in zip(model.float_us, model.int8_us, choice, strict=True)]
        for border, up, down in zip(model.regions.borders, model.into_int8_us, model.into_float_us, strict=True):
            if choice[border.source] != choice[border.target]:
                times[border.target] += up if choice[border.target] else down
        seen.append(Observation(choice, tuple(times)))
    return seen


def test_fit_finds_an_additive_truth_again() -> None:
    """Nothing, everything and the two alternating choices show every border of a chain in both directions."""
    model, _ = random_model(3)
    chain = network(6, [(k, k + 1) for k in range(5)])
    model = LatencyModel(chain, model.float_us, model.int8_us, model.into_int8_us[:5], model.into_float_us[:5])
    odd = tuple(k % 2 == 1 for k in range(6))
    fitted = fit_latency(chain, observations(model, [(False,) * 6, (True,) * 6, odd, tuple(not x for x in odd)]))
    for choice in product((False, True), repeat=6):
        assert fitted.latency_us(choice) == pytest.approx(model.latency_us(choice), rel=0.05)


def test_border_that_was_never_seen_costs_what_seen_ones_of_its_size_do() -> None:
    chain = network(4, [(0, 1), (1, 2), (2, 3)])
    truth = LatencyModel(chain, (10,) * 4, (5,) * 4, (3.0, 3.0, 3.0), (3.0, 3.0, 3.0))
    fitted = fit_latency(chain, observations(truth, [(False,) * 4, (True,) * 4, (False, True, True, True)]))
    assert fitted.into_int8_us[2] == pytest.approx(3.0, rel=0.1)


def test_region_that_was_seen_in_one_form_only_has_its_time_in_both() -> None:
    chain = network(2, [(0, 1)])
    truth = LatencyModel(chain, (10, 8), (5, 4), (1,), (1,))
    fitted = fit_latency(chain, observations(truth, [(False, False)]))
    assert fitted.int8_us == pytest.approx(fitted.float_us)


def test_regions_of_one_signature_share_what_was_seen() -> None:
    chain = network(3, [(0, 1), (1, 2)], same=True)
    seen = [Observation((False,) * 3, (9.0, 10.0, 11.0)), Observation((True,) * 3, (4.0, 5.0, 6.0))]
    fitted = fit_latency(chain, seen)
    assert fitted.float_us == pytest.approx((10,) * 3)
    assert fitted.int8_us == pytest.approx((5,) * 3)
