"""The threshold of least mean squared quantization error, from the histogram.

In units of the bin width the error of a bin depends on the candidate alone, not on the data: one constant matrix
`E[candidate, bin] = (x - fake_quantize(x))^2` at the bin's centre, so the search is one matrix-vector product.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from quantlab.observers.binning import BINS
from quantlab.observers.histogram import Histogram, HistogramObserver

STEP = 4  # bins between candidates: 0.2 % of the range


class Mse(HistogramObserver):
    """Weighs saturation against resolution by squared error."""

    name = "mse"

    def _threshold(self, histogram: Histogram) -> np.float32:
        return mse_amax(histogram)


def mse_amax(histogram: Histogram, codes: int = 127) -> np.float32:
    """Upper edge of the best candidate; the largest on ties. Empty upper bins are never kept.

    Args:
        histogram: Of magnitudes.
        codes: Steps from 0 to the threshold: 127, or 255 where a tensor without negative values has all codes.

    Returns:
        The amax.
    """
    errors = _squared_errors(codes) @ histogram.counts.astype(np.float64)
    best = STEP * (BINS // STEP - int(np.argmin(errors[::-1])))
    occupied = int(np.flatnonzero(histogram.counts)[-1]) + 1
    amax: np.float32 = np.float32(min(best, occupied)) * histogram.bin_width
    return amax


@lru_cache(maxsize=2)
def _squared_errors(codes: int) -> NDArray[np.float64]:
    """(512, 2048) squared error in bin widths; row c keeps amax = (c + 1) * STEP bins. Bin 0 holds zeros: no error."""
    x = np.arange(BINS) + 0.5
    x[0] = 0.0
    amax = np.arange(STEP, BINS + 1, STEP)[:, None]
    scale = amax / codes
    kept = np.minimum(np.rint(x / scale), codes) * scale
    return np.asarray((x - kept) ** 2, np.float64)
