"""The magnitude that a given share of the values does not exceed (TensorRT's legacy calibrator, cutoff 1.0)."""

from __future__ import annotations

import numpy as np

from quantlab.errors import ConfigError
from quantlab.observers.histogram import Histogram, HistogramObserver


class Percentile(HistogramObserver):
    """`Percentile(99.99)` lets 0.01 % of the values saturate.

    Args:
        percentile: The share of the values to keep, in percent.

    Raises:
        ConfigError: It is not in (0, 100].
    """

    def __init__(self, percentile: float = 99.99) -> None:
        if not 0 < percentile <= 100:
            raise ConfigError(f"percentile {percentile} is not in (0, 100]", hint="99.9, 99.99 and 99.999 are usual")
        super().__init__()
        self.percentile = percentile
        self.name = f"percentile-{percentile}"

    def _threshold(self, histogram: Histogram) -> np.float32:
        return percentile_amax(histogram, self.percentile / 100)

    def __repr__(self) -> str:
        return f"Percentile({self.percentile})"


def percentile_amax(histogram: Histogram, quantile: float) -> np.float32:
    """Upper edge of the first bin where the running share of the counts reaches a quantile.

    Args:
        histogram: Of at least one value other than zero.
        quantile: The share to keep, in (0, 1].

    Returns:
        The threshold, float32.
    """
    running = np.cumsum(histogram.counts.astype(np.float64) / float(histogram.counts.sum()))
    reached = np.flatnonzero(running >= quantile)
    j = int(reached[0]) if reached.size else int(np.flatnonzero(histogram.counts)[-1])
    amax: np.float32 = np.float32(j + 1) * histogram.bin_width
    return amax
