"""The laws of the arithmetic and of the observers, on drawn inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantlab.calibration import TrtCache, cache_from_table, table_from_cache
from quantlab.numerics import PerChannel, amax_from_scale, amax_of, fake_quantize, quantize, scale_from_amax
from quantlab.observers import OBSERVERS, Histogram, MinMax, fresh
from quantlab.observers.histogram import SMALLEST_RANGE

FINITE = st.floats(-(2.0**60), 2.0**60, width=32)
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6), elements=FINITE)
matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=5), elements=FINITE)
positive = st.floats(2.0**-100, 2.0**100, width=32)


@given(arrays, positive)
def test_codes_lie_in_int8(x: np.ndarray, scale: float) -> None:
    """codes in [-128, 127]"""
    q = quantize(x, np.float32(scale)).astype(int)
    assert q.min() >= -128
    assert q.max() <= 127


@given(arrays)
def test_amax_is_the_larger_of_both_ends(x: np.ndarray) -> None:
    """amax = max(|highest|, |lowest|), and that of -x is the same"""
    assert amax_of(x) == max(abs(float(x.max())), abs(float(x.min())))
    assert amax_of(-x) == amax_of(x)


@given(arrays)
def test_error_is_at_most_half_a_step_inside_amax(x: np.ndarray) -> None:
    """|x - fake_quantize(x)| <= scale/2 (1 + 1e-5) inside amax"""
    amax = amax_of(x)
    scale = float(scale_from_amax(amax))
    error = np.abs(x.astype(np.float64) - fake_quantize(x, amax).astype(np.float64))
    assert error.max() <= scale / 2 * (1 + 1e-5)


@given(arrays)
def test_per_channel_with_one_channel_equals_per_tensor(x: np.ndarray) -> None:
    """per_channel with C=1 equals per_tensor"""
    one = x[None]
    np.testing.assert_array_equal(
        fake_quantize(one, amax_of(one, PerChannel(0)), PerChannel(0))[0], fake_quantize(x, amax_of(x))
    )


@given(matrices, st.data())
def test_per_channel_equals_per_tensor_on_every_slice(x: np.ndarray, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, x.ndim - 1))
    whole = fake_quantize(x, amax_of(x, PerChannel(axis)), PerChannel(axis))
    for index in range(x.shape[axis]):
        part = np.take(x, index, axis)
        np.testing.assert_array_equal(np.take(whole, index, axis), fake_quantize(part, amax_of(part)))


@given(positive)
def test_every_scale_made_from_an_amax_comes_back(amax: float) -> None:
    """scale -> amax -> scale is the identity on scales that are amax / 127"""
    scale = scale_from_amax(np.float32(amax))
    assert scale_from_amax(amax_from_scale(scale)).tobytes() == scale.tobytes()


@given(arrays, st.randoms(use_true_random=False))
def test_minmax_ignores_order_and_splitting(x: np.ndarray, random: object) -> None:
    """minmax ignores order and splitting"""
    flat = x.ravel()
    order = np.random.default_rng(abs(hash(random)) % 2**32).permutation(flat.size)
    whole, parts = MinMax(), MinMax()
    whole.observe(flat)
    for part in np.array_split(flat[order], 3):
        parts.observe(part)
    assert whole.compute_amax() == parts.compute_amax()


@given(st.lists(arrays, min_size=1, max_size=5))
def test_histogram_mass_equals_element_count(batches: list[np.ndarray]) -> None:
    """histogram mass equals element count"""
    histogram = Histogram()
    for x in batches:
        histogram.observe(x)
    assert histogram.total == sum(x.size for x in batches)
    largest = max(float(amax_of(x)) for x in batches)
    assert histogram.range >= largest or (histogram.range == 0 and largest < SMALLEST_RANGE)


@pytest.mark.parametrize("name", OBSERVERS)
@given(x=arrays)
def test_compute_amax_twice_gives_the_same(name: str, x: np.ndarray) -> None:
    """compute_amax twice gives the same"""
    observer = fresh(OBSERVERS[name])
    observer.observe(x)
    assert np.asarray(observer.compute_amax()).tobytes() == np.asarray(observer.compute_amax()).tobytes()


names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


@given(st.dictionaries(names, positive, min_size=1, max_size=5))
def test_cache_round_trip_keeps_every_bit(amax: dict[str, float]) -> None:
    """cache -> table -> cache gives the same bytes"""
    scales = {n: np.float32(np.float32(a) / np.float32(127)) for n, a in amax.items()}
    content = TrtCache("TRT-8600-EntropyCalibration2", scales).to_bytes()
    cache = TrtCache.from_bytes(content)
    assert cache.to_bytes() == content
    assert cache_from_table(table_from_cache(cache)).to_bytes() == content


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 7.9, 8.0, 0.001]), min_size=1, max_size=12),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 5),
)
def test_batch_in_parts_is_counted_as_the_whole_batch(batches: list[list[float]], size: int) -> None:
    """observe(batch) = start_batch(amax of the batch), observe_part of its parts, end_batch: to the last count, also
    where a value is exactly at a range that doubles inside the batch"""
    whole, parts = Histogram(), Histogram()
    for values in batches:
        x = np.array(values, np.float32)
        whole.observe(x)
        parts.start_batch(np.float32(x.max()))
        for start in range(0, len(x), size):
            parts.observe_part(x[start : start + size])
        parts.end_batch()
        assert parts.range == whole.range
        assert parts.zeros_before == whole.zeros_before
        np.testing.assert_array_equal(parts.counts, whole.counts)
