"""The embedded sample: what it holds, and the folders that are made of it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import quantlab
from quantlab.data.folder import image_files
from quantlab.data.sample import PARTS, PRESET, SUMS, read_sample, sample_batches, sample_folder, unpack_sample
from quantlab.errors import ConfigError, DataError, MissingDependencyError


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_sample(tmp_path_factory.mktemp("sample") / "new" / "sample")


def sums(folder: Path) -> dict[str, str]:
    return dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())


def test_sample_is_small_and_made_of_few_files() -> None:
    files = [path for path in sample_folder().rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) < 12
    assert sum(path.stat().st_size for path in files) < 2**21


def test_sample_counts_labels_and_checksums(unpacked: Path) -> None:
    for part, count in (("calibration", 512), ("test", 2000)):
        found, files = read_sample(part), image_files(unpacked / part)
        assert len(found.images) == len(files.files) == count
        assert np.bincount(found.labels).min() >= count // 10
        np.testing.assert_array_equal(found.labels, files.labels)
        assert found.files == [path.relative_to(unpacked / part).as_posix() for path in files.files]
        digest = hashlib.sha256()
        for file in sorted((unpacked / part).rglob("*.png")):
            digest.update(file.relative_to(unpacked).as_posix().encode() + b"\0" + Image.open(file).tobytes())
        assert sums(sample_folder())[f"{part}/"] == digest.hexdigest()
    assert sums(unpacked)["model.onnx"] == hashlib.sha256((unpacked / "model.onnx").read_bytes()).hexdigest()


def test_parts_are_disjoint() -> None:
    parts = [{image.tobytes() for image in read_sample(part).images} for part in PARTS]
    assert not parts[0] & parts[1]


def test_archive_and_folder_give_the_same_batches(unpacked: Path) -> None:
    folder = quantlab.image_folder(
        unpacked / "calibration", quantlab.PRESETS[PRESET], input_name="image", batch_size=64, limit=128
    )
    for (ours, labels), (theirs, others) in zip(
        sample_batches("calibration").labeled(), folder.labeled(), strict=False
    ):
        np.testing.assert_array_equal(ours["image"], theirs["image"])
        np.testing.assert_array_equal(labels, others)


def test_unpacking_again_changes_nothing_and_other_folders_are_left_alone(unpacked: Path, tmp_path: Path) -> None:
    (unpacked / "model.onnx").rename(tmp_path / "moved")
    assert unpack_sample(unpacked) == unpacked
    assert not (unpacked / "model.onnx").exists()
    (tmp_path / "moved").rename(unpacked / "model.onnx")
    with pytest.raises(ConfigError, match="holds something else"):
        unpack_sample(unpacked.parent)
    with pytest.raises(ConfigError, match="holds something else"):
        unpack_sample(unpacked / "model.onnx")


def test_sample_goes_into_the_empty_folder_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".quantlab-0123abcd").write_bytes(b"of a run that was killed")
    monkeypatch.chdir(tmp_path)
    assert unpack_sample(".") == Path()
    assert {path.name for path in Path().iterdir()} == {"model.onnx", "h200.json", "LICENSE", SUMS, *PARTS}


def test_sample_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left"):
        unpack_sample(tmp_path / "empty" / "sample")
    assert list((tmp_path / "empty").iterdir()) == []


def test_missing_or_broken_sample_raises(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("quantlab.data.sample.__file__", f"{tmp_path}/quantlab/data/sample.py")
    with pytest.raises(MissingDependencyError, match="sample is not installed"):
        sample_folder()
    (tmp_path / "calib_data").mkdir()
    shutil.copy(Path(__file__).parents[2] / "calib_data" / "model.onnx", tmp_path / "calib_data")
    (tmp_path / "calib_data" / "test.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"test.npz cannot be read.*reinstall"):
        read_sample("test")
