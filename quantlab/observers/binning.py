"""The inner loop of calibration: magnitudes into 2048 bins, and the largest of them.

`counts[min(int(|x| * (2048 / range)), 2047)] += 1`, the product in float32, as TensorRT computes it. Two
implementations with the same result to the last count: numpy, and numba's machine code where it is installed
(the extra `fast`) and there is enough to count to be worth its start. numba's reads the values once and runs in
several threads; numpy's counting holds Python's lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from quantlab.numerics import amax_of

BINS = 2048
_CHUNK = 1 << 16  # values binned at a time by numpy: their temporaries stay in the L2 cache
_WORTH_COMPILING = 800_000_000  # values: numpy takes 2.3 ns for each, numba 0.4 and 1.6 s to import and compile
_MOST = 1 << 31  # values at a time that numba's uint32 counters can hold

Counts = NDArray[np.int64]


class _Workload:
    """How much this process has counted or is going to: from some amount on compiling pays.

    Observers of different tensors count in several threads, so every change is made under a lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = 0  # seen, or announced
        self._ahead = 0  # of those, still to come

    def announce(self, values: int) -> None:
        """So many are going to be counted."""
        with self._lock:
            self._values += values
            self._ahead += values

    def is_worth_compiling(self, values: int) -> bool:
        """Count `values` as seen, and say whether there is enough to pay for compiling."""
        with self._lock:
            announced = min(self._ahead, values)
            self._ahead -= announced
            self._values += values - announced
            return self._values > _WORTH_COMPILING


_WORKLOAD = _Workload()


def expect(values: int) -> None:
    """So many are going to be counted: where compiling pays for them it is done before the first."""
    _WORKLOAD.announce(values)


def count_magnitudes(x: NDArray[np.float32], range_: np.float32) -> tuple[Counts | None, np.float32]:
    """Count magnitudes.

    Args:
        x: float32, any shape.
        range_: The end of the last bin.

    Returns:
        (int64 (2048,): how many magnitudes fall into each bin of [0, range_]; the largest magnitude). No counts where
        that is larger than `range_`.

    Raises:
        DataError: There is NaN or infinity.
    """
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    factor = np.float32(np.float32(BINS) / range_)
    kernel = _compiled() if _WORKLOAD.is_worth_compiling(x.size) else None
    if kernel is None or flat.size >= _MOST:
        amax = np.float32(amax_of(flat))
        return (None if amax > range_ else with_numpy(flat, factor)), amax
    counts, amax = kernel(flat, factor)
    if not np.isfinite(amax):
        amax_of(flat)  # raises, and says which of the two it is
    return (None if amax > range_ else counts), amax


def with_numpy(flat: NDArray[np.float32], factor: np.float32) -> Counts:
    """The reference.

    Args:
        flat: float32 (N,).
        factor: float32 `2048 / range`.

    Returns:
        int64 (2048,): how many magnitudes fall into each bin; those beyond the range are in the last.
    """
    counts = np.zeros(BINS, np.int64)
    for start in range(0, flat.size, _CHUNK):
        scaled = np.abs(flat[start : start + _CHUNK])
        np.multiply(scaled, factor, out=scaled)
        np.minimum(scaled, np.float32(BINS - 1), out=scaled)
        counts += np.bincount(scaled.astype(np.intp), minlength=BINS)
    return counts


Kernel = Callable[[NDArray[np.float32], np.float32], tuple[Counts, np.float32]]


@lru_cache(maxsize=1)
def _compiled() -> Kernel | None:
    """The same as machine code that runs outside Python's lock; None without numba."""
    if find_spec("numba") is None:
        return None
    import numba

    block = 1024  # values: their indices stay in the L1 cache between the two loops, which vectorize one by one

    def fill(flat: NDArray[np.float32], words: NDArray[np.int32], factor: np.float32) -> tuple[NDArray[np.uint32], int]:
        # four tables: equal indices in a row, as after a Relu, do not wait for each other
        tables, index = np.zeros((4, 2048), np.uint32), np.empty(block, np.int32)
        largest, last, magnitude = np.int32(0), np.float32(2047), np.int32(0x7FFFFFFF)
        for start in range(0, flat.size, block):
            values, bits = flat[start : start + block], words[start : start + block]
            size = values.size
            for i in range(size):
                scaled = abs(values[i]) * factor
                index[i] = np.int32(last if scaled > last else scaled)
            for i in range(size):  # magnitudes are ordered as the integers of their bits; NaN is above all
                word = bits[i] & magnitude
                largest = word if word > largest else largest
            fours = size // 4 * 4
            for i in range(0, fours, 4):  # the mask keeps what NaN became inside the table
                tables[0, index[i] & 2047] += np.uint32(1)
                tables[1, index[i + 1] & 2047] += np.uint32(1)
                tables[2, index[i + 2] & 2047] += np.uint32(1)
                tables[3, index[i + 3] & 2047] += np.uint32(1)
            for i in range(fours, size):
                tables[0, index[i] & 2047] += np.uint32(1)
        return tables, largest

    # read-only arrays: mapped files cannot be written
    values = numba.types.Array(numba.types.float32, 1, "C", readonly=True)
    words = numba.types.Array(numba.types.int32, 1, "C", readonly=True)
    compiled = numba.njit((values, words, numba.types.float32), nogil=True)(fill)

    def kernel(flat: NDArray[np.float32], factor: np.float32) -> tuple[Counts, np.float32]:
        tables, largest = compiled(flat, flat.view(np.int32), factor)
        return tables.sum(axis=0, dtype=np.int64), np.float32(np.array(largest, np.int32).view(np.float32))

    return kernel
