"""The inner loop of calibration: magnitudes into 2048 bins.

`counts[min(int(|x| * (2048 / range)), 2047)] += 1`, the product in float32, as TensorRT computes it. Two
implementations with the same result to the last count: numpy, and numba's machine code where it is installed
(the extra `fast`) and there is enough to count to be worth its start.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

BINS = 2048
_CHUNK = 1 << 16  # values binned at a time by numpy: their temporaries stay in the L2 cache
_WORTH_COMPILING = 30_000_000  # values; below that numba's import and compilation take longer than they save

_binned = 0  # values seen by this process


def bin_counts(x: NDArray[np.float32], range_: np.float32) -> NDArray[np.int64]:
    """int64 (2048,): how many magnitudes of `x` fall into each bin of [0, range_]; those beyond go to the last."""
    global _binned
    _binned += x.size
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    factor = np.float32(np.float32(BINS) / range_)
    kernel = _compiled() if _binned > _WORTH_COMPILING else None
    return (kernel or with_numpy)(flat, factor)


def with_numpy(flat: NDArray[np.float32], factor: np.float32) -> NDArray[np.int64]:
    """The reference."""
    counts = np.zeros(BINS, np.int64)
    for start in range(0, flat.size, _CHUNK):
        scaled = np.abs(flat[start : start + _CHUNK])
        np.multiply(scaled, factor, out=scaled)
        np.minimum(scaled, np.float32(BINS - 1), out=scaled)
        counts += np.bincount(scaled.astype(np.intp), minlength=BINS)
    return counts


@lru_cache(maxsize=1)
def _compiled() -> Callable[[NDArray[np.float32], np.float32], NDArray[np.int64]] | None:
    """The same as machine code that runs outside Python's lock; None without numba."""
    if find_spec("numba") is None:
        return None
    import numba

    def fill(flat: NDArray[np.float32], factor: np.float32) -> NDArray[np.int64]:
        counts = np.zeros(2048, np.int64)
        for i in range(flat.size):
            counts[min(np.int32(min(abs(flat[i]) * factor, np.float32(2047))), 2047)] += 1
        return counts

    values = numba.types.Array(numba.types.float32, 1, "C", readonly=True)  # mapped files cannot be written
    signature = numba.types.int64[::1](values, numba.types.float32)
    compiled: Callable[[NDArray[np.float32], np.float32], NDArray[np.int64]] = numba.njit(signature, nogil=True)(fill)
    return compiled
