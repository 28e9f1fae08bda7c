"""TensorRT's calibration, written down from its description (measured on 8.6.0) statement by statement.

Slow and without anything of quantlab: what `quantlab.observers` has to agree with.
"""

from __future__ import annotations

import math

import numpy as np

BINS = 2048
LEVELS = 128


class LiteralHistogram:
    """`R`: the range. `H`: the counts. `largest`: the largest magnitude of all batches."""

    def __init__(self) -> None:
        self.R: np.float32 | None = None
        self.H = [0] * BINS
        self.largest = np.float32(0)

    def add(self, batch: np.ndarray) -> None:
        """One batch, all samples of it together."""
        values = [np.float32(abs(x)) for x in np.ravel(batch)]
        a = max(values)
        self.largest = max(self.largest, a)
        if self.R is None:
            if a == 0:
                return
            self.R = a
        while a > self.R:
            self.R = np.float32(self.R * np.float32(2))
            merged = [self.H[2 * j] + self.H[2 * j + 1] for j in range(BINS // 2)]
            self.H = merged + [0] * (BINS // 2)
        factor = np.float32(np.float32(BINS) / self.R)
        for x in values:
            self.H[min(int(x * factor), BINS - 1)] += 1

    @property
    def w(self) -> np.float32:
        """The width of a bin."""
        assert self.R is not None
        return np.float32(self.R / np.float32(BINS))

    def entropy_scale(self) -> np.float32:
        """As the entropy calibrators have it."""
        return np.float32(np.float32((entropy_bins(self.H) + 0.5) * self.w) / np.float32(127))

    def minmax_scale(self) -> np.float32:
        """As the min-max calibrator has it."""
        return np.float32(self.largest / np.float32(127))

    def legacy_scale(self, quantile: float) -> np.float32:
        """As the legacy calibrator has it, with a regression cutoff of 1."""
        total, running = float(sum(self.H)), 0.0
        for j in range(BINS):
            running += self.H[j] / total
            if running >= quantile:
                break
        return np.float32(np.float32((j + 1) * self.w) / np.float32(127))


def divergence(h: list[int], i: int) -> float | None:
    """KL of keeping i bins; None where the candidate is skipped. `h` has its zero bin replaced already."""
    outliers = sum(h[i:])
    filled = [b for b in range(i) if h[b] > 0]
    if outliers > 0 and (h[i - 1] == 0 or len(filled) == 1):
        return None
    if not filled:
        return None
    level_sum, level_bins = [0] * LEVELS, [0] * LEVELS
    for b in filled:
        level_sum[b * LEVELS // i] += h[b]
        level_bins[b * LEVELS // i] += 1
    P, Q = {}, {}
    for b in filled:
        P[b] = float(h[b])
        Q[b] = level_sum[b * LEVELS // i] / level_bins[b * LEVELS // i]
    if outliers > 0:
        P[i - 1] += outliers
    sum_p, sum_q = math.fsum(P.values()), math.fsum(Q.values())
    return math.fsum(P[b] / sum_p * math.log((P[b] / sum_p) / (Q[b] / sum_q)) for b in P)


def entropy_bins(H: list[int]) -> int:
    """How many bins entropy calibration keeps: the least KL, the largest of those that tie."""
    h = list(H)
    h[0] = h[1]
    best, m = math.inf, BINS
    for i in range(LEVELS, BINS + 1):
        kl = divergence(h, i)
        if kl is not None and kl <= best:
            best, m = kl, i
    return m
