"""From an image to an array: sizes, crops, padding, values, and presets."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from quantlab.data.preprocess import Preprocess
from quantlab.data.presets import PRESETS
from quantlab.errors import ConfigError


def gradient(height: int, width: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([y % 256, x % 256, (x + y) % 256], -1).astype(np.uint8))


def test_short_side_keeps_aspect_and_crop_is_centred() -> None:
    out = Preprocess("short_side", (32, 32)).apply(gradient(64, 100))
    assert out.shape == (3, 32, 50)
    image = gradient(10, 12)
    crop = Preprocess(crop=(4, 6), layout="nhwc").apply(image)
    np.testing.assert_array_equal(crop, np.asarray(image)[3:7, 3:9])


@pytest.mark.parametrize(
    ("image", "crop", "top", "left"),
    [
        ((10, 12), (4, 6), 3, 3),
        ((7, 10), (4, 5), 2, 3),  # an odd rest: the larger half is above and to the left
        ((5, 5), (4, 4), 1, 1),
        ((6, 9), (3, 2), 2, 4),
        ((4, 7), (4, 4), 0, 2),
        ((8, 8), (8, 8), 0, 0),
    ],
)
def test_crop_begins_at_the_pixel_nearest_to_the_centre(
    image: tuple[int, int], crop: tuple[int, int], top: int, left: int
) -> None:
    pixels = gradient(*image)
    out = Preprocess(crop=crop, layout="nhwc").apply(pixels)
    np.testing.assert_array_equal(out, np.asarray(pixels)[top : top + crop[0], left : left + crop[1]])


@pytest.mark.parametrize(
    ("image", "short", "wanted"),
    [
        ((64, 100), 32, (32, 50)),
        ((64, 103), 32, (32, 52)),  # 51.5
        ((64, 101), 32, (32, 50)),  # 50.5: halves go to the even number
        ((64, 102), 32, (32, 51)),
        ((103, 64), 32, (52, 32)),
        ((30, 40), 20, (20, 27)),  # 26.67
        ((30, 41), 20, (20, 27)),  # 27.33
        ((3, 1000), 2, (2, 667)),
        ((5, 7), 10, (10, 14)),
    ],
)
def test_long_side_is_rounded_to_the_nearest_pixel(image: tuple[int, int], short: int, wanted: tuple[int, int]) -> None:
    out = Preprocess("short_side", (short, short), layout="nhwc").apply(gradient(*image))
    assert out.shape == (*wanted, 3)


@pytest.mark.parametrize(
    ("image", "top", "left", "height", "width"),
    [
        ((40, 80), 10, 0, 20, 40),
        ((42, 80), 9, 0, 21, 40),  # 19 rows to fill: one more below
        ((80, 42), 0, 9, 40, 21),
        ((41, 80), 10, 0, 20, 40),  # 20.5 rows: halves go to the even number
        ((43, 80), 9, 0, 22, 40),  # 21.5
        ((41, 79), 9, 0, 21, 40),  # 20.76
        ((40, 40), 0, 0, 40, 40),
        ((10, 20), 10, 0, 20, 40),
    ],
)
def test_letterbox_lies_in_the_middle(image: tuple[int, int], top: int, left: int, height: int, width: int) -> None:
    white = Image.new("RGB", image[::-1], (255, 255, 255))
    out = Preprocess("letterbox", (40, 40), pad_value=9, layout="nhwc").apply(white)
    wanted = np.full((40, 40, 3), 9, np.float32)
    wanted[top : top + height, left : left + width] = 255
    np.testing.assert_array_equal(out, wanted)


def test_letterbox_of_gray_is_filled_with_gray() -> None:
    out = Preprocess("letterbox", (4, 4), color="gray", pad_value=9).apply(Image.new("L", (8, 4), 200))
    assert out[0].tolist() == [[9] * 4, [200] * 4, [200] * 4, [9] * 4]


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_resize_is_pillows_of_that_name(name: str) -> None:
    image = gradient(20, 30)
    wanted = image.resize((13, 11), Image.Resampling[name.upper()])
    out = Preprocess("exact", (11, 13), interpolation=name, layout="nhwc").apply(image)
    np.testing.assert_array_equal(out, np.asarray(wanted))


def test_image_of_the_right_size_is_not_resampled() -> None:
    image = gradient(20, 30)
    for preprocess in (
        Preprocess("exact", (20, 30), interpolation="lanczos", layout="nhwc"),
        Preprocess("short_side", (20, 20), interpolation="lanczos", layout="nhwc"),
    ):
        np.testing.assert_array_equal(preprocess.apply(image), np.asarray(image))


def test_bytes_are_rounded_to_even_and_held_in_their_range() -> None:
    image = Image.fromarray(np.array([[1, 3, 5, 200]], np.uint8).repeat(3).reshape(1, 4, 3))
    out = Preprocess(scale=0.5, dtype="uint8").apply(image)
    assert out[0, 0].tolist() == [0, 2, 2, 100]
    assert Preprocess(mean=(4.0,), dtype="uint8").apply(image)[0, 0].tolist() == [0, 0, 1, 196]
    assert Preprocess(scale=2.0, dtype="uint8").apply(image)[0, 0].tolist() == [2, 6, 10, 255]


def test_exact_and_letterbox_sizes_and_padding() -> None:
    assert Preprocess("exact", (20, 30)).apply(gradient(64, 100)).shape == (3, 20, 30)
    out = Preprocess("letterbox", (40, 40), pad_value=9).apply(Image.new("RGB", (80, 40), (255, 255, 255)))
    assert out.shape == (3, 40, 40)
    assert (out[:, :10] == 9).all()
    assert (out[:, 30:] == 9).all()
    assert (out[:, 10:30] == 255).all()


def test_channel_order_layout_and_normalization() -> None:
    image = Image.new("RGB", (2, 2), (10, 20, 30))
    assert Preprocess().apply(image)[:, 0, 0].tolist() == [10, 20, 30]
    assert Preprocess(color="bgr", layout="nhwc").apply(image)[0, 0].tolist() == [30, 20, 10]
    assert Preprocess(color="gray").apply(image).shape == (1, 2, 2)
    x = Preprocess(scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4)).apply(image)[:, 0, 0]
    expected = (np.array([10, 20, 30]) / 255 - [0.5, 0.4, 0.3]) / [0.1, 0.2, 0.4]
    np.testing.assert_allclose(x, expected, rtol=1e-5)
    assert x.dtype == np.float32


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_dtype_of_the_result(dtype: str) -> None:
    assert Preprocess(dtype=dtype).apply(Image.new("RGB", (2, 2), (1, 2, 3))).dtype == dtype


@pytest.mark.parametrize("name", PRESETS)
def test_preset_survives_json_and_gives_finite_values(name: str) -> None:
    preset = PRESETS[name]
    assert Preprocess.from_dict(preset.to_dict()) == preset
    assert np.isfinite(preset.apply(gradient(300, 400))).all()


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"resize": "stretch"}, "resize is 'stretch'"),
        ({"resize": "exact"}, "has no size"),
        ({"size": [0, 3]}, r"size is \(0, 3\)"),
        ({"std": [0.0]}, "std has a 0"),
        ({"mean": [1.0, 2.0]}, "2 values for 3"),
        ({"colour": "rgb"}, "unknown key"),
        ({"std": 3}, "wrong type"),
    ],
)
def test_bad_preprocess_raises(values: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Preprocess.from_dict(values)


@pytest.mark.parametrize(
    "values",
    [
        {"scale": "x"}, {"scale": None}, {"scale": [1, 2, 3]}, {"mean": ["a"]}, {"mean": [[1], [2], [3]]},
        {"size": [8.5, 8]}, {"crop": "8x8"}, {"pad_value": -5}, {"pad_value": "x"}, {"pad_value": 1e9},
        {"pad_value": 256}, {"pad_value": -1}, {"pad_value": True}, {"size": [True, 8]},
        {"std": [float("nan")]}, {"layout": ["nchw"]}, {"scale": float("inf")},
    ],
)  # fmt: skip
def test_preprocess_values_of_wrong_type_raise(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="wrong type|layout is"):
        Preprocess.from_dict(values)
