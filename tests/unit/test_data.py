"""Batches from every kind of source; images of every kind; order, labels, errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantlab.data import ImageBatches, IterableBatches, LoaderBatches
from quantlab.data.decode import open_image, to_mode
from quantlab.data.prefetch import map_ahead
from quantlab.data.preprocess import Preprocess
from quantlab.data.presets import PRESETS
from quantlab.data.source import DataOptions, open_data
from quantlab.errors import ConfigError, DataError


def save(path: Path, value: int = 0, size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def rgb(path: Path) -> np.ndarray:
    return np.asarray(to_mode(open_image(path), "RGB"))


# --- kinds of images


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


# --- preprocess


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


@pytest.mark.parametrize("crop", [(20, 20), (7, 8), (6, 9)])
def test_crop_larger_than_image_names_the_image(tmp_path: Path, crop: tuple[int, int]) -> None:
    path = save(tmp_path / "small.png", size=(8, 6))
    with pytest.raises(ConfigError, match=rf"small\.png: crop {crop[0]}x{crop[1]} is larger than the image 6x8"):
        list(ImageBatches([path], Preprocess(crop=crop), input_name="x"))


# --- iterables and loaders


def test_iterable_of_a_generator_raises_and_of_a_function_repeats() -> None:
    def make() -> Iterator[dict[str, np.ndarray]]:
        yield {"x": np.zeros(1)}

    with pytest.raises(ConfigError, match="read only once"):
        IterableBatches(make())
    batches = IterableBatches(make)
    assert len(list(batches)) == len(list(batches)) == 1


class Tensor:
    """Behaves as a torch tensor does."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return self.array


def test_loader_of_tuples_splits_inputs_and_labels() -> None:
    loader = [(Tensor(np.zeros((2, 3), np.float32)), Tensor(np.array([4, 5])))]
    ((batch, labels),) = list(LoaderBatches(loader, ["x"]).labeled())
    assert batch["x"].shape == (2, 3)
    assert labels is not None
    assert labels.tolist() == [4, 5]


def test_loader_without_labels_gives_none() -> None:
    assert [labels for _, labels in LoaderBatches([(Tensor(np.zeros((2, 3))),)], ["x"]).labeled()] == [None]
    ((batch, labels),) = LoaderBatches([Tensor(np.zeros((2, 3)))], ["x"]).labeled()
    assert (batch["x"].shape, labels) == ((2, 3), None)


@pytest.mark.parametrize(
    ("element", "match"),
    [
        (([[1, 2], [3]],), "batch 1, input 'x' cannot become an array: .*inhomogeneous"),
        ({"x": [[1, 2], [3]]}, "batch 1, input 'x' cannot become an array"),
        (([1, 2], [[1], [2, 3]]), r"batch 1, the last element \(labels\) cannot become an array"),
        ((object(),), "batch 1, input 'x' is a object, expected an array of numbers Hint: convert it to numpy"),
    ],
)
def test_loader_of_something_that_is_no_array_raises_with_the_remedy(element: object, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        list(LoaderBatches([(np.zeros((2, 2)),), element], ["x"]))
    assert caught.value.hint


def test_loader_of_mappings_picks_the_inputs() -> None:
    x = np.arange(6.0).reshape(2, 3)
    ((batch, labels),) = LoaderBatches([{"x": Tensor(x), "extra": 1}], ["x"]).labeled()
    assert (list(batch), labels) == (["x"], None)
    np.testing.assert_array_equal(batch["x"], x)


def test_loader_that_does_not_fit_raises() -> None:
    with pytest.raises(DataError, match="batch 0, it has 3 elements"):
        list(LoaderBatches([(1, 2, 3)], ["x"]))
    with pytest.raises(DataError, match="batch 0, it has no x"):
        list(LoaderBatches([{"y": 1}], ["x"]))
    with pytest.raises(ConfigError, match="read only once"):
        LoaderBatches(iter([]), ["x"])


# --- prefetch


def test_map_ahead_keeps_order_bounds_the_work_and_raises_in_place() -> None:
    started: list[int] = []
    lock = threading.Lock()

    def work(item: int) -> int:
        with lock:
            started.append(item)
        time.sleep(0.002 * (item % 3))
        if item == 7:
            raise DataError("item 7 is bad")
        return item

    taken: list[int] = []
    results = map_ahead(work, (taken.append(item) or item for item in range(100)), ahead=4)
    for number in range(7):
        assert next(results) == number
        assert taken == list(range(number + 1 + 4))  # one more for every result that was given
    assert set(started) <= set(taken)
    with pytest.raises(DataError, match="item 7 is bad"):
        next(results)


def test_leaving_the_loop_stops_the_work() -> None:
    started: list[int] = []
    finished: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        time.sleep(0.02)
        finished.append(item)
        return item

    results = map_ahead(work, range(1000), ahead=300)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert sorted(started) == sorted(finished)  # nothing goes on behind the caller's back
    assert len(started) < 300  # and what had not begun never does


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


def test_labels_of_a_loader_that_are_no_integers_are_refused_not_cut() -> None:
    loader = LoaderBatches([(np.zeros((2, 3), np.float32), np.array([0.9, 1.9]))], ["x"])
    with pytest.raises(DataError, match=r"labels\) is float64, expected integers"):
        list(loader.labeled())


@pytest.mark.parametrize("as_images", [False, True])
@pytest.mark.parametrize("how", ["written to", "replaced"])
def test_file_that_is_written_to_while_it_is_read_is_told(tmp_path: Path, as_images: bool, how: str) -> None:
    """The system ends the process that reads what was cut off. A file that is replaced stays as it was."""
    path, new = tmp_path / "x.npy", tmp_path / "new.npy"
    np.save(path, np.zeros((9, 4, 4, 3), np.uint8))
    np.save(new, np.ones((2, 4, 4, 3), np.uint8))
    stream = open_data(path, ["x"], PRESETS["imagenet"] if as_images else None, DataOptions(batch_size=2))
    passing = iter(stream)
    next(passing)
    if how == "replaced":
        new.replace(path)
        assert len(list(passing)) == 4
    else:
        path.write_bytes(new.read_bytes())
        with pytest.raises(DataError, match=r"x.npy was changed while it was read Hint: begin again"):
            list(passing)
