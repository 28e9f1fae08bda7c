"""Opening images so that every kind of file comes out as a person sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from quantlab.errors import DataError

_FRAMES = "quantlab frames"
_ONE_SUBJECT = ("MPO", "ICO", "ICNS")
"""Formats whose frames show the same in other sizes or from another lens."""
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def open_image(path: Path) -> Image.Image:
    """The decoded image, turned upright as its EXIF orientation says. DataError names a file that cannot be read."""
    try:
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            upright.info[_FRAMES] = 1 if image.format in _ONE_SUBJECT else getattr(image, "n_frames", 1)
            return upright
    except UnidentifiedImageError as error:
        raise DataError(
            f"image {path} is not an image file", hint="remove it, or skip such files with --skip-bad"
        ) from error
    except (OSError, SyntaxError, ValueError, NotImplementedError, Image.DecompressionBombError) as error:
        if path.is_symlink() and not path.exists():
            raise DataError(
                f"image {path} is a link to {path.readlink()}, which does not exist",
                hint="remove the link, or skip such files with --skip-bad",
            ) from error
        raise DataError(
            f"image {path} cannot be decoded: {error}", hint="replace it, or skip such files with --skip-bad"
        ) from error


def frames(image: Image.Image) -> int:
    """How many frames the file of an image from `open_image` has."""
    return int(image.info.get(_FRAMES, 1))


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image. Transparency is laid over white; 16-bit values are scaled to 8 bits, not cut off.

    Args:
        image: Of any mode.
        mode: RGB or L (gray).

    Returns:
        The image in that mode.

    Raises:
        DataError: It holds floating point pixels, or integers beyond 16 bits.
    """
    if image.mode in _SIXTEEN_BIT:
        image = _eight_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), rgba).convert("RGB")
    if image.mode == "F":
        raise DataError("image holds floating point pixels", hint="convert it to 8 or 16 bits, or feed an .npy array")
    return image if image.mode == mode else image.convert(mode)


def _eight_bit(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise DataError("image holds integers beyond 16 bits", hint="convert it to 8 or 16 bits")
    return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))


def from_array(pixels: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Image.Image:
    """An image from uint8 pixels of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); DataError for anything else."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise DataError(
            f"image array is {pixels.dtype} {pixels.shape}, expected uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)",
            hint="arrays that are preprocessed already need no preset: leave it out",
        )
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
