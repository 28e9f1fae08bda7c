"""Reading files with clear errors; writing them whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from folder_contents import names
from quantlab.errors import ConfigError, DataError
from quantlab.files import (
    check_folder,
    check_output,
    check_outputs,
    check_writable,
    make_folder,
    read_bytes,
    read_text,
    sets,
    write_bytes,
    write_text,
)

# --- reading


def test_text_is_utf8_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    for content in ("größe\n".encode(), "\ufeffgröße\n".encode()):
        (tmp_path / "t").write_bytes(content)
        assert read_text(tmp_path / "t", "list") == "größe\n"
        assert read_bytes(tmp_path / "t", "list") == content


def test_file_that_cannot_be_read_raises_with_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cache .*none cannot be read: No such file or directory Hint: check the path"):
        read_bytes(tmp_path / "none", "cache")
    with pytest.raises(DataError, match="cache .* cannot be read: Is a directory"):
        read_text(tmp_path, "cache")
    (tmp_path / "t").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="table .*t cannot be read: .* Hint: it must be text in UTF-8"):
        read_text(tmp_path / "t", "table")


def test_file_of_no_end_or_of_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "big").touch()
    os.truncate(tmp_path / "big", 2**40)
    for path in [tmp_path / "big", *([Path("/dev/zero")] if os.name == "posix" else [])]:
        with pytest.raises(DataError, match=r"table .* has more than the [\d,]+ bytes that are read Hint: is"):
            read_bytes(path, "table", 2**21)
    (tmp_path / "small").write_bytes(b"12")
    assert read_bytes(tmp_path / "small", "table", 2) == b"12"


# --- writing


def test_file_is_written_whole_with_the_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_bytes(path, b"first")
    write_text(path, "größe\n")
    assert path.read_bytes() == "größe\n".encode()
    assert names(tmp_path) == {"out"}
    if os.name == "posix":
        umask = os.umask(0o027)
        try:
            write_bytes(tmp_path / "new", b"")
        finally:
            os.umask(umask)
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="needs modes")
def test_replaced_file_keeps_its_mode_and_a_link_its_target(tmp_path: Path) -> None:
    write_bytes(tmp_path / "out", b"old")
    (tmp_path / "out").chmod(0o604)
    (tmp_path / "link").symlink_to("out")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o604


@pytest.mark.parametrize(
    ("error", "raised", "match"),
    [
        (
            OSError(28, "No space left on device"),
            ConfigError,
            "cannot be written: No space left on device Hint: ",
        ),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
    ids=["disk full", "interrupted"],
)
def test_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, raised: type[BaseException], match: str
) -> None:
    write_bytes(tmp_path / "out", b"old")

    def fail(moves: object) -> None:
        raise error

    monkeypatch.setattr(sets, "rename_all", fail)
    with pytest.raises(raised, match=match):
        write_bytes(tmp_path / "out", b"new")
    assert (names(tmp_path), (tmp_path / "out").read_bytes()) == ({"out"}, b"old")


def bad_outputs(folder: Path) -> list[tuple[Path, str]]:
    (folder / "file").write_bytes(b"")
    return [
        (folder / ("x" * 241), "output name x{40}... is too long Hint: choose a shorter one"),
        (folder, r"is a folder, expected a file name Hint: use .*NAME"),
        (folder / "none" / "out", r"output folder .*none does not exist or is not a folder Hint: mkdir -p .*none"),
        (folder / "file" / "out", "output folder .*file does not exist or is not a folder"),
    ]


@pytest.mark.parametrize(
    "function", [check_writable, lambda path: write_bytes(path, b""), check_output, lambda p: check_outputs([p])]
)
def test_place_that_cannot_be_written_raises_with_the_remedy(tmp_path: Path, function: Callable[[Path], None]) -> None:
    for path, match in bad_outputs(tmp_path):
        with pytest.raises(ConfigError, match=match):
            function(path)
    assert names(tmp_path) == {"file"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="pipe is no ordinary file and is not replaced"):
        check_writable(tmp_path / "pipe")


def test_folder_without_permission_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("quantlab.files.places.os.open", refuse)
    with pytest.raises(ConfigError, match="cannot be written: Permission denied Hint: choose another folder"):
        check_writable(tmp_path / "out")


def test_output_must_not_replace_an_input_by_any_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for output in ("a", "b"):
        with pytest.raises(ConfigError, match=rf"output .*{output} is the input .*a Hint: write to another file"):
            check_output(tmp_path / output, tmp_path / "a")
    check_output(tmp_path / "c", tmp_path / "a", tmp_path / "missing")


def test_two_outputs_must_not_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for second in (tmp_path / "out", tmp_path / "sub" / ".." / "out"):
        with pytest.raises(ConfigError, match="outputs .*out and .*out are one file Hint: give two names"):
            check_outputs([tmp_path / "out", tmp_path / "other", second])
    check_outputs([tmp_path / "out", tmp_path / "other"])


# --- folders


def test_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    assert names(tmp_path) == set()
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="output folder .*folder cannot be made: .*file is a file"):
        check_folder(tmp_path / "file" / "folder")
    with pytest.raises(ConfigError, match="output folder .*folder cannot be made: Not a directory"):
        make_folder(tmp_path / "file" / "folder")
