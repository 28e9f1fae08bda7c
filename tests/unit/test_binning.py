"""numba's bins are numpy's, to the last count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import quantlab
from models import floats
from quantlab.observers import binning

values = hnp.arrays(np.float32, st.integers(0, 200), elements=st.floats(-(2.0**30), 2.0**30, width=32))


def compiled() -> object:
    pytest.importorskip("numba")
    return binning._compiled()


@settings(deadline=None)
@given(values, st.floats(2.0**-20, 2.0**20, width=32))
def test_compiled_counts_equal_numpys(x: np.ndarray, factor: float) -> None:
    counts, amax = compiled()(x, np.float32(factor))  # type: ignore[operator]
    np.testing.assert_array_equal(counts, binning.with_numpy(x, np.float32(factor)))
    assert amax == np.abs(x).max(initial=0)


def test_compiled_counts_equal_numpys_at_every_bin_edge() -> None:
    for range_ in (1.0, 6.0, 0.3, 7.7e-5, 123.4):
        edges = (np.arange(2050) / 2048 * range_).astype(np.float32)
        x = np.concatenate([edges, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(1e9)), -edges])
        factor = np.float32(np.float32(2048) / np.float32(range_))
        expected = binning.with_numpy(x, factor)
        assert expected.sum() == x.size
        np.testing.assert_array_equal(compiled()(x, factor)[0], expected)  # type: ignore[operator]


def test_choice_is_made_by_the_amount_of_data(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(binning, "_binned", 0)
    kernel = lambda x, f: used.append(x.size) or (binning.with_numpy(x, f), np.float32(1))  # noqa: E731
    monkeypatch.setattr(binning, "_compiled", lambda: kernel)
    binning.count_magnitudes(np.ones(10, np.float32), np.float32(1))
    assert used == []
    monkeypatch.setattr(binning, "_binned", binning._WORTH_COMPILING)
    binning.count_magnitudes(np.ones(10, np.float32), np.float32(1))
    assert used == [10]


def test_values_that_were_announced_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binning, "_binned", 0)
    monkeypatch.setattr(binning, "_ahead", 0)
    binning.expect(15)
    for _ in range(2):
        binning.count_magnitudes(np.ones(10, np.float32), np.float32(1))
    assert (binning._binned, binning._ahead) == (20, 0)


def test_arrays_that_cannot_be_written_are_counted() -> None:
    x = floats(1000)
    x.flags.writeable = False
    np.testing.assert_array_equal(compiled()(x, np.float32(500))[0], binning.with_numpy(x, np.float32(500)))  # type: ignore[operator]


@pytest.mark.parametrize("enough", [False, True])
@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_value_that_is_no_number_is_refused(
    enough: bool, value: float, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if enough:
        compiled()
        monkeypatch.setattr(binning, "_binned", binning._WORTH_COMPILING)
    x = floats(3000)
    x[1500] = value
    with pytest.raises(quantlab.QuantlabError, match=kind):
        binning.count_magnitudes(x, np.float32(6))


def test_no_counts_beyond_the_range() -> None:
    assert binning.count_magnitudes(np.array([1, -3], np.float32), np.float32(2)) == (None, np.float32(3))
