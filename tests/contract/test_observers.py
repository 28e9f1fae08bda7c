"""What every observer promises, for all of them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from models import floats
from quantlab.errors import ConfigError, DataError, NotCalibratedError
from quantlab.observers import (
    OBSERVERS,
    Entropy,
    HistogramObserver,
    Observer,
    ObserverGroup,
    Percentile,
    fresh,
)

every_observer = pytest.mark.parametrize("prototype", OBSERVERS.values(), ids=OBSERVERS)


@every_observer
def test_observer_before_data_raises(prototype: Observer) -> None:
    with pytest.raises(NotCalibratedError, match="has seen no data"):
        fresh(prototype).compute_amax()


@every_observer
def test_observer_result_is_a_float32_scalar_within_reach(prototype: Observer) -> None:
    x = floats(4, 1000)
    observer = fresh(prototype)
    observer.observe(x)
    amax = observer.compute_amax()
    assert (amax.dtype, amax.shape) == (np.float32, ())
    assert 0 < amax <= np.abs(x).max() * (1 + 1 / 2048)


@every_observer
def test_observer_twice_gives_the_same_and_more_data_moves_on(prototype: Observer) -> None:
    observer = fresh(prototype)
    observer.observe(floats(1000))
    first = observer.compute_amax().copy()
    assert observer.compute_amax() == first
    observer.observe(floats(1000, seed=1, scale=50))
    assert observer.compute_amax() > first


@every_observer
def test_observer_sees_every_batch_not_the_last_only(prototype: Observer) -> None:
    large_first, small = floats(5000, scale=10), floats(50, seed=1)
    both, last = fresh(prototype), fresh(prototype)
    both.observe(large_first)
    both.observe(small)
    last.observe(small)
    assert both.compute_amax() > 2 * last.compute_amax()


@every_observer
def test_observer_of_zeros_gives_zero(prototype: Observer) -> None:
    observer = fresh(prototype)
    observer.observe(np.zeros((2, 3), np.float32))
    assert observer.compute_amax() == 0


@every_observer
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_observer_of_not_finite_raises(prototype: Observer, bad: float) -> None:
    with pytest.raises(DataError, match="values contain"):
        fresh(prototype).observe(np.array([1, bad], np.float32))


@every_observer
def test_observer_does_not_change_its_input(prototype: Observer) -> None:
    x = floats(3, 100)
    before = x.copy()
    fresh(prototype).observe(x)
    np.testing.assert_array_equal(x, before)


@every_observer
def test_prototype_is_never_touched_by_its_copies(prototype: Observer) -> None:
    before = pickle.dumps(prototype)
    observer = fresh(prototype)
    observer.observe(floats(10))
    assert pickle.dumps(prototype) == before != pickle.dumps(observer)
    with pytest.raises(NotCalibratedError, match="has seen no data"):
        prototype.compute_amax()


@every_observer
def test_changing_a_result_changes_nothing_inside(prototype: Observer) -> None:
    observer, untouched = fresh(prototype), fresh(prototype)
    for seed in range(2):  # the first batch and a later one may be kept in different ways
        x = floats(500, seed=seed)
        observer.observe(x)
        untouched.observe(x)
        given = np.asarray(observer.compute_amax())
        given[...] = 1e9
        assert observer.compute_amax() == untouched.compute_amax()


def test_changing_a_result_that_a_subclass_keeps_changes_nothing_inside() -> None:
    class Kept(HistogramObserver):
        name = "kept"

        def __init__(self) -> None:
            super().__init__()
            self.threshold = np.array(2, np.float32)

        def _threshold(self, histogram: object) -> np.float32:
            return self.threshold  # type: ignore[return-value]  # an array, as a careless subclass may give

    observer = Kept()
    observer.observe(floats(10))
    observer.compute_amax()[...] = 1e9
    assert observer.compute_amax() == 2


@every_observer
@pytest.mark.parametrize("sign", [1, -1])
def test_observer_keeps_the_range_of_the_side_that_reaches_further(prototype: Observer, sign: int) -> None:
    x = np.abs(floats(5000)) * np.float32(sign)
    lopsided = np.concatenate([x, x[:2500] * np.float32(-0.01)])
    observer, magnitudes = fresh(prototype), fresh(prototype)
    observer.observe(lopsided)
    magnitudes.observe(np.abs(lopsided))
    assert observer.compute_amax() == magnitudes.compute_amax() > 0.5


@every_observer
def test_observer_in_a_group_equals_the_observer_alone(prototype: Observer) -> None:
    group = ObserverGroup({"it": prototype, "other": Entropy()})
    alone = fresh(prototype)
    for seed in range(3):
        x = floats(2, 500, seed=seed, scale=1 + seed)
        group.observe(x)
        alone.observe(x)
    assert group.compute_amax()["it"] == alone.compute_amax()


def test_group_calls_an_observer_that_a_user_wrote_for_every_batch_in_order() -> None:
    class Last:
        seen: list[float]

        def __init__(self) -> None:
            self.seen = []

        def observe(self, x: np.ndarray) -> None:
            self.seen.append(float(x[0]))

        def compute_amax(self) -> np.ndarray:
            return np.asarray(len(self.seen), np.float32)

    group = ObserverGroup({"last": Last()})
    for value in (1, 2, 3):
        group.observe(np.array([value], np.float32))
    assert group.observers["last"].seen == [1, 2, 3]  # type: ignore[attr-defined]


def test_group_does_not_bypass_an_overridden_observe() -> None:
    class Half(HistogramObserver):
        name = "half"

        def observe(self, x: np.ndarray) -> None:
            super().observe(x / 2)

        def _threshold(self, histogram: object) -> np.float32:
            return self.histogram.range

    group = ObserverGroup({"half": Half(), "entropy": Entropy()})
    group.observe(np.array([0, 8], np.float32))
    assert group.compute_amax()["half"] == 4


@pytest.mark.parametrize("percentile", [0, -1, 100.1])
def test_percentile_out_of_range_raises(percentile: float) -> None:
    with pytest.raises(ConfigError, match=r"not in \(0, 100\]"):
        Percentile(percentile)


@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.9, 100.0])
def test_percentile_keeps_the_share_of_values(percentile: float) -> None:
    x = floats(20011)  # a prime: no share of the counts is exactly the quantile
    observer = Percentile(percentile)
    observer.observe(x)
    width = np.abs(x).max() / 2048
    exact = np.percentile(np.abs(x), percentile, method="inverted_cdf")
    assert 0 <= float(observer.compute_amax()) - exact <= width * (1 + 1e-6)
