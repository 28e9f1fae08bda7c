"""TensorRT's histogram of magnitudes: 2048 bins whose range doubles, and the base of every observer that reads one.

Source of the arithmetic: measured on TensorRT 8.6.0, reproduced byte for byte against its calibration caches
(tests/golden). The range starts at max|x| of the first batch that is not all zero and grows by doublings only, so the
bins depend on how the data is split into batches and on their order. Feed the batches TensorRT would get.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import DataError, NotCalibratedError
from quantlab.numerics import amax_of
from quantlab.observers.binning import BINS, count_magnitudes

SMALLEST_RANGE = BINS * np.finfo(np.float32).tiny
"""2.4e-35: with a smaller range the bin width is denormal. A batch below it counts as all zero."""
LARGEST = np.float32(1e38)
"""A range that is doubled beyond this would overflow float32."""


class Histogram:
    """Counts of |x| over `[0, range]`.

    counts: int64 (2048,); zeros of the data are in bin 0. range: float32, 0 until a batch has a value other than zero.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.range = np.float32(0)
        self.batches = 0
        self.zeros_before = 0  # values of the all-zero batches seen before the range was known
        self._edge = 0  # values of this batch, in the last bin, that are exactly `range`

    @property
    def total(self) -> int:
        """Number of values seen."""
        return int(self.counts.sum()) + self.zeros_before

    @property
    def bin_width(self) -> np.float32:
        """float32 `range / 2048`."""
        width: np.float32 = self.range / np.float32(BINS)
        return width

    def share_above(self, amax: float) -> float:
        """Share of all values that lie above `amax` and would saturate, 0..1, to the resolution of a bin."""
        if self.range == 0:
            return 0.0
        first = int(np.ceil(amax / float(self.bin_width)))
        return float(self.counts[first:].sum()) / self.total

    def observe(self, x: NDArray[np.float32]) -> None:
        """Add one calibration batch (all samples of it together). NaN or infinity raise DataError."""
        if self.range == 0:
            self.start_batch(np.float32(amax_of(x)))
        self.observe_part(x)
        self.end_batch()

    def start_batch(self, amax: np.float32) -> None:
        """Needed before the parts of a batch while `range` is 0: the range starts at the amax of the whole batch."""
        if self.range == 0 and amax >= SMALLEST_RANGE:
            self.range = amax

    def observe_part(self, x: NDArray[np.float32]) -> None:
        """Add some samples of a batch; the counts after `end_batch` are those of `observe` on the whole."""
        if self.range == 0:
            amax_of(x)  # refuses NaN
            self.zeros_before += x.size
            return
        counts, amax = count_magnitudes(x, self.range)
        if counts is None:
            self._grow(amax)
            counts, _ = count_magnitudes(x, self.range)
        assert counts is not None
        self.counts += counts
        if amax == self.range:
            self._edge += int(np.count_nonzero(np.abs(x) == self.range))

    def end_batch(self) -> None:
        """All parts of the batch are in."""
        self.batches += 1
        self._edge = 0

    def _grow(self, amax: np.float32) -> None:
        half = BINS // 2
        if amax > LARGEST:
            raise DataError(f"values reach {amax:.3g}, too large for a histogram", hint="such a model cannot be INT8")
        while amax > self.range:
            self.range = np.float32(self.range * np.float32(2))
            self.counts[:half] = self.counts[0::2] + self.counts[1::2]
            self.counts[half:] = 0
            # a value at the old range lies at the start of the upper half now. TensorRT, which grows before it bins a
            # batch, puts those of this batch there; those of earlier batches stay in the last bin of the lower half
            self.counts[half - 1] -= self._edge
            self.counts[half] += self._edge
            self._edge = 0


class HistogramObserver:
    """Base of observers that decide from a `Histogram`. Several of them may share one (see `ObserverGroup`)."""

    name = "histogram"

    def __init__(self) -> None:
        self.histogram = Histogram()

    def observe(self, x: NDArray[np.float32]) -> None:
        self.histogram.observe(x)

    def compute_amax(self) -> NDArray[np.float32]:
        if self.histogram.batches == 0:
            raise NotCalibratedError(f"{self.name} has seen no data", hint="call observe with at least one batch")
        if self.histogram.range == 0:
            return np.asarray(0, np.float32)
        return np.asarray(self._threshold(self.histogram), np.float32)

    def _threshold(self, histogram: Histogram) -> np.float32:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
