"""amax <-> scale. The one place where zero, denormal, NaN and infinite magnitudes are decided.

`scale = amax / 127` (symmetric INT8, as TensorRT and its calibration caches use it), so the code -128 stands for a
value just outside amax and a scale multiplies codes: `x ≈ q * scale`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantlab.errors import DataError

INT8_MIN = -128
"""The smallest code."""
INT8_MAX = 127
"""The largest code: `scale = amax / 127`."""
SMALLEST_SCALE = np.finfo(np.float32).tiny
"""Smallest normal float32 (1.18e-38). GPUs flush smaller ones to zero, and dividing by them overflows."""
ZERO_AMAX_SCALE = np.float32(1.0)
"""Scale of a tensor or channel that is all zero: any positive scale reproduces it exactly; 1.0 is a harmless one."""


def scale_from_amax(amax: ArrayLike) -> NDArray[np.float32]:
    """The scale of a range: `amax / 127`, never zero or denormal.

    Args:
        amax: Any shape; 0 gives 1.0, and one so small that amax / 127 is denormal the smallest normal float32.

    Returns:
        float32 > 0 of the shape of `amax`.

    Raises:
        DataError: An amax is negative, NaN or infinite.
    """
    a = np.asarray(amax, np.float32)
    if not (np.isfinite(a).all() and (a >= 0).all()):
        raise DataError(f"amax {a.tolist()} is not finite and >= 0", hint="calibrate again on finite data")
    scale = np.maximum(a / np.float32(INT8_MAX), SMALLEST_SCALE)
    return np.asarray(np.where(a == 0, ZERO_AMAX_SCALE, scale), np.float32)


def amax_from_scale(scale: ArrayLike) -> NDArray[np.float32]:
    """The float32 amax that a scale was made from, or one with the same scale.

    `float32(scale * 127) / 127` gives every scale that was made as `amax / 127` back, bit for bit (the property test
    tries them).

    Args:
        scale: Any shape; 0, TensorRT's mark for an all-zero tensor, gives 0.

    Returns:
        float32 >= 0 of the shape of `scale`.

    Raises:
        DataError: A scale is negative, NaN or infinite.
    """
    s = np.asarray(scale, np.float32)
    if not (np.isfinite(s).all() and (s >= 0).all()):
        raise DataError(f"scale {s.tolist()} is not finite and >= 0", hint="the source of this scale is broken")
    largest = np.finfo(np.float32).max
    with np.errstate(over="ignore"):
        amax = s * np.float32(INT8_MAX)
    # the scale of the largest float32 may be rounded up
    rounded = np.isinf(amax) & (s <= np.nextafter(largest / np.float32(INT8_MAX), np.float32(np.inf)))
    if np.isinf(amax[~rounded]).any():
        raise DataError(f"scale {s.max():.3g} times {INT8_MAX} is beyond float32", hint="calibrate again")
    return np.asarray(np.where(rounded, largest, amax), np.float32)
