"""The error of an output against its reference: the one formula for SQNR, and sums that add up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models import floats
from quantlab.errors import DataError
from quantlab.numerics import ErrorSums, error_sums, sqnr_db, squares

values = hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(-1e3, 1e3, width=32))


@pytest.mark.parametrize(
    ("signal", "noise", "wanted"),
    [(100, 1, 20), (1, 100, -20), (1, 1, 0), (2, 1, 10 * math.log10(2)), (1, 0, math.inf), (0, 1, -math.inf),
     (0, 0, math.inf), (1, math.inf, -math.inf), (math.inf, math.inf, -math.inf)],
)  # fmt: skip
def test_sqnr_is_ten_logarithms_of_signal_over_noise(signal: float, noise: float, wanted: float) -> None:
    assert float(sqnr_db(signal, noise)) == pytest.approx(wanted)


def test_sqnr_of_nan_is_nan_and_of_many_is_one_each() -> None:
    assert np.isnan(sqnr_db(np.nan, 1))
    assert np.isnan(sqnr_db(1, np.nan))
    np.testing.assert_allclose(sqnr_db([100, 1, 1], [1, 10, 0]), [20, -10, np.inf])


def test_squares_are_summed_in_float64_over_the_axes() -> None:
    x = np.array([[1e4, 2], [3, 4]], np.float16)
    assert squares(x) == 1e8 + 4 + 9 + 16  # float16 ends at 65504
    np.testing.assert_array_equal(squares(x, (0,)), [1e8 + 9, 20])
    assert squares(x).dtype == np.float64


def test_result_has_every_metric_of_known_values() -> None:
    result = error_sums(np.array([3.0, -4.0]), np.array([3.0, -2.0])).result()
    assert result.max_abs == 2
    assert result.mean_abs == 1
    assert result.sqnr_db == pytest.approx(10 * math.log10(25 / 4))
    assert result.cosine == pytest.approx(17 / (5 * math.sqrt(13)))


@given(st.lists(values, min_size=1, max_size=4))
def test_sums_of_parts_are_those_of_the_whole(parts: list[np.ndarray]) -> None:
    """the sums of two parts of the data add up to those of both; the largest error is that of any part"""
    outputs = [part + np.float32(k) * part[::-1] for k, part in enumerate(parts)]
    total = ErrorSums()
    for reference, output in zip(parts, outputs, strict=True):
        total = total + error_sums(reference, output)
    reference, output = np.concatenate(parts).astype(float), np.concatenate(outputs).astype(float)
    result, error = total.result(), np.abs(output - reference)
    assert total.count == reference.size
    assert result.max_abs == error.max()
    assert result.mean_abs == pytest.approx(error.mean())
    wanted = (np.square(reference).sum(), np.square(output).sum(), (reference * output).sum(), np.square(error).sum())
    assert (total.reference2, total.output2, total.dot, total.error2) == pytest.approx(wanted)


def test_largest_error_is_that_of_all_batches_wherever_it_is() -> None:
    small, large = error_sums(np.zeros(3), np.ones(3)), error_sums(np.zeros(3), np.array([0, -7, 0]))
    assert (small + large).result().max_abs == (large + small).result().max_abs == 7


def test_equal_outputs_have_cosine_one_and_no_noise() -> None:
    x = floats(1000)
    result = error_sums(x, x).result()
    assert (result.cosine, result.sqnr_db, result.max_abs) == (pytest.approx(1), math.inf, 0)
    assert result.cosine <= 1


@pytest.mark.parametrize(("output", "cosine"), [(0.0, 1.0), (1.0, 0.0)])
def test_cosine_to_an_all_zero_reference_is_whether_the_output_is_zero_too(output: float, cosine: float) -> None:
    assert error_sums(np.zeros(2), np.full(2, output)).result().cosine == cosine


def test_no_output_raises() -> None:
    with pytest.raises(DataError, match="there is no output to compare"):
        ErrorSums().result()


def test_outputs_of_other_shape_raise() -> None:
    with pytest.raises(DataError, match=r"output 'y' has shape \(3,\), FP32 has \(2,\)"):
        error_sums(np.zeros(2), np.zeros(3), "y")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_raise_unless_allowed(bad: float) -> None:
    with pytest.raises(DataError, match="output 'y' has NaN or infinity"):
        error_sums(np.zeros(1), np.array([bad]), "y")
    with pytest.raises(DataError, match="the reference of output 'y' has NaN or infinity"):
        error_sums(np.array([bad]), np.zeros(1), "y")
    sums = error_sums(np.ones(1), np.array([bad]), "y", finite=False)
    assert sums.sqnr_db == -math.inf or math.isnan(sums.sqnr_db)
