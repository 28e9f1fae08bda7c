"""Quantize and dequantize, bit for bit as ONNX QuantizeLinear and DequantizeLinear with int8 and zero point 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantlab.errors import ConfigError, DataError
from quantlab.numerics.granularity import PER_TENSOR, Granularity, PerChannel, normalized_axis
from quantlab.numerics.scales import INT8_MAX, INT8_MIN, scale_from_amax


def _broadcast(scale: ArrayLike, axis: int | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
    s = np.asarray(scale, np.float32)
    if not ((s > 0) & np.isfinite(s)).all():
        raise DataError("a scale is not finite and > 0", hint="make scales with scale_from_amax")
    if axis is None:
        if s.shape != ():
            raise ConfigError(f"per-tensor scale has shape {s.shape}, expected ()", hint="pass the channel axis")
        return s
    axis = normalized_axis(axis, len(shape))
    if s.shape != (shape[axis],):
        raise ConfigError(
            f"per-channel scale has shape {s.shape}, expected ({shape[axis]},) for axis {axis} of {shape}",
            hint="give one scale per index of the channel axis",
        )
    return s.reshape([-1 if a == axis else 1 for a in range(len(shape))])


def quantize(x: NDArray[np.floating], scale: ArrayLike, axis: int | None = None) -> NDArray[np.int8]:
    """`q = clip(rint(x / scale), -128, 127)` in float32, ties to even (ONNX QuantizeLinear).

    Args:
        x: Any shape. Infinity saturates.
        scale: float32 > 0 of shape () or, with `axis`, (x.shape[axis],).
        axis: The channel axis; None for one scale.

    Returns:
        int8 codes of the shape of `x`.

    Raises:
        DataError: `x` has NaN, whose code ONNX leaves undefined; or a scale is not finite and > 0.
        ConfigError: `scale` does not have the shape that `axis` asks for.
    """
    x = np.asarray(x, np.float32)
    if np.isnan(x).any():
        raise DataError("cannot quantize NaN", hint="look for the operation that produced it")
    with np.errstate(over="ignore"):  # a quotient beyond float32 saturates like infinity
        ratio = np.rint(x / _broadcast(scale, axis, x.shape))
    return np.asarray(np.clip(ratio, INT8_MIN, INT8_MAX), np.int8)


def dequantize(q: NDArray[np.int8], scale: ArrayLike, axis: int | None = None) -> NDArray[np.float32]:
    """`x = q * scale` in float32 (ONNX DequantizeLinear).

    Args:
        q: int8 codes, any shape.
        scale: As `quantize`.
        axis: As `quantize`.

    Returns:
        float32 values of the shape of `q`.

    Raises:
        DataError: A scale is not finite and > 0.
        ConfigError: `scale` does not have the shape that `axis` asks for.
    """
    return np.asarray(q.astype(np.float32) * _broadcast(scale, axis, q.shape), np.float32)


def fake_quantize(
    x: NDArray[np.floating], amax: ArrayLike, granularity: Granularity = PER_TENSOR
) -> NDArray[np.float32]:
    """What INT8 keeps of x: `dequantize(quantize(x))`.

    Args:
        x: Any shape.
        amax: float32 >= 0, of shape () or, for PerChannel, (C,).
        granularity: One scale, or one per channel.

    Returns:
        float32 values of the shape of `x`.

    Raises:
        DataError: `x` has NaN, or `amax` is not finite and >= 0.
        ConfigError: `amax` does not have the shape that `granularity` asks for.
    """
    scale = scale_from_amax(amax)
    axis = granularity.axis if isinstance(granularity, PerChannel) else None
    return dequantize(quantize(x, scale, axis), scale, axis)
