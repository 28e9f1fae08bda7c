"""How a tensor of the ONNX model is found again in the graph of the module: by its values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.torch.trial import HALF_OF_DIGITS


class Fingerprint:
    """What stays the same of a tensor's values when they are moved, reshaped or padded with zeros, as rounding does.

    A pair with one scale rounds every value by itself: it matters which values there are and not where they stand.

    Args:
        values: Of floating point type.
    """

    __slots__ = ("_size", "_sums")

    def __init__(self, values: NDArray[Any]) -> None:
        x = np.asarray(values, np.float64).ravel()
        x = x[np.isfinite(x)]  # masks
        self._size = float(np.abs(x).max(initial=0.0))
        unit = x / self._size if self._size else x
        self._sums = np.array([unit.sum(), np.abs(unit).sum(), (unit**2).sum(), (unit**3).sum()])

    def distance(self, other: Fingerprint) -> float:
        """How far two are apart, relative to their values; above `HALF_OF_DIGITS` they are of other values."""
        size = max(self._size, other._size)
        if not size:
            return 0.0
        weight = max(self._sums[1], other._sums[1], 1.0)  # the sum of magnitudes bounds what rounding adds to each
        sums = np.abs(self._sums - other._sums).max() / weight
        return float(max(abs(self._size - other._size) / size, sums))

    def fits(self, other: Fingerprint) -> bool:
        """Whether the two are of the same values but for the rounding of float32."""
        return self.distance(other) <= HALF_OF_DIGITS
