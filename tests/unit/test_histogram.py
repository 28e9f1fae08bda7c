"""The histogram of magnitudes at its edges: where a range starts, doubles, jumps, and what lies above a threshold."""

from __future__ import annotations

import numpy as np
import pytest

from models import floats
from quantlab.errors import ConfigError, DataError
from quantlab.observers import Entropy, Histogram, HistogramObserver, ObserverGroup
from quantlab.observers.histogram import LARGEST, SMALLEST_RANGE, UNREPRODUCED


def of(*batches: list[float], order_independent: bool = False) -> Histogram:
    histogram = Histogram(order_independent)
    for batch in batches:
        histogram.observe(np.array(batch, np.float32))
    return histogram


def filled(histogram: Histogram) -> dict[int, int]:
    """Bin -> count, of those that are not empty."""
    return {int(b): int(histogram.counts[b]) for b in np.flatnonzero(histogram.counts)}


# --- where the range starts


def test_range_starts_at_the_largest_magnitude_of_the_first_batch_that_is_not_zero() -> None:
    histogram = of([0, 0], [0.5, -3])
    assert (histogram.range, histogram.zeros_before, histogram.total) == (3, 2, 4)
    assert filled(histogram) == {int(0.5 * 2048 / 3): 1, 2047: 1}


@pytest.mark.parametrize(
    ("amax", "wanted"),
    [(4.0, 8.0), (1.0, 2.0), (0.25, 0.5), (3.0, 4.0), (4.1, 8.0), (np.nextafter(np.float32(4), np.float32(0)), 4.0)],
)
def test_order_independent_range_is_the_next_power_of_two_above(amax: float, wanted: float) -> None:
    histogram = Histogram(order_independent=True)
    histogram.start_batch(np.float32(amax))
    assert histogram.range == wanted
    histogram.observe(np.array([amax], np.float32))
    assert histogram.range == wanted
    assert filled(histogram) == {int(np.float32(amax) * 2048 / wanted): 1}


def test_order_independent_range_doubles_for_a_value_that_equals_it() -> None:
    histogram = of([3.0], [4.0], [-4.0], order_independent=True)
    assert histogram.range == 8
    assert filled(histogram) == {768: 1, 1024: 2}  # 4.0 begins the upper half, wherever it comes


def test_order_independent_zeros_are_counted_once_the_range_is_known() -> None:
    histogram = of([0, 0], [1.0, 0], [0], order_independent=True)
    assert (histogram.zeros_before, filled(histogram), histogram.total) == (0, {0: 4, 1024: 1}, 5)


@pytest.mark.parametrize("order_independent", [False, True])
def test_batch_below_the_smallest_range_counts_as_zeros(order_independent: bool) -> None:
    histogram = of([float(SMALLEST_RANGE) * 0.9], order_independent=order_independent)
    assert (histogram.range, histogram.zeros_before) == (0, 1)
    assert histogram.amax == np.float32(float(SMALLEST_RANGE) * 0.9)
    assert of([float(SMALLEST_RANGE)], order_independent=order_independent).range > 0


# --- doubling


def test_range_doubles_until_the_batch_fits() -> None:
    histogram = of([1.0, 0.3], [5.0])
    assert histogram.range == 8
    assert filled(histogram) == {614 // 8: 1, 255: 1, 1280: 1}  # two bins into one, three times: 2047 is 255


def test_value_at_the_range_of_an_earlier_batch_stays_in_the_lower_half() -> None:
    assert filled(of([1.0], [2.0])) == {1023: 1, 2047: 1}


@pytest.mark.parametrize("parts", [([1.0], [2.0]), ([2.0], [1.0]), ([-1.0], [2.0]), ([1.0], [-2.0])])
def test_value_at_the_range_that_its_batch_doubles_begins_the_upper_half(parts: tuple[list[float], ...]) -> None:
    # TensorRT grows the range before it counts the batch: 1.0 of 2.0 is bin 1024, in whichever part it comes
    histogram = of([1.0, 0.0])
    before = filled(histogram)
    for part in parts:
        histogram.observe_part(np.array(part, np.float32))
    histogram.end_batch()
    assert histogram.range == 2
    assert filled(histogram) == {0: 1, 1023: 1, 1024: 1, 2047: 1}
    assert before == {0: 1, 2047: 1}


def test_values_at_a_range_that_doubles_twice_in_one_batch_are_moved_once() -> None:
    whole, parts = of([1.0], [1.0, 4.0]), of([1.0])
    for part in ([1.0], [4.0]):
        parts.observe_part(np.array(part, np.float32))
    parts.end_batch()
    assert filled(parts) == filled(whole) == {511: 1, 512: 1, 2047: 1}


def test_edge_of_one_batch_is_forgotten_in_the_next() -> None:
    histogram = of([1.0])
    for part in ([1.0], [0.5]):
        histogram.observe_part(np.array(part, np.float32))
    histogram.end_batch()
    histogram.observe(np.array([2.0], np.float32))
    assert filled(histogram) == {512: 1, 1023: 2, 2047: 1}


# --- jumps and limits


@pytest.mark.parametrize(("largest", "jumped"), [(UNREPRODUCED, True), (0.99 * UNREPRODUCED, False), (3e6, True)])
def test_range_that_grows_a_million_times_within_one_batch_is_noted(largest: float, jumped: bool) -> None:
    assert of([1.0], [largest]).jumped == jumped
    assert not of([1.0], [1000.0], [largest]).jumped  # not at once
    assert not of([largest], [1.0]).jumped
    assert not of([1.0], [largest], order_independent=True).jumped


def test_values_that_a_doubled_range_cannot_hold_raise() -> None:
    with pytest.raises(DataError, match=r"values reach 2e\+38, too large for a histogram"):
        of([5e37], [2e38])
    with pytest.raises(DataError, match="too large for a histogram"):
        of([2e38], order_independent=True)
    assert of([2e38]).range == np.float32(2e38)  # TensorRT's does not double for its first batch
    assert of([float(LARGEST)], order_independent=True).range == 2.0**127


def test_histogram_that_refused_a_batch_is_as_before() -> None:
    histogram = Histogram(order_independent=True)
    with pytest.raises(DataError, match="too large"):
        histogram.observe(np.array([2e38], np.float32))
    histogram.observe(np.array([1.0], np.float32))
    assert histogram.range == 2


# --- what it is asked


def test_amax_is_of_all_batches_and_last_amax_of_the_last() -> None:
    histogram = of([1.0, -5.0], [2.0, -3.0])
    assert (histogram.amax, histogram.last_amax, histogram.batches) == (5, 3, 2)


@pytest.mark.parametrize(
    ("amax", "above"),
    [
        (10.0, 3),  # the lower edge of bin 10: its values are above
        (10.5, 2),  # inside bin 10: those of the bin it lies in are kept
        (10.999, 2),
        (11.0, 2),
        (11.001, 1),
        (2047.0, 1),
        (2047.5, 0),
        (2048.0, 0),
        (1e9, 0),
        (0.0, 4),
    ],
)
def test_share_above_counts_the_bins_that_begin_at_the_threshold_or_later(amax: float, above: int) -> None:
    histogram = Histogram()
    histogram.range = np.float32(2048)
    histogram.counts[[5, 10, 11, 2047]] = 1
    assert histogram.share_above(amax) == above / 4


def test_share_above_is_of_all_values_with_the_zeros_before() -> None:
    assert of([0, 0, 0], [1.0]).share_above(0.5) == 0.25
    assert of([0, 0, 0]).share_above(0.0) == 0


def test_share_above_the_amax_of_entropy_is_what_it_cuts_off() -> None:
    x = np.concatenate([floats(20_000), np.full(7, 60, np.float32)])
    observer = Entropy()
    observer.observe(x)
    amax = float(observer.compute_amax())
    assert amax < 50
    assert observer.histogram.share_above(amax) == pytest.approx((np.abs(x) > amax).mean(), abs=3 / x.size)


@pytest.mark.parametrize("parts", [([1.0], [-9.0], [2.0]), ([0.0], [-9.0], [0.0]), ([-9.0], [1.0], [0.0])])
def test_amax_of_a_batch_in_parts_is_that_of_all_parts(parts: tuple[list[float], ...]) -> None:
    for histogram in (Histogram(), Histogram(order_independent=True)):
        histogram.start_batch(np.float32(9))
        for part in parts:
            histogram.observe_part(np.array(part, np.float32))
        histogram.end_batch()
        assert (histogram.amax, histogram.last_amax, histogram.batches) == (9, 9, 1)


def test_amax_of_parts_too_small_for_a_range_is_that_of_all_parts() -> None:
    histogram = Histogram()
    for part in ([-1e-36], [1e-37]):
        histogram.observe_part(np.array(part, np.float32))
    histogram.end_batch()
    assert (histogram.amax, histogram.range, histogram.zeros_before) == (np.float32(1e-36), 0, 2)


# --- merging


@pytest.mark.parametrize(
    ("first", "second"), [([3.0], [100.0]), ([100.0], [3.0]), ([0.0], [4.0]), ([4.0], [0.0]), ([0.0], [0.0])]
)
def test_merged_histogram_is_that_of_both(first: list[float], second: list[float]) -> None:
    merged, other = of(first, order_independent=True), of(second, order_independent=True)
    untouched = filled(other)
    merged.merge(other)
    whole = of(first, second, order_independent=True)
    assert filled(merged) == filled(whole)
    assert (merged.range, merged.amax, merged.total, merged.batches) == (whole.range, whole.amax, 2, 2)
    assert filled(other) == untouched


@pytest.mark.parametrize(("mine", "others"), [(False, True), (True, False), (False, False)])
def test_histograms_in_the_order_of_their_batches_refuse_to_merge(mine: bool, others: bool) -> None:
    with pytest.raises(ConfigError, match="depends on the order of the batches: parts of the data cannot be merged"):
        Histogram(order_independent=mine).merge(Histogram(order_independent=others))


# --- the group


def test_observers_that_read_a_histogram_share_one() -> None:
    group = ObserverGroup({"entropy": Entropy(), "again": Entropy()})
    group.observe(floats(100))
    first, second = group.observers.values()
    assert isinstance(first, Entropy) and isinstance(second, Entropy)
    assert first.histogram is second.histogram is group.histogram
    assert group.histogram.total == 100


def test_base_of_observers_names_what_a_subclass_has_to_have() -> None:
    class Unfinished(HistogramObserver):
        pass

    observer = Unfinished()
    observer.observe(floats(10))
    with pytest.raises(NotImplementedError, match=r"Unfinished has no _threshold\(histogram\)"):
        observer.compute_amax()
