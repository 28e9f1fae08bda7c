"""numba's bins are numpy's, to the last count."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import quantlab
from models import floats
from quantlab.observers import binning

values = hnp.arrays(np.float32, st.integers(0, 200), elements=st.floats(-(2.0**30), 2.0**30, width=32))


def compiled() -> object:
    pytest.importorskip("numba")
    return binning._compiled()


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


@pytest.fixture
def compiled_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the arrays that machine code counts, in a process that has counted nothing; 100 values pay for it."""
    sizes: list[int] = []

    def kernel(x: np.ndarray, factor: np.float32) -> tuple[np.ndarray, np.float32]:
        sizes.append(x.size)
        return binning.with_numpy(x, factor), np.float32(1)

    monkeypatch.setattr(binning, "_WORKLOAD", binning._Workload())
    monkeypatch.setattr(binning, "_WORTH_COMPILING", 100)
    monkeypatch.setattr(binning, "_compiled", lambda: kernel)
    return sizes


def count(*sizes: int) -> None:
    for size in sizes:
        binning.count_magnitudes(np.ones(size, np.float32), np.float32(1))


def test_machine_code_is_used_once_there_is_more_than_pays_for_it(compiled_sizes: list[int]) -> None:
    count(60, 40)
    assert compiled_sizes == []
    count(1, 5)
    assert compiled_sizes == [1, 5]


def test_announced_values_pay_for_machine_code_from_the_first_on(compiled_sizes: list[int]) -> None:
    binning.expect(101)
    count(10)
    assert compiled_sizes == [10]


def test_announced_values_count_once(compiled_sizes: list[int]) -> None:
    binning.expect(70)
    count(40, 40)  # 70 announced and 10 more
    assert compiled_sizes == []
    count(20)  # 100
    assert compiled_sizes == []
    count(1)
    assert compiled_sizes == [1]


def test_announcements_add_up(compiled_sizes: list[int]) -> None:
    binning.expect(50)
    binning.expect(51)
    count(10)
    assert compiled_sizes == [10]


def test_workload_is_changed_under_its_lock_only() -> None:
    class Watched(binning._Workload):
        changed: ClassVar[list[str]] = []

        def __setattr__(self, name: str, value: object) -> None:
            if hasattr(self, "_ahead"):  # it is made
                assert self._lock.locked(), name
                self.changed.append(name)
            super().__setattr__(name, value)

    workload = Watched()
    workload.announce(5)
    workload.is_worth_compiling(7)
    assert Watched.changed == ["_values", "_ahead", "_ahead", "_values"]
    assert not workload._lock.locked()


def test_more_values_than_machine_code_can_count_go_to_numpy(
    compiled_sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    binning.expect(1000)
    monkeypatch.setattr(binning, "_MOST", 10)
    count(9, 10)
    assert compiled_sizes == [9]


def test_without_numba_everything_is_counted_by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binning, "find_spec", lambda name: None)
    binning._compiled.cache_clear()
    try:
        assert binning._compiled() is None
        monkeypatch.setattr(binning, "_WORKLOAD", binning._Workload())
        binning.expect(2 * binning._WORTH_COMPILING)
        counts, amax = binning.count_magnitudes(np.array([0.5, -1], np.float32), np.float32(1))
    finally:
        binning._compiled.cache_clear()
    assert counts is not None
    assert (np.flatnonzero(counts).tolist(), float(amax)) == ([1024, 2047], 1.0)


def test_arrays_that_cannot_be_written_are_counted() -> None:
    x = floats(1000)
    x.flags.writeable = False
    np.testing.assert_array_equal(compiled()(x, np.float32(500))[0], binning.with_numpy(x, np.float32(500)))  # type: ignore[operator]


@pytest.mark.parametrize("enough", [False, True])
@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_value_that_is_no_number_is_refused(
    enough: bool, value: float, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binning, "_WORKLOAD", binning._Workload())
    if enough:
        compiled()
        binning.expect(binning._WORTH_COMPILING + 1)
    x = floats(3000)
    x[1500] = value
    with pytest.raises(quantlab.QuantlabError, match=kind):
        binning.count_magnitudes(x, np.float32(6))


def test_no_counts_beyond_the_range() -> None:
    assert binning.count_magnitudes(np.array([1, -3], np.float32), np.float32(2)) == (None, np.float32(3))
