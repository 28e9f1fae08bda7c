"""Folders, array files and labels: order, names, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import floats
from quantlab.data import ArrayBatches, ImageBatches, image_folder, read_arrays
from quantlab.data.decode import open_image
from quantlab.data.folder import image_files
from quantlab.data.preprocess import Preprocess
from quantlab.data.source import DataOptions, open_data, split_key
from quantlab.errors import ConfigError, DataError


def save(path: Path, value: int = 0, size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def test_class_folders_give_labels_and_take_turns(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for k in range(3):
            save(tmp_path / name / f"{k}.png")
    found = image_files(tmp_path)
    files, labels = found.files, found.labels
    assert labels is not None
    assert [f"{f.parent.name}{f.stem}" for f in files] == ["cat0", "dog0", "cat1", "dog1", "cat2", "dog2"]
    assert labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_numbered_class_folders_are_labels_not_positions(tmp_path: Path) -> None:
    for name in ("2_cat", "10_dog"):
        save(tmp_path / name / "a.png")
    found = image_files(tmp_path)
    files, labels = found.files, found.labels
    assert labels is not None
    assert {f.parent.name: int(y) for f, y in zip(files, labels, strict=True)} == {"2_cat": 2, "10_dog": 10}


def test_number_of_more_digits_than_any_class_has_is_a_name(tmp_path: Path) -> None:
    for name in ("99999999999999999999_a", "1_b"):
        save(tmp_path / name / "a.png")
    (tmp_path / "desktop.ini").write_text("of Windows, and no image beside the class folders")
    (tmp_path / "1_b" / "Thumbs.db").write_bytes(b"likewise")
    found = image_files(tmp_path)
    assert ([f.parent.name[:3] for f in found.files], list(found.labels)) == (["1_b", "999"], [0, 1])


def test_flat_folder_has_no_labels_and_skips_hidden_and_text(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    found = image_files(tmp_path)
    files, labels = found.files, found.labels
    assert [f.name for f in files] == ["a.png"]
    assert labels is None


def test_folder_batches_keep_order_and_last_is_short(tmp_path: Path) -> None:
    for k in range(7):
        save(tmp_path / f"{k}.png", value=k)
    batches = image_folder(tmp_path, Preprocess(), input_name="x", batch_size=3)
    for _ in range(2):  # re-iterable
        assert [b["x"][:, 0, 0, 0].tolist() for b in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(batches) == 3


def test_missing_and_empty_folder_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        image_files(tmp_path / "none")
    with pytest.raises(DataError, match="no images in"):
        image_files(tmp_path)


def test_truncated_and_foreign_files_are_named_or_skipped(tmp_path: Path) -> None:
    good = save(tmp_path / "0.png", 5, size=(64, 64))
    (tmp_path / "1.png").write_bytes(good.read_bytes()[:-40])
    (tmp_path / "2.bin").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png cannot be decoded"):
        list(image_folder(tmp_path, Preprocess(), input_name="x"))
    with pytest.raises(DataError, match=r"2\.bin is not an image"):
        open_image(tmp_path / "2.bin")
    batches = image_folder(tmp_path, Preprocess(), input_name="x", skip_bad=True)
    assert [len(b["x"]) for b in batches] == [1]
    assert [Path(s.split()[1]).name for s in batches.skipped] == ["1.png", "2.bin"]


def test_skip_bad_keeps_labels_aligned(tmp_path: Path) -> None:
    for k, name in enumerate(("0_a", "1_b", "2_c")):
        save(tmp_path / name / "x.png", value=k)
    (tmp_path / "1_b" / "x.png").write_bytes(b"broken")
    batches = image_folder(tmp_path, Preprocess(), input_name="x", skip_bad=True)
    (batch, labels), *_ = list(batches.labeled())
    assert labels is not None
    assert labels.tolist() == batch["x"][:, 0, 0, 0].tolist() == [0, 2]


def test_all_bad_raises(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="none of 1 images can be read"):
        image_folder(tmp_path, Preprocess(), input_name="x", skip_bad=True)


def test_sizes_that_differ_without_resize_raise(tmp_path: Path) -> None:
    save(tmp_path / "0.png", size=(8, 8))
    save(tmp_path / "1.png", size=(9, 8))
    with pytest.raises(DataError, match=r"1\.png is \(3, 8, 9\) after preprocessing"):
        list(image_folder(tmp_path, Preprocess(), input_name="x"))


def test_one_folder_inside_is_no_class(tmp_path: Path) -> None:
    save(tmp_path / "all" / "a.png")
    assert image_files(tmp_path).labels is None


# --- arrays


def test_npy_and_npz_with_key_and_by_input_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6, dtype=np.float32).reshape(6, 1))
    np.savez(tmp_path / "b.npz", u=np.zeros((4, 2), np.float32), v=np.ones((4, 3), np.float32))
    options = DataOptions(batch_size=4)
    assert [b["x"].shape for b in open_data(tmp_path / "a.npy", ["x"], None, options)] == [(4, 1), (2, 1)]
    assert [b["x"].shape for b in open_data(f"{tmp_path / 'b.npz'}:v", ["x"], None, options)] == [(4, 3)]
    (both,) = open_data(tmp_path / "b.npz", ["u", "v"], None, options)
    assert {n: x.shape for n, x in both.items()} == {"u": (4, 2), "v": (4, 3)}


def test_one_sample_at_a_time_and_one_in_all_are_enough(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", floats(3, 2))
    assert [len(b["x"]) for b in open_data(tmp_path / "a.npy", ["x"], None, DataOptions(batch_size=1))] == [1, 1, 1]
    assert [len(b["x"]) for b in open_data(tmp_path / "a.npy", ["x"], None, DataOptions(limit=1))] == [1]


def test_npz_of_pixels_goes_through_the_preprocess(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", images=np.full((3, 5, 5, 3), 255, np.uint8), labels=np.arange(3))
    options = DataOptions(batch_size=2, limit=2, labels=f"{tmp_path / 'b.npz'}:labels")
    batches = open_data(f"{tmp_path / 'b.npz'}:images", ["x"], Preprocess(scale=1 / 255), options)
    assert isinstance(batches, ImageBatches)
    ((batch, labels),) = list(batches.labeled())
    assert batch["x"].shape == (2, 3, 5, 5)
    assert labels is not None
    assert labels.tolist() == [0, 1]


def test_pickled_npz_and_npy_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{"evil": 1}], object))
    np.save(tmp_path / "a.npy", np.array([{"evil": 1}], object), allow_pickle=True)
    for name in ("a.npz", "a.npy"):
        with pytest.raises(DataError, match="pickled objects"):
            read_arrays(tmp_path / name)


def test_truncated_npz_and_missing_file_raise(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(100))
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    (tmp_path / "c.npy").write_bytes(b"")
    for name in ("b.npz", "c.npy"):
        with pytest.raises(DataError, match="cannot be read"):
            read_arrays(tmp_path / name)
    with pytest.raises(DataError, match="does not exist"):
        read_arrays(tmp_path / "none.npy")


def test_several_arrays_without_a_choice_raise(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", u=np.zeros((2, 1)), v=np.zeros((2, 1)))
    with pytest.raises(DataError, match="holds several arrays"):
        open_data(tmp_path / "a.npz", ["x"], None)
    with pytest.raises(DataError, match="has no array 'w'"):
        open_data(f"{tmp_path / 'a.npz'}:w", ["x"], None)


def test_arrays_of_different_length_raise() -> None:
    with pytest.raises(DataError, match="samples"):
        ArrayBatches({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))})
    with pytest.raises(DataError, match=r"labels have shape \(1,\)"):
        ArrayBatches({"a": np.zeros((2, 1))}, labels=np.zeros(1, np.int64))


def test_source_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_data(tmp_path / "none", ["x"], None)
    (tmp_path / "a.zip").write_bytes(b"x")
    with pytest.raises(DataError, match="no folder, .npy or .npz"):
        open_data(tmp_path / "a.zip", ["x"], None)
    with pytest.raises(ConfigError, match="need a preprocess"):
        open_data(tmp_path, ["x"], None)
    for options in (DataOptions(batch_size=0), DataOptions(limit=0), DataOptions(batch_size=-1, limit=5)):
        match = f"batch size {options.batch_size}, limit {options.limit} Hint: both must be at least 1"
        with pytest.raises(ConfigError, match=match):
            open_data(tmp_path, ["x"], None, options)
    save(tmp_path / "images" / "a.png")
    with pytest.raises(ConfigError, match="the model has 2 inputs"):
        open_data(tmp_path / "images", ["x", "y"], Preprocess())


def test_float_array_as_image_raises() -> None:
    with pytest.raises(DataError, match="number 0: image array is float32"):
        list(ImageBatches(np.zeros((1, 4, 4, 3), np.float32), Preprocess(), input_name="x"))


def test_no_images_raise() -> None:
    with pytest.raises(DataError, match="there are no images"):
        ImageBatches([], Preprocess(), input_name="x")


def test_split_key_only_after_npz() -> None:
    assert split_key("a/b.npz:calib") == (Path("a/b.npz"), "calib")
    assert split_key("C:/images") == (Path("C:/images"), "")


def test_arrays_of_every_disguise_are_read_or_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    np.savez(tmp_path / "b.npz", x=np.zeros((2, 3)))
    (tmp_path / "npy_inside.npz").write_bytes((tmp_path / "a.npy").read_bytes())
    (tmp_path / "npz_inside.npy").write_bytes((tmp_path / "b.npz").read_bytes())
    (tmp_path / "UPPER.NPY").write_bytes((tmp_path / "a.npy").read_bytes())
    for name in ("npy_inside.npz", "npz_inside.npy", "UPPER.NPY"):
        assert next(iter(read_arrays(tmp_path / name).values())).shape == (2, 3)
    np.save(tmp_path / "scalar.npy", np.float32(1))
    np.savez(tmp_path / "scalars.npz", a=np.float32(1), b=2)
    for name in ("scalar.npy", "scalars.npz"):
        with pytest.raises(DataError, match="no array with at least one dimension"):
            read_arrays(tmp_path / name)


def test_scalars_beside_the_arrays_of_an_npz_are_passed_over(tmp_path: Path) -> None:
    # what other tools write along: a count, a version, a name
    np.savez(tmp_path / "a.npz", x=floats(3, 2), count=3, version=np.array("1.0"), scale=np.float32(0.5))
    assert list(read_arrays(tmp_path / "a.npz")) == ["x"]
    (batch,) = open_data(tmp_path / "a.npz", ["image"], None)  # the only array, whatever its name
    np.testing.assert_array_equal(batch["image"], floats(3, 2))
    with pytest.raises(DataError, match=r"has no array 'count' Hint: choose one: .*a\.npz:x$"):
        open_data(f"{tmp_path / 'a.npz'}:count", ["image"], None)


def test_corrupt_array_files_never_crash(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    np.savez_compressed(tmp_path / "b.npz", x=np.arange(1000))
    random = np.random.default_rng(0)
    for name in ("a.npy", "b.npz"):
        good = bytearray((tmp_path / name).read_bytes())
        for _ in range(60):
            bad = bytearray(good)
            bad[random.integers(len(bad))] ^= 1 << int(random.integers(8))
            (tmp_path / f"bad_{name}").write_bytes(bad)
            try:
                read_arrays(tmp_path / f"bad_{name}")
            except DataError:
                continue
