"""TensorRT's histogram of magnitudes: 2048 bins whose range doubles, and the base of every observer that reads one.

Source of the arithmetic: measured on TensorRT 8.6.0, reproduced byte for byte against its calibration caches
(tests/golden). The range starts at max|x| of the first batch that is not all zero and grows by doublings only, so the
bins depend on how the data is split into batches and on their order. Feed the batches TensorRT would get.

The order-independent variant starts at the next power of two instead: then every doubling merges two bins exactly, and
the same values give the same counts in any order, in any batches, on any machine. Its last bins are empty (at least
half of the 2048 are in use).
"""

from __future__ import annotations

import copy
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import ConfigError, DataError, NotCalibratedError
from quantlab.numerics import amax_of
from quantlab.observers.binning import BINS, count_magnitudes

SMALLEST_RANGE = BINS * np.finfo(np.float32).tiny
"""2.4e-35: with a smaller range the bin width is denormal. A batch below it counts as all zero."""
LARGEST = np.float32(1e38)
"""A range that is doubled beyond this would overflow float32."""

UNREPRODUCED = 1e6
"""A batch so many times larger than all before it is the one case in which TensorRT's scale is known to be another."""


class Histogram:
    """Counts of |x| over `[0, range]`.

    Args:
        order_independent: Start the range at a power of two, so that the counts depend on the values alone.

    Attributes:
        order_independent: As given.
        counts: int64 (2048,); zeros of the data are in bin 0.
        range: float32, 0 until a batch has a value other than zero.
        batches: Batches seen.
        jumped: Whether the range grew by UNREPRODUCED or more at once.
        amax: float32, the largest magnitude so far.
        last_amax: That of the last batch.
        zeros_before: Values of the all-zero batches seen before the range was known.
    """

    def __init__(self, order_independent: bool = False) -> None:
        self.order_independent = order_independent
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.range = np.float32(0)
        self.batches = 0
        self.jumped = False
        self.amax = self.last_amax = self._batch_amax = np.float32(0)
        self.zeros_before = 0
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
        if self.range != 0 or amax < SMALLEST_RANGE:
            return
        if not self.order_independent:
            self.range = amax
        else:
            self._refuse_above_largest(amax)
            self.range = np.float32(np.ldexp(1.0, np.frexp(amax)[1]))  # above amax, never equal to it
            self.counts[0] += self.zeros_before
            self.zeros_before = 0

    def observe_part(self, x: NDArray[np.float32]) -> None:
        """Add a part of a batch; the counts after `end_batch` are those of `observe` on the whole."""
        if self.range == 0:
            amax = np.float32(amax_of(x))
            if self.order_independent:
                self.start_batch(amax)
        if self.range == 0:
            self._batch_amax = max(self._batch_amax, amax)
            self.zeros_before += x.size
            return
        counts, amax = count_magnitudes(x, self.range)
        self._batch_amax = max(self._batch_amax, amax)
        if counts is None or self._outgrown(amax):
            self._grow(amax)
            counts, _ = count_magnitudes(x, self.range)
        assert counts is not None
        self.counts += counts
        if amax == self.range and not self.order_independent:
            self._edge += int(np.count_nonzero(np.abs(x) == self.range))

    def end_batch(self) -> None:
        """All parts of the batch are in."""
        self.batches += 1
        self._edge = 0
        self.amax, self.last_amax = max(self.amax, self._batch_amax), self._batch_amax
        self._batch_amax = np.float32(0)

    def merge(self, other: Histogram) -> None:
        """Add what another histogram has counted.

        Raises:
            ConfigError: One is not order-independent: TensorRT's bins depend on the range that the batches before have
                left, which no other histogram knows.
        """
        if not (self.order_independent and other.order_independent):
            raise ConfigError(
                "TensorRT's histogram depends on the order of the batches: parts of the data cannot be merged",
                hint="calibrate all parts order-independently",
            )
        theirs = copy.deepcopy(other)
        if theirs.range:
            self.start_batch(theirs.amax)
        if self.range:
            theirs.start_batch(self.amax)
            self._grow(theirs.amax)
            theirs._grow(self.amax)
        self.counts += theirs.counts
        self.zeros_before += theirs.zeros_before
        self.batches += theirs.batches
        self.amax = max(self.amax, theirs.amax)

    def _outgrown(self, amax: np.float32) -> bool:
        return bool(amax > self.range or (self.order_independent and amax == self.range))

    @staticmethod
    def _refuse_above_largest(amax: np.float32) -> None:
        if amax > LARGEST:
            raise DataError(f"values reach {amax:.3g}, too large for a histogram", hint="such a model cannot be INT8")

    def _grow(self, amax: np.float32) -> None:
        half = BINS // 2
        self._refuse_above_largest(amax)
        if not self.order_independent and float(amax) >= UNREPRODUCED * float(self.range):
            self.jumped = True
        while self._outgrown(amax):
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
        """Take one batch. DataError if it has NaN or infinity."""
        self.histogram.observe(x)

    def compute_amax(self) -> NDArray[np.float32]:
        """The threshold, a new array every time; NotCalibratedError before any data."""
        if self.histogram.batches == 0:
            raise NotCalibratedError(f"{self.name} has seen no data", hint="call observe with at least one batch")
        if self.histogram.range == 0:
            return np.asarray(0, np.float32)
        return np.array(self._threshold(self.histogram), np.float32)

    def _threshold(self, histogram: Histogram) -> np.float32:
        raise NotImplementedError(f"{type(self).__name__} has no _threshold(histogram)")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def reads_histogram(observer: object) -> TypeGuard[HistogramObserver]:
    """Whether a histogram is all that an observer wants of the data: a subclass may look at the values itself."""
    return isinstance(observer, HistogramObserver) and type(observer).observe is HistogramObserver.observe
