"""The largest magnitude ever seen (TensorRT's MinMax calibrator: `max over batches of max|x|`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import NotCalibratedError
from quantlab.numerics import amax_of


class MinMax:
    """Keeps everything: no value saturates, and one outlier can cost every other value its resolution."""

    name = "minmax"

    def __init__(self) -> None:
        self._amax: NDArray[np.float32] | None = None

    def observe(self, x: NDArray[np.float32]) -> None:
        """Take one batch, or a part of one. DataError if it has NaN or infinity."""
        amax = amax_of(x)
        self._amax = amax if self._amax is None else np.maximum(self._amax, amax)

    def compute_amax(self) -> NDArray[np.float32]:
        """The largest magnitude so far, a new array every time; NotCalibratedError before any data."""
        if self._amax is None:
            raise NotCalibratedError("minmax has seen no data", hint="call observe with at least one batch")
        return np.array(self._amax)
