"""TensorRT's entropy calibration (v1 and v2 share the arithmetic): the threshold of least KL divergence.

For every candidate i = 128..2048 bins the kept part P (outliers added to its last bin) is compared with Q, the same
bins merged to 128 levels. Q is made WITHOUT the outliers, its levels are `floor(b * 128 / i)`, each level's mean over
its non-empty bins. Published sketch: Migacz, "8-bit inference with TensorRT", GTC 2017; the details (which candidates
are skipped, ties, the zero bin) were measured on TensorRT 8.6.0 and are proven in tests/golden.

The sums over bins are taken from running sums at the 128 level borders, for all candidates at once:
    KL = 1/N * (sum P log P - sum_level (S + outliers in the last level) * log(S / n)) + log(C / N)
with S, n, C the count, the number of non-empty bins of a level, and the count of all kept bins. Candidates that come
close to the least are evaluated again term by term, so that ties are decided by exact arithmetic.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from quantlab.observers.binning import BINS
from quantlab.observers.histogram import Histogram, HistogramObserver

LEVELS = 128
_NEAR = 1e-9  # larger than the rounding of the running sums (about 2048 * 2^-53 * log N), far below any real difference


class Entropy(HistogramObserver):
    """Drops outliers where that loses less information than coarser levels would: TensorRT's default."""

    name = "entropy"

    def _threshold(self, histogram: Histogram) -> np.float32:
        return entropy_amax(histogram)


def entropy_amax(histogram: Histogram) -> np.float32:
    """`float32((m + 0.5) * bin_width)`, m the best candidate. May exceed the range by half a bin, as in TensorRT."""
    amax: np.float32 = np.float32(best_candidate(histogram.counts) + 0.5) * histogram.bin_width
    return amax


def best_candidate(counts: NDArray[np.int64]) -> int:
    """The number of bins to keep, 128..2048; the largest on ties; 2048 if no candidate is finite."""
    h = counts.astype(np.float64)
    h[0] = h[1]  # the zero bin takes its neighbour's count
    divergence = _divergences(h)
    least = divergence.min()
    if not np.isfinite(least):
        return BINS
    near = np.flatnonzero(divergence <= least + _NEAR) + LEVELS
    exact = [(_divergence(h, int(i)), -int(i)) for i in near]
    return -min(exact)[1]


@lru_cache(maxsize=1)
def _borders() -> NDArray[np.intp]:
    """(1921, 129): first bin of every level for each candidate, and its end. floor(b*128/i) >= l iff b >= l*i/128."""
    i = np.arange(LEVELS, BINS + 1)[:, None]
    return -((-np.arange(LEVELS + 1)[None, :] * i) // LEVELS)


def _log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(x, out=np.zeros_like(x), where=x > 0)


def _divergences(h: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL of candidates 128..2048, shape (1921,), infinity where a candidate is skipped."""
    kept = np.concatenate([[0.0], np.cumsum(h)])
    filled = np.concatenate([[0], np.cumsum(h > 0)])
    h_log_h = np.concatenate([[0.0], np.cumsum(h * _log(h))])
    total = kept[-1]
    if total == 0:
        return np.full(BINS - LEVELS + 1, np.inf)
    i = np.arange(LEVELS, BINS + 1)
    last, outliers = h[i - 1], total - kept[i]
    borders = _borders()
    level_sum = np.diff(kept[borders], axis=1)
    level_bins = np.diff(filled[borders], axis=1)
    log_q = _log(level_sum / np.maximum(level_bins, 1))
    cross = np.einsum("cl,cl->c", level_sum, log_q) + outliers * log_q[:, -1]
    p_log_p = h_log_h[i - 1] + (last + outliers) * _log(last + outliers)
    skipped = (outliers > 0) & ((last == 0) | (filled[i] <= 1))
    kl = (p_log_p - cross) / total + _log(kept[i] / total)
    return np.where(skipped | (kept[i] == 0), np.inf, kl)


def _divergence(h: NDArray[np.float64], i: int) -> float:
    """KL of one candidate, term by term: the definition."""
    p = h[:i].copy()
    p[-1] += h[i:].sum()
    level = np.arange(i) * LEVELS // i
    sums = np.bincount(level, weights=h[:i], minlength=LEVELS)
    bins = np.bincount(level, weights=h[:i] > 0, minlength=LEVELS)
    q = np.where(h[:i] > 0, (sums / np.maximum(bins, 1))[level], 0)
    p, q = p / p.sum(), q / q.sum()
    filled = p > 0
    return float(np.sum(p[filled] * np.log(p[filled] / q[filled])))
