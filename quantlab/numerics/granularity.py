"""How many scales a tensor has: one, or one per index of an axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class PerTensor:
    """One scale. A tensor of shape (64, 3, 7, 7) has scales of shape ()."""


@dataclass(frozen=True, slots=True)
class PerChannel:
    """One scale per index of `axis`. A tensor of shape (64, 3, 7, 7) with axis 0 has scales of shape (64,).

    Attributes:
        axis: The channel axis, from the front or (negative) from the end.
    """

    axis: int


Granularity = PerTensor | PerChannel
"""How many scales a tensor has."""
PER_TENSOR = PerTensor()
"""One scale for the whole tensor."""


def normalized_axis(axis: int, ndim: int) -> int:
    """Count an axis from the front.

    Args:
        axis: From the front or (negative) from the end.
        ndim: Number of dimensions.

    Returns:
        The axis in [0, ndim).

    Raises:
        ConfigError: A tensor of `ndim` dimensions has no such axis.
    """
    if not -ndim <= axis < ndim:
        raise ConfigError(
            f"axis {axis} does not exist in a tensor of {ndim} dimensions",
            hint=f"use an axis in [{-ndim}, {ndim - 1}]",
        )
    return axis % ndim


def amax_of(x: NDArray[np.floating], granularity: Granularity = PER_TENSOR) -> NDArray[np.float32]:
    """The largest magnitude.

    Args:
        x: Any shape; an empty tensor gives 0.
        granularity: One for all values, or one per channel.

    Returns:
        float32 >= 0 of shape () or (C,).

    Raises:
        DataError: `x` has NaN or infinity.
        ConfigError: `x` has no such channel axis.
    """
    axes: tuple[int, ...] | None = None
    if isinstance(granularity, PerChannel):
        keep = normalized_axis(granularity.axis, x.ndim)
        axes = tuple(a for a in range(x.ndim) if a != keep)
    # max(|x|) without a temporary as large as x
    amax = np.maximum(np.abs(x.max(axis=axes, initial=0)), np.abs(x.min(axis=axes, initial=0))).astype(np.float32)
    if not np.isfinite(amax).all():
        kind = "NaN" if np.isnan(amax).any() else "infinity"
        raise DataError(f"values contain {kind}", hint="a scale needs finite values; look at the input and the weights")
    return np.asarray(amax, np.float32)
