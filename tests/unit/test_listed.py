"""Images named by patterns and lists: links are followed, nothing is passed over, what is there is no pattern."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantlab.data.listed import is_pattern, list_files, pattern_files
from quantlab.errors import DataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """val/a/x.png, val/b/x.png and val/b/in/y.jpg; linked/c is a link to val/a."""
    for name in ("val/a/x.png", "val/b/x.png", "val/b/in/y.jpg", "val/.hidden/x.png", "val/b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith(".txt"):
            Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "val/b/notes.txt").write_text("notes")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/c").symlink_to(tmp_path / "val/a", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("val/*/x.png", ["val/a/x.png", "val/b/x.png"]),
        ("./val/?/*", ["val/a/x.png", "val/b/x.png"]),
        ("val/**/*.*g", ["val/a/x.png", "val/b/in/y.jpg", "val/b/x.png"]),
        ("val/**", ["val/a/x.png", "val/b/in/y.jpg", "val/b/x.png"]),
        ("val/**/in/y.jpg", ["val/b/in/y.jpg"]),
        ("val/a/**.png", ["val/a/x.png"]),
        ("linked/**/*.png", ["linked/c/x.png"]),
        ("linked/*/x.png", ["linked/c/x.png"]),
    ],
)
def test_pattern_names_its_images_through_links_too(folder: Path, pattern: str, names: list[str]) -> None:
    assert sorted(map(str, pattern_files(pattern).files)) == names
    assert sorted(map(str, pattern_files(str(folder / pattern)).files)) == [str(folder / name) for name in names]


def test_pattern_that_goes_round_or_names_nothing_raises(folder: Path) -> None:
    with pytest.raises(DataError, match="no image matches val/none"):
        pattern_files("val/none/*.png")
    (folder / "val/a/up").symlink_to(folder / "val", target_is_directory=True)
    with pytest.raises(DataError, match="up is a link to a folder that it lies in"):
        pattern_files("val/**/*.png")


def test_name_with_brackets_that_is_there_is_no_pattern(folder: Path) -> None:
    np.savez(folder / "d[1].npz", x=np.zeros(2))
    (folder / "d[1].py").write_text("")
    found = {name: is_pattern(name) for name in ("d[1].npz", "d[1].npz:x", "d[1].py:f", "d[2].npz:x", "val/*.png")}
    assert [name for name, is_one in found.items() if is_one] == ["d[2].npz:x", "val/*.png"]


def test_list_is_read_as_windows_writes_it(folder: Path) -> None:
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfval\\b\\x.png\r\nval/a/x.png\r\n\r\n")
    assert [path.relative_to(folder).as_posix() for path in list_files(folder / "list.txt").files] == [
        "val/b/x.png", "val/a/x.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("val/a/x.png 3\n", "line 1: 'val/a/x.png 3' is no file Hint: .*--labels list.txt"),
        ("val/a/x.png,3\n", "line 1: 'val/a/x.png,3' is no file Hint: .*--labels list.txt"),
        ("val/a/x.png\nval/a/none.png\n", "line 2: 'val/a/none.png' is no file"),
        ("val/a/x.png\n./val/a/x.png\n", "twice, in lines 1 and 2"),
        ("\n", "names no images"),
    ],
)
def test_list_that_is_not_of_images_raises(folder: Path, text: str, match: str) -> None:
    (folder / "list.txt").write_text(text)
    with pytest.raises(DataError, match=match):
        list_files(folder / "list.txt")
