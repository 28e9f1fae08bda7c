"""From an image to the array a model eats, as a value that is recorded with every result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from quantlab.data.decode import to_mode
from quantlab.errors import ConfigError

PIXELS = 2**26
"""Of an image after a step of the preprocess: 8192 x 8192."""
_LARGEST = float(np.finfo(np.float32).max)
_CHOICES = {
    "resize": ("none", "short_side", "exact", "letterbox"),
    "interpolation": ("nearest", "bilinear", "bicubic", "lanczos"),
    "color": ("rgb", "bgr", "gray"),
    "layout": ("nchw", "nhwc"),
    "dtype": ("float32", "float16", "uint8"),
    "rounding": ("nearest", "down"),
}


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Steps in the order they run; the result is `(pixel * scale - mean) / std`, computed in float32.

    Attributes:
        resize: `none`; `short_side` scales so that the shorter side is size[0] and keeps the aspect; `exact` distorts
            to size; `letterbox` scales to fit into size and fills the rest with `pad_value` on both sides.
        size: (height, width) in pixels.
        interpolation: `nearest`, `bilinear`, `bicubic` or `lanczos`.
        pad_value: Gray level 0..255 of what `letterbox` fills.
        crop: (height, width) in pixels, taken from the centre.
        color: `rgb`, `bgr` or `gray`.
        scale: What a pixel 0..255 is multiplied with.
        mean: One value, or one per channel in the order of `color`, in units of `pixel * scale`.
        std: As `mean`.
        layout: `nchw` or `nhwc`.
        dtype: `float32`, `float16` or `uint8`.
        rounding: How half pixels are rounded by `short_side` (the longer side) and `crop` (its corner): `nearest`, or
            `down`, as transformers does.

    Raises:
        ConfigError: A value is of the wrong type or none of those listed here.
    """

    resize: str = "none"
    size: tuple[int, int] | None = None
    interpolation: str = "bilinear"
    pad_value: int = 114
    crop: tuple[int, int] | None = None
    color: str = "rgb"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "nchw"
    dtype: str = "float32"
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in allowed:
                raise ConfigError(f"preprocess {name} is {value!r}", hint=f"use one of {', '.join(allowed)}")
        self._check_types()
        self._check_sizes()
        if self.resize != "none" and self.size is None:
            raise ConfigError(f"preprocess resize '{self.resize}' has no size", hint="add size: [height, width]")
        if 0 in np.asarray(self.std, np.float32) or not self.mean or not self.std:
            raise ConfigError("preprocess mean or std is empty or std has a 0", hint="std divides: use 1 for no change")
        channels = 1 if self.color == "gray" else 3
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, channels):
                raise ConfigError(
                    f"preprocess {name} has {len(getattr(self, name))} values for {channels} channel(s)",
                    hint="give one value, or one per channel",
                )

    def _check_types(self) -> None:
        pairs = [value for value in (self.size, self.crop) if value is not None]
        good = all(isinstance(v, tuple) and all(type(n) is int for n in v) for v in pairs)
        lists = isinstance(self.mean, tuple) and isinstance(self.std, tuple)
        numbers = (self.scale, *self.mean, *self.std) if lists else (None,)
        good = good and all(type(n) in (int, float) and abs(n or 0) <= _LARGEST for n in numbers)
        if not good or type(self.pad_value) is not int or not 0 <= self.pad_value <= 255:
            raise ConfigError(
                "preprocess has a value of the wrong type",
                hint="size and crop: two integers; pad_value: 0..255; scale: a number; mean, std: lists of numbers",
            )

    def _check_sizes(self) -> None:
        for name in ("size", "crop"):
            value = getattr(self, name)
            if value is not None and (len(value) != 2 or min(value) < 1):
                raise ConfigError(f"preprocess {name} is {value!r}", hint="give [height, width] in pixels")
            if value is not None:
                check_pixels(f"preprocess {name} [{value[0]}, {value[1]}]", value[0], value[1])

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """The inverse of `to_dict`; unknown keys raise ConfigError."""
        known = {f.name for f in fields(cls)}
        if unknown := {str(key)[:40] for key in values if key not in known}:
            raise ConfigError(
                f"preprocess has unknown key(s) {', '.join(sorted(unknown))}", hint=f"known: {', '.join(sorted(known))}"
            )
        converted: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**converted)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; without the default rounding, as in files from before there were two."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in values.items() if (k, v) != ("rounding", "nearest")}

    def apply(self, image: Image.Image) -> NDArray[np.generic]:
        """One image to one array without batch dimension: (C, H, W) or (H, W, C) of `dtype`."""
        image = to_mode(image, "L" if self.color == "gray" else "RGB")
        image = self._resized(image)
        if self.crop is not None:
            image = _center_crop(image, self.crop, self.rounding)
        pixels = np.asarray(image)
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        if self.color == "bgr":
            pixels = pixels[:, :, ::-1]
        return self._normalized(pixels)

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.resize == "none" or self.size is None:
            return image
        method = Image.Resampling[self.interpolation.upper()]
        height, width = self.size
        if self.resize == "exact":
            return image if image.size == (width, height) else image.resize((width, height), method)
        if self.resize == "letterbox":
            fitted = ImageOps.contain(image, (width, height), method)
            color = self.pad_value if image.mode == "L" else (self.pad_value,) * 3
            canvas = Image.new(image.mode, (width, height), color)
            canvas.paste(fitted, ((width - fitted.width) // 2, (height - fitted.height) // 2))
            return canvas
        ratio = height / min(image.size)
        size = (max(height, round(image.width * ratio)), max(height, round(image.height * ratio)))
        if self.rounding == "down":
            size = (height * image.width // min(image.size), height * image.height // min(image.size))
        check_pixels(f"an image of {image.height}x{image.width} whose shorter side becomes {height}", *size)
        return image if image.size == size else image.resize(size, method)

    def _normalized(self, pixels: NDArray[np.uint8]) -> NDArray[np.generic]:
        x: NDArray[np.generic] = pixels
        if (self.scale, self.mean, self.std) != (1.0, (0.0,), (1.0,)) or self.dtype != "uint8":
            y = pixels.astype(np.float32) * np.float32(self.scale)
            y = (y - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
            x = np.clip(np.rint(y), 0, 255).astype(np.uint8) if self.dtype == "uint8" else y.astype(self.dtype)
        return np.ascontiguousarray(x.transpose(2, 0, 1) if self.layout == "nchw" else x)


def check_pixels(what: str, height: int, width: int) -> None:
    """Refuse an image that no model takes and that would fill the memory.

    Args:
        what: What has this size, for the error text.
        height: In pixels.
        width: In pixels.

    Raises:
        ConfigError: It has more than PIXELS.
    """
    if height * width > PIXELS:
        raise ConfigError(
            f"{what} has {height * width:,} pixels, more than {PIXELS:,}", hint="give a smaller size: [height, width]"
        )


def _center_crop(image: Image.Image, crop: tuple[int, int], rounding: str) -> Image.Image:
    height, width = crop
    if image.height < height or image.width < width:
        raise ConfigError(
            f"crop {height}x{width} is larger than the image {image.height}x{image.width}",
            hint="resize before the crop, or crop less",
        )
    half = 0 if rounding == "down" else 1
    left, top = (image.width - width + half) // 2, (image.height - height + half) // 2
    return image.crop((left, top, left + width, top + height))
