"""Thresholds against what is not quantlab: ONNX's own quantization for mse, TensorRT's description for the others."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from literal_calibration import LiteralHistogram, divergence, entropy_bins
from models import floats, parse
from quantlab.numerics import fake_quantize
from quantlab.observers import Entropy, Histogram, MinMax, Percentile, mse_amax, percentile_amax
from quantlab.observers.entropy import best_candidate
from quantlab.observers.mse import STEP

BINS = 2048


def of_counts(counts: dict[int, int]) -> Histogram:
    """A histogram with bins of width 1."""
    histogram = Histogram()
    histogram.range, histogram.batches = np.float32(BINS), 1
    for index, count in counts.items():
        histogram.counts[index] = count
    return histogram


def of_values(*batches: np.ndarray, order_independent: bool = False) -> Histogram:
    histogram = Histogram(order_independent)
    for batch in batches:
        histogram.observe(batch.astype(np.float32))
    return histogram


SHAPES = {
    "normal": floats(20_000),
    "uniform": np.random.default_rng(1).uniform(-1, 1, 20_000),
    "laplace": np.random.default_rng(2).laplace(size=20_000),
    "relu": np.maximum(floats(20_000, seed=3), 0),
    "nearly all zero": floats(20_000, seed=4) * (np.random.default_rng(4).random(20_000) < 0.01),
    "one outlier": np.concatenate([floats(20_000, seed=5), [60.0]]),
    "two clusters": np.concatenate([floats(9000, seed=6, scale=0.1) + 1, floats(9000, seed=7, scale=0.3) + 5]),
    "negative": -np.random.default_rng(8).exponential(size=20_000),
}


# --- mse: sums of squared errors of ONNX QuantizeLinear and DequantizeLinear


@lru_cache(maxsize=1)
def onnx_errors() -> np.ndarray:
    """(512, 2048): the squared error of ONNX at the centre of every bin of width 1, for amax = 4, 8, ..., 2048 bins."""
    candidates = np.arange(STEP, BINS + 1, STEP)
    rows = len(candidates)
    text = f"""m (float[{rows},{BINS}] x, float[{rows}] s, int8[{rows}] z) => (float[{rows},{BINS}] y) {{
        q = QuantizeLinear <axis = 0> (x, s, z)
        y = DequantizeLinear <axis = 0> (q, s, z)
    }}"""
    model = parse(text, header='<ir_version: 9, opset_import: ["" : 19]>')
    centres = np.arange(BINS, dtype=np.float32) + np.float32(0.5)
    centres[0] = 0  # the zeros of a network, after a Relu say, are exact
    x = np.tile(centres, (rows, 1))
    feeds = {"x": x, "s": (candidates / 127).astype(np.float32), "z": np.zeros(rows, np.int8)}
    (y,) = ReferenceEvaluator(model).run(None, feeds)
    return np.square(x.astype(np.float64) - y)


def sums_by_onnx(histogram: Histogram) -> np.ndarray:
    return onnx_errors() @ histogram.counts.astype(np.float64)


@pytest.mark.parametrize("name", SHAPES)
def test_mse_keeps_what_onnx_quantizes_with_the_least_error(name: str) -> None:
    histogram = of_values(SHAPES[name])
    sums = sums_by_onnx(histogram)
    best = STEP * (int(np.argmin(sums)) + 1)
    assert np.sort(sums)[1] > sums.min() * (1 + 1e-6)  # no tie: which of them is the least is no matter of rounding
    occupied = int(np.flatnonzero(histogram.counts)[-1]) + 1
    assert mse_amax(histogram) == np.float32(min(best, occupied)) * histogram.bin_width


filled_bins = st.dictionaries(st.integers(0, BINS - 1), st.integers(1, 1000), min_size=1, max_size=12)


@settings(max_examples=40)
@given(filled_bins)
def test_mse_of_any_counts_has_the_least_error_by_onnx(counts: dict[int, int]) -> None:
    """no candidate has a smaller error than the one kept, and none above it an equal one"""
    histogram = of_counts(counts)
    sums = sums_by_onnx(histogram)
    occupied = max(counts) + 1
    kept = int(mse_amax(histogram))
    # what is kept is a candidate, or the occupied bins where a candidate beyond them is the best
    chosen = (
        [kept // STEP - 1] if kept % STEP == 0 and kept < occupied else range(-(-occupied // STEP) - 1, BINS // STEP)
    )
    slack = 1e-5 * sums.max() / BINS  # ONNX computes in float32, the search in float64
    assert min(sums[k] for k in chosen) <= sums.min() + slack


@pytest.mark.parametrize(("value", "smaller"), [(1856, 1856), (1872, 1872), (1888, 1888), (2016, 2016)])
def test_mse_of_equal_errors_keeps_the_largest(value: int, smaller: int) -> None:
    # values at value + 0.5 alone: keeping `value` bins saturates them by 0.5, keeping 2032 rounds them by 0.5
    histogram = of_counts({value: 7})
    sums = sums_by_onnx(histogram)
    for bins in (smaller, 2032):
        assert sums[bins // STEP - 1] == pytest.approx(sums.min(), rel=1e-3)
    assert mse_amax(histogram) == value + 1  # the upper edge of the last value: beyond it nothing is lost


def test_mse_is_as_good_as_the_search_over_the_values_themselves() -> None:
    x = np.concatenate([floats(20_000), np.array([30.0], np.float32)])

    def error(amax: float) -> float:
        return float(np.square((x - fake_quantize(x, np.float32(amax))).astype(np.float64)).sum())

    candidates = np.linspace(1, 30, 400)
    # candidates differ by 0.2 % of the range, and errors are flat at their least
    assert error(float(mse_amax(of_values(x)))) <= min(map(error, candidates)) * 1.02


def test_mse_never_keeps_empty_upper_bins() -> None:
    assert mse_amax(of_counts({100: 1, 101: 1})) <= 102
    assert mse_amax(of_counts({0: 5})) == 1


def test_mse_costs_zeros_nothing() -> None:
    # a million zeros weigh nothing; were they taken for values in the middle of their bin, they would decide
    few = {300: 40, 900: 3}
    assert mse_amax(of_counts(few | {0: 10**9})) == mse_amax(of_counts(few))


# --- entropy, min-max and legacy: the description of TensorRT's calibrators


@pytest.mark.parametrize("name", ["normal", "relu", "one outlier", "two clusters"])
def test_entropy_of_real_shapes_equals_the_description(name: str) -> None:
    histogram = of_values(SHAPES[name])
    assert best_candidate(histogram.counts) == entropy_bins(histogram.counts.tolist())


few_bins = st.dictionaries(
    st.one_of(st.integers(0, BINS - 1), st.integers(0, 260)), st.sampled_from([1, 2, 3, 10, 1000]), max_size=10
)


@settings(max_examples=15, phases=[Phase.explicit, Phase.generate])  # the description is too slow to shrink with
@given(few_bins)
def test_entropy_of_any_counts_equals_the_description(counts: dict[int, int]) -> None:
    """m = argmin KL over 128..2048, the largest on ties, 2048 if none is finite"""
    histogram = of_counts(counts)
    assert best_candidate(histogram.counts) == entropy_bins(histogram.counts.tolist())


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ({50: 10}, 2048),  # one bin: nothing is lost with any number of levels
        (dict.fromkeys(range(1, 128), 1), 2048),  # level by level alike
        ({1: 5, 127: 5}, 2048),
        ({127: 1, 128: 1, 2047: 1}, None),
        (dict.fromkeys(range(1, 257), 3) | {1000: 1}, None),
        ({100: 10**6, 101: 10**6 + 1}, None),  # candidates that part them lose nothing, the others 1e-13
    ],
)
def test_entropy_of_equal_divergences_keeps_the_largest(counts: dict[int, int], wanted: int | None) -> None:
    h = of_counts(counts).counts.tolist()
    assert best_candidate(np.array(h)) == entropy_bins(h)
    if wanted is not None:
        zeroed = [h[1], *h[1:]]
        ties = [i for i in range(128, 2049) if divergence(zeroed, i) == 0]
        assert len(ties) > 1
        assert best_candidate(np.array(h)) == wanted == max(ties)


def test_entropy_may_keep_two_bins_and_give_up_the_rest_but_not_one() -> None:
    # 132 bins: the last value goes into bin 131, and both keep a level each; with all bins they would share one
    counts = of_counts({130: 1000, 131: 300, 2000: 1}).counts
    assert best_candidate(counts) == 132 == entropy_bins(counts.tolist())
    one = of_counts({131: 1000, 2000: 1}).counts
    assert best_candidate(one) == 2048 == entropy_bins(one.tolist())


@pytest.mark.parametrize("counts", [{}, {0: 100}], ids=["nothing", "zeros alone"])
def test_entropy_without_a_finite_divergence_keeps_everything(counts: dict[int, int]) -> None:
    assert best_candidate(of_counts(counts).counts) == BINS == entropy_bins(of_counts(counts).counts.tolist())


def test_entropy_threshold_lies_half_a_bin_above_the_kept_ones() -> None:
    observer = Entropy()
    observer.observe(np.array([3.0], np.float32))
    assert observer.compute_amax() == np.float32(2048.5) * np.float32(np.float32(3) / np.float32(2048))


@pytest.mark.parametrize("zeros", [0, 7, 10**6])
def test_zero_bin_takes_the_count_of_its_neighbour_and_of_no_other(zeros: int) -> None:
    # up to 256 bins, bins 0 and 1 share a level and bin 2 has the next: nothing is lost if 0 and 1 are alike
    counts = of_counts({0: zeros, 1: 5, 2: 9}).counts
    assert best_candidate(counts) == 256 == entropy_bins(counts.tolist())


def test_zeros_take_part_in_entropy_as_many_as_the_smallest_values() -> None:
    counts = of_values(SHAPES["normal"]).counts
    for zeros in (0, 1, 10**6):
        changed = counts.copy()
        changed[0] = zeros
        assert best_candidate(changed) == best_candidate(counts)


def literally(batches: list[np.ndarray]) -> LiteralHistogram:
    literal = LiteralHistogram()
    for batch in batches:
        literal.add(batch)
    return literal


STREAMS = {
    "one batch": [floats(300)],
    "zeros first": [np.zeros(50, np.float32), floats(300, seed=1)],
    "doubles": [floats(300, seed=2), floats(300, seed=3, scale=1.6), floats(300, seed=4, scale=9)],
    "doubles to its edge": [np.array([0.5, -1], np.float32), np.array([2, -1, 0.25], np.float32)],
    "negative": [-np.abs(floats(300, seed=5)), floats(300, seed=6, scale=0.1)],
    "largest is negative": [np.array([1, -3, 2], np.float32), np.array([2.5, -1], np.float32)],
}


@pytest.mark.parametrize("name", STREAMS)
def test_observers_of_a_stream_equal_the_description(name: str) -> None:
    batches = STREAMS[name]
    literal = literally(batches)
    histogram = of_values(*batches)
    assert (histogram.counts.tolist(), histogram.range) == (literal.H, literal.R)
    wanted = {
        Entropy(): literal.entropy_scale(),
        MinMax(): literal.minmax_scale(),
        Percentile(99): literal.legacy_scale(0.99),
        Percentile(50): literal.legacy_scale(0.5),
    }
    for observer, scale in wanted.items():
        for batch in batches:
            observer.observe(batch)
        assert observer.compute_amax() / np.float32(127) == scale, observer


magnitudes = st.sampled_from([0.0, 0.5, -1.0, 1.0, 1.5, -2.0, 2.0, 3.0, -4.0, 4.0, 7.9, 8.0, 0.001, -0.25])


@given(st.lists(st.lists(magnitudes, min_size=1, max_size=8), min_size=1, max_size=5))
def test_counts_of_any_stream_equal_the_description(batches: list[list[float]]) -> None:
    """R = max|x| of the first batch that is not all zero; it doubles, and merges pairs of bins, until a batch fits"""
    arrays = [np.array(batch, np.float32) for batch in batches]
    literal, histogram = literally(arrays), of_values(*arrays)
    if literal.R is None:
        assert (histogram.range, histogram.total) == (0, sum(a.size for a in arrays))
    else:
        assert (histogram.counts.tolist(), histogram.range) == (literal.H, literal.R)


# --- percentile


@pytest.mark.parametrize(("quantile", "bins"), [(0.25, 101), (0.5, 501), (0.75, 1001), (1.0, 2048), (0.5000001, 1001)])
def test_percentile_is_reached_by_the_bin_whose_share_equals_it(quantile: float, bins: int) -> None:
    # four values, each a quarter: sums of quarters are exact
    assert percentile_amax(of_counts({100: 1, 500: 1, 1000: 1, 2047: 1}), quantile) == bins


def test_percentile_that_rounding_keeps_from_being_reached_keeps_everything() -> None:
    # ten times a tenth, summed in float64, is less than one
    counts = {100 * k: 1 for k in range(1, 11)}
    assert np.cumsum([0.1] * 10)[-1] < 1
    assert percentile_amax(of_counts(counts), 1.0) == 1001
