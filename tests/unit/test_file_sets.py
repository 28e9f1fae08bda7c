"""Files that appear together or not at all, whatever is killed or fails on the way."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from folder_contents import contents, names
from models import conv_net
from quantlab.data.arrays import read_arrays
from quantlab.engines import engine
from quantlab.engines.engine import Engine, EngineRecord
from quantlab.errors import ConfigError, DataError
from quantlab.files import (
    check_writable,
    is_file,
    make_folder,
    open_output,
    places,
    read_bytes,
    read_together,
    remove,
    sets,
    settle,
    settling,
    sweeping,
    together,
    write_bytes,
)
from quantlab.onnx_model import large, load_model, save_model


def write_set(folder: Path, content: bytes) -> None:
    with together():
        make_folder(folder / "new")
        for name in ("a", "b", "new/c"):
            write_bytes(folder / name, content)


def test_set_appears_at_the_end_of_its_block_or_not_at_all(tmp_path: Path) -> None:
    def stop() -> None:
        with together():
            write_set(tmp_path, b"new")
            assert {n for n in contents(tmp_path) if ".quantlab" not in n} == {"a"}
            raise KeyboardInterrupt

    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(KeyboardInterrupt):
        stop()
    assert contents(tmp_path) == {"a": b"old"}
    assert names(tmp_path) == {"a"}
    write_set(tmp_path, b"new")
    assert contents(tmp_path) == {"a": b"new", "b": b"new", "new/c": b"new"}


def test_file_of_a_set_that_fails_is_not_of_it_though_the_block_goes_on(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    with together():
        write_bytes(tmp_path / "a", b"first")
        write_bytes(tmp_path / "b", b"new")
        make_folder(tmp_path / "new")
        for name in ("a", "c", "new/d"):
            with pytest.raises(ConfigError, match="No space left"), open_output(tmp_path / name) as file:
                file.write(b"half")
                raise OSError(28, "No space left on device")
    assert contents(tmp_path) == {"a": b"old", "b": b"new"}


class Killed(BaseException):
    """Stands for the end of the process: nothing is cleaned up after it."""


def cut_off(folder: Path, write: Callable[[], object], renames: int) -> None:
    """Run what writes a set; it is killed when the journal is there and some of the renames are done."""
    left, move = renames, settling._move

    def kill(written: Path | None, path: Path) -> None:
        nonlocal left
        if left == 0:
            (folder / settling.JOURNAL).rename(folder / "kept")  # what the process would not have removed
            raise Killed
        left -= 1
        move(written, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settling, "_move", kill)
        patch.setattr(sets.FileSet, "drop", lambda self: None)
        with pytest.raises(Killed):
            write()
    (folder / "kept").rename(folder / settling.JOURNAL)


@pytest.mark.parametrize("renames", range(3))
def test_set_that_a_kill_has_cut_off_is_completed_by_the_next_reader(tmp_path: Path, renames: int) -> None:
    write_bytes(tmp_path / "a", b"old")
    cut_off(tmp_path, lambda: write_set(tmp_path, b"new"), renames)
    assert read_bytes(tmp_path / "a", "file") == b"new"
    assert contents(tmp_path) == {"a": b"new", "b": b"new", "new/c": b"new"}


def save_engine(path: Path, plan: bytes) -> None:
    Engine(plan, EngineRecord("10.0", "gpu", (9, 0), "hash")).save(path)


def save_large(path: Path, value: float) -> None:
    model = conv_net()
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= 4:
            tensor.raw_data = np.full(len(tensor.raw_data) // 4, value, np.float32).tobytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "LIMIT", 0)
        patch.setattr(large, "BIG", 1)
        save_model(model, path)


def save_array(path: Path, value: float) -> None:
    with together():
        write_bytes(path.with_name("other"), b"")
        write_bytes(path, npy_bytes(np.full(2, value)))


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


READERS: list[tuple[str, Callable[[Path, Any], None], Callable[[Path], object], tuple[Any, Any]]] = [
    ("m.engine", save_engine, lambda path: Engine.load(path).plan, (b"old plan", b"new")),
    ("m.onnx", save_large, lambda path: {w for t in load_model(path).graph.initializer if t.data_type == 1
                                         for w in numpy_helper.to_array(t).ravel().tolist()}, (1.0, 2.0)),
    ("x.npy", save_array, lambda path: read_arrays(path)[""].tolist(), (1.0, 2.0)),
]  # fmt: skip


@pytest.mark.parametrize("renames", [0, 1])
@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize(("name", "save", "load", "values"), READERS)
def test_files_of_one_set_are_read_together_after_a_kill(
    tmp_path: Path, name: str, save: Any, load: Any, values: Any, is_there: bool, renames: int
) -> None:
    """By a link in another folder too; a set that is new is there as soon as its journal is."""
    (tmp_path / "link").mkdir()
    (tmp_path / "real").mkdir()
    save(tmp_path / "real" / name, values[1])
    expected = load(tmp_path / "real" / name)
    for path in (tmp_path / "real").iterdir():
        path.unlink()
    if is_there:
        save(tmp_path / "real" / name, values[0])
        assert load(tmp_path / "real" / name) != expected
    cut_off(tmp_path / "real", lambda: save(tmp_path / "real" / name, values[1]), renames)
    for path in ("m.engine.json", "m.onnx.data", name):
        (tmp_path / "link" / path).symlink_to(tmp_path / "real" / path)
    assert load(tmp_path / ("real" if name == "m.onnx" else "link") / name) == expected


@pytest.mark.parametrize(
    ("reader", "module", "second"), [(0, engine, "_read_record"), (1, onnx, "load_external_data_for_model")]
)
def test_set_that_appears_while_its_files_are_read_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: int, module: ModuleType, second: str
) -> None:
    """It appears between the first file and the second."""
    name, save, load, values = READERS[reader]
    save(tmp_path / name, values[1])
    expected = load(tmp_path / name)
    save(tmp_path / name, values[0])
    read_second, met = getattr(module, second), []

    def late(*args: object) -> object:
        if not met:
            met.append(args)
            save(tmp_path / name, values[1])
        return read_second(*args)

    monkeypatch.setattr(module, second, late)
    assert load(tmp_path / name) == expected
    assert met


def test_file_that_is_replaced_again_and_again_is_not_read(tmp_path: Path) -> None:
    count = 0

    def read() -> None:
        nonlocal count
        count += 1
        write_bytes(tmp_path / "a", b"x" * count)

    with pytest.raises(DataError, match="a is replaced again and again while it is read Hint: wait"):
        read_together(tmp_path / "a", read)


def test_set_of_another_user_that_was_cut_off_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "a", b"old")
    write_bytes(tmp_path / "z", b"of nobody")
    cut_off(tmp_path, lambda: write_set(tmp_path, b"new"), 1)
    monkeypatch.setattr(settling, "_is_of_another_user", lambda journal: True)
    assert read_bytes(tmp_path / "z", "file") == b"of nobody"
    with pytest.raises(DataError, match="a is of a set of files of another user that was cut off.* Hint: let them"):
        is_file(tmp_path / "a")
    with pytest.raises(DataError, match="may be half old, half new"):
        read_bytes(tmp_path / "a", "file")
    with pytest.raises(ConfigError, match="has a set of files of another user that was cut off Hint: let them run"):
        check_writable(tmp_path / "other")


def test_last_of_writing_and_removing_a_file_in_a_set_counts(tmp_path: Path) -> None:
    write_bytes(tmp_path / "old", b"old")
    with together():
        for name in ("old", "gone", "new/gone"):
            make_folder((tmp_path / name).parent)
            write_bytes(tmp_path / name, b"draft")
            remove(tmp_path / name)
        write_bytes(tmp_path / "back", b"first")
        remove(tmp_path / "back")
        write_bytes(tmp_path / "back", b"second")
        remove(tmp_path / "never there")
    assert contents(tmp_path) == {"back": b"second"}


def test_journal_of_another_place_moves_nothing(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"old")
    (tmp_path / ".quantlab-01234567").write_bytes(b"evil")
    inode = (tmp_path / ".quantlab-01234567").stat().st_ino
    for is_here, name in ((False, "precious"), (True, "../precious")):
        folder = tmp_path.stat().st_ino if is_here else 0
        content = {"format": settling.FORMAT, "home": ".", "others": [], "folder": folder}
        content["moves"] = [[".quantlab-01234567", inode, name]]
        (tmp_path / settling.JOURNAL).write_text(json.dumps(content))
        if is_here:
            with pytest.raises(DataError, match=r"journal is of a set of files that was cut off.*Hint: run it where"):
                settle(tmp_path)
        else:  # it came with a copy of its folder, and says nothing here
            settle(tmp_path)
            assert not (tmp_path / settling.JOURNAL).exists()
        assert (tmp_path / "precious").read_bytes() == b"old"


def test_set_of_which_a_name_cannot_be_given_leaves_what_was_there(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")

    def stop() -> None:
        with together():
            for name in ("a", "new", "b"):
                write_bytes(tmp_path / name, b"new")
            (tmp_path / "b").mkdir()  # as if another program kept the file open

    with pytest.raises(ConfigError):
        stop()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == {"a", "b"}


def test_file_written_after_a_kill_under_a_name_that_was_to_be_removed_stays(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    content = {"format": settling.FORMAT, "home": ".", "others": [], "folder": tmp_path.stat().st_ino}
    content["moves"] = [[None, (tmp_path / "old").stat().st_ino, "old"]]
    (tmp_path / "kept").write_bytes(b"new")
    (tmp_path / "kept").replace(tmp_path / "old")
    (tmp_path / settling.JOURNAL).write_text(json.dumps(content))
    settle(tmp_path)
    assert contents(tmp_path) == {"old": b"new"}


def test_what_a_journal_names_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process was killed after the folder was settled, and before it was swept."""
    write_bytes(tmp_path / "a", b"old")
    cut_off(tmp_path, lambda: write_set(tmp_path, b"new"), 1)
    monkeypatch.setattr(sweeping, "_swept", set())
    with monkeypatch.context() as patch:
        patch.setattr(places, "settle", lambda folder: None)
        check_writable(tmp_path / "other")
    settle(tmp_path)
    assert contents(tmp_path) == {"a": b"new", "b": b"new", "new/c": b"new"}
