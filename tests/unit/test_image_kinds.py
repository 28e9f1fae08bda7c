"""Images of every kind are decoded to the pixels that a person sees, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantlab.data import ImageBatches
from quantlab.data.decode import open_image, to_mode
from quantlab.data.preprocess import Preprocess
from quantlab.errors import ConfigError, DataError


def save(path: Path, value: int = 0, size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def rgb(path: Path) -> np.ndarray:
    return np.asarray(to_mode(open_image(path), "RGB"))


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = rgb(tmp_path / "a.png")
    assert upright.shape == (6, 4, 3)
    assert upright[0, 3].tolist() == [255, 255, 255]


def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert rgb(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_alpha_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    Image.new("LA", (2, 2), (10, 255)).save(tmp_path / "opaque.png")
    assert rgb(tmp_path / "clear.png")[0, 0].tolist() == [255, 255, 255]
    assert rgb(tmp_path / "opaque.png")[0, 0].tolist() == [10, 10, 10]


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 100, 0])
    image.putdata([0, 1]) if hasattr(image, "putdata") else None
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=1)
    assert rgb(tmp_path / "plain.png")[0].tolist() == [[200, 0, 0], [0, 100, 0]]
    assert rgb(tmp_path / "clear.png")[0].tolist() == [[200, 0, 0], [255, 255, 255]]


def test_cmyk_jpeg_and_one_bit_and_gray(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "white.jpg")
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "black.jpg")
    Image.new("1", (8, 8), 1).save(tmp_path / "bit.png")
    Image.new("L", (8, 8), 77).save(tmp_path / "gray.png")
    assert rgb(tmp_path / "white.jpg").min() > 250
    assert rgb(tmp_path / "black.jpg").max() < 5
    assert rgb(tmp_path / "bit.png").min() == 255
    assert rgb(tmp_path / "gray.png")[0, 0].tolist() == [77, 77, 77]


def test_float_image_raises(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"a\.tiff.*floating point"):
        list(ImageBatches([tmp_path / "a.tiff"], Preprocess(), input_name="x"))


@pytest.mark.parametrize("value", [70000, 65536, -1])
def test_thirty_two_bit_integers_raise(tmp_path: Path, value: int) -> None:
    Image.fromarray(np.full((2, 2), value, np.int32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"image .*a\.tiff: image holds integers beyond 16 bits Hint: convert it"):
        list(ImageBatches([tmp_path / "a.tiff"], Preprocess(), input_name="x"))


def test_integers_that_fit_into_sixteen_bits_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 65535]], np.int32)).save(tmp_path / "a.tiff")
    (batch,) = ImageBatches([tmp_path / "a.tiff"], Preprocess(), input_name="x")
    assert batch["x"][0, 0].tolist() == [[0, 255]]


@pytest.mark.parametrize("crop", [(20, 20), (7, 8), (6, 9)])
def test_crop_larger_than_image_names_the_image(tmp_path: Path, crop: tuple[int, int]) -> None:
    path = save(tmp_path / "small.png", size=(8, 6))
    with pytest.raises(ConfigError, match=rf"small\.png: crop {crop[0]}x{crop[1]} is larger than the image 6x8"):
        list(ImageBatches([path], Preprocess(crop=crop), input_name="x"))
