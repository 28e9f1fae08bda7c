"""Labels that are read from files beside the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import floats
from quantlab.data.label_file import read_label_lines
from quantlab.data.labels import Samples, read_labels
from quantlab.data.preprocess import Preprocess
from quantlab.data.source import DataOptions, open_data
from quantlab.errors import DataError


def named(names: list[str]) -> Samples:
    return Samples(len(names), len(names), names)


def test_labels_from_csv_by_name_with_header(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("file,label\nb.png,7\nsub/a.png,3\n")
    assert read_labels(tmp_path / "l.csv", "", named(["sub/a.png", "b.png"])).tolist() == [3, 7]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1\n2\n3\n", [1, 2, 3]),  # no header: the first line counts
        ("label\n1\n2\n3\n", [1, 2, 3]),
        ("\ufeffclass\n4\n", [4]),
        ("\n1\n\n2\n", [1, 2]),
        (" 7 \n-1\n", [7, -1]),
    ],
)
def test_labels_one_per_line_with_or_without_a_header(tmp_path: Path, text: str, wanted: list[int]) -> None:
    (tmp_path / "l.txt").write_text(text, encoding="utf-8")
    labels = read_labels(tmp_path / "l.txt", "", Samples(len(wanted), len(wanted)))
    assert (labels.tolist(), labels.dtype) == (wanted, np.int64)


def test_labels_by_name_without_a_header_count_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("a.png,3\nb.png,7\n")
    assert read_labels(tmp_path / "l.csv", "", named(["b.png", "a.png"])).tolist() == [7, 3]


@pytest.mark.parametrize("header", ["file,emotion", "img,species", "Image Path,cls", "filename,what it shows"])
def test_column_of_labels_may_have_any_name_beside_a_column_of_files(tmp_path: Path, header: str) -> None:
    (tmp_path / "labels.csv").write_text(f"{header}\na.png,3\n")
    (line,) = read_label_lines((tmp_path / "labels.csv").read_text(), tmp_path / "labels.csv")
    assert (line.number, line.file, line.label) == (2, "a.png", 3)


def test_only_the_first_line_may_be_a_header(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("file,label\nimage,class\na.png,3\n")
    with pytest.raises(DataError, match="'image,class' has no class number Hint: end the line with one"):
        read_labels(tmp_path / "l.csv", "", named(["a.png"]))


def test_labels_are_found_by_file_name_where_the_path_is_not_named(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("a.png,3\nsub/b.png,7\nb.png,1\n")
    assert read_labels(tmp_path / "l.csv", "", named(["deep/a.png", "sub/b.png"])).tolist() == [3, 7]


def test_labels_beyond_the_limit_are_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", floats(5, 2))
    (tmp_path / "l.txt").write_text("0\n1\n2\n3\n4\n")
    batches = open_data(tmp_path / "x.npy", ["x"], None, DataOptions(2, limit=3, labels=str(tmp_path / "l.txt")))
    assert [None if y is None else y.tolist() for _, y in batches.labeled()] == [[0, 1], [2]]


@pytest.mark.parametrize(
    ("text", "names", "match"),
    [
        ("a.png,1\n", ["a.png", "b.png"], r"no label for 1 of 2 images \(first: b.png\)"),
        ("a.png,1\nb.png,cat\n", ["a.png"], "has no class number"),
        ("a.png,1\n", None, "names files, but the data are arrays"),
    ],
)
def test_bad_labels_file_raises(tmp_path: Path, text: str, names: list[str] | None, match: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(DataError, match=match):
        read_labels(tmp_path / "l.csv", "", Samples(9, 9) if names is None else named(names))


def test_labels_of_wrong_number_type_or_place_raise(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "images" / "a.png")
    (tmp_path / "l.txt").write_text("1\n2\n")
    with pytest.raises(DataError, match="2 labels for 1 images"):
        open_data(tmp_path / "images", ["x"], Preprocess(), DataOptions(labels=str(tmp_path / "l.txt")))
    with pytest.raises(DataError, match="labels file .* does not exist"):
        open_data(tmp_path / "images", ["x"], Preprocess(), DataOptions(labels=str(tmp_path / "none.txt")))
    np.save(tmp_path / "l.npy", np.zeros(1, np.float32))
    with pytest.raises(DataError, match="expected integers"):
        open_data(tmp_path / "images", ["x"], Preprocess(), DataOptions(labels=str(tmp_path / "l.npy")))
    (tmp_path / "l.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "l.csv", "", Samples(1, 1))


@pytest.mark.parametrize("line", ["a.png,\u00b2", "a.png,--5", "a.png,99999999999999999999"])
def test_odd_numbers_are_no_labels(tmp_path: Path, line: str) -> None:
    (tmp_path / "l.csv").write_text(f"b.png,1\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no class number"):
        read_labels(tmp_path / "l.csv", "", named(["a.png"]))


def test_file_with_two_labels_raises(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("a.png,1\na.png,2\n")
    with pytest.raises(DataError, match="names a file twice"):
        read_labels(tmp_path / "l.csv", "", named(["a.png"]))
