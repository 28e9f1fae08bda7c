"""Reading files with clear errors; writing them whole or not at all."""

from __future__ import annotations

import ctypes
import io
import json
import os
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models import conv_net
from quantlab.data.arrays import read_arrays
from quantlab.engines import engine
from quantlab.engines.engine import Engine, EngineRecord
from quantlab.errors import ConfigError, DataError
from quantlab.files import (
    check_folder,
    check_output,
    check_outputs,
    check_writable,
    is_file,
    locked,
    locks,
    make_folder,
    open_output,
    places,
    read_bytes,
    read_text,
    read_together,
    remove,
    scratch_folder,
    sets,
    settle,
    settling,
    sweeping,
    together,
    write_bytes,
    write_text,
)
from quantlab.onnx_model import large, load_model, save_model


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


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


# --- locks


def test_lock_keeps_others_out_until_the_block_ends(tmp_path: Path) -> None:
    order: list[str] = []
    inside, begun = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait(5)
        begun.set()
        with locked(tmp_path / "cache"):
            order.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    with locked(tmp_path / "cache"):
        inside.set()
        begun.wait(5)
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "other"]


@pytest.mark.skipif(os.name != "posix", reason="needs locks of open files")
@pytest.mark.parametrize("supported", [True, False])
def test_lock_of_another_is_waited_for_aloud_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, supported: bool
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    def meet() -> None:
        with locked(tmp_path / "cache"):
            raise AssertionError

    monkeypatch.setattr(locks, "SAID_AFTER_S", 0.0)
    monkeypatch.setattr(locks, "LIMIT_S", 0.05)
    if not supported:
        monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    named = sys.platform == "linux" and supported
    holder = rf"process {os.getpid()} \(.*py" if named else "another process"
    with locked(tmp_path / "cache"), pytest.raises(ConfigError, match=f"cache has been held by {holder}.* Hint: let"):
        meet()
    assert "waiting for" in caplog.text
    with locked(tmp_path / "cache"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="needs locks of open files")
def test_folder_that_another_program_has_locked_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `flock . quantlab ...` does, which waits for the command that waits for it."""
    monkeypatch.setattr(locks, "LIMIT_S", 0.02)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        locks.fcntl.flock(descriptor, locks.fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="has been held by"):
            check_writable(tmp_path / "out")
    finally:
        os.close(descriptor)
    check_writable(tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
def test_lock_ends_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        with locked(tmp_path / "cache"):
            os.write(writer, b".")
            signal.pause()
    os.read(reader, 1)
    monkeypatch.setattr(locks, "LIMIT_S", 5.0)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    with locked(tmp_path / "cache"):
        pass
    os.close(reader)
    os.close(writer)


def test_lock_that_cannot_be_made_raises(tmp_path: Path) -> None:
    (tmp_path / "cache.lock").mkdir()
    with (
        pytest.raises(ConfigError, match="cache cannot be locked: cache.lock: Is a directory"),
        locked(tmp_path / "cache"),
    ):
        pass


# --- sets


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


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


@pytest.mark.skipif(os.name != "posix", reason="needs locks that end with their process")
def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path: Path) -> None:
    (tmp_path / ".quantlab-01234567").write_bytes(b"left by a kill")
    (tmp_path / ".quantlab-89abcdef").mkdir()
    (tmp_path / ".quantlab-notes").write_bytes(b"of the user")
    os.mkfifo(tmp_path / ".quantlab-aaaaaaaa")  # to open it would take for ever
    with together():
        write_bytes(tmp_path / "a", b"")
        check_writable(tmp_path / "b")
        assert sum(name.startswith(".quantlab-") for name in names(tmp_path)) == 3
    assert names(tmp_path) == {"a", ".quantlab-notes", ".quantlab-aaaaaaaa"}


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


def test_folder_is_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 100,000 files takes 50 ms."""
    seen: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr(sweeping.os, "scandir", lambda folder: seen.append(folder) or scandir(folder))
    for name in "abc":
        write_bytes(tmp_path / name, b"")
    assert len(seen) == 1


@pytest.mark.skipif(os.name != "posix", reason="needs locks that end with their process")
def test_scratch_folder_of_the_dead_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "quantlab-0123456789abcdef.held").touch()
    (tmp_path / "quantlab-0123456789abcdef").mkdir()
    (tmp_path / "quantlab-0123456789abcdef" / "model.onnx").write_bytes(b"left by a kill")
    (tmp_path / "quantlab-fedcba9876543210").mkdir()  # of the user: no file beside it
    with scratch_folder() as living:
        monkeypatch.setattr(sweeping, "_swept", set())
        with scratch_folder() as folder:
            write_bytes(folder / "model.onnx", b"")
            assert living.is_dir()
            expected = {path.name + suffix for path in (living, folder) for suffix in ("", ".held")}
            assert names(tmp_path) == {"quantlab-fedcba9876543210", *expected}
    assert names(tmp_path) == {"quantlab-fedcba9876543210"}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="a temporary folder cannot be made: No such file.* Hint: set TMPDIR"):
        scratch_folder().__enter__()


@pytest.mark.parametrize("alive", [True, False])
def test_without_locks_what_is_old_and_of_a_dead_process_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(sweeping, "is_alive", lambda process: asked.append(process) or alive)
    for name, age_s in ((".quantlab-77-01234567", 1e5), (".quantlab-77-89abcdef", 0), (".quantlab-01234567", 1e5)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    sweeping.sweep(tmp_path)
    assert asked == [77]
    assert len(names(tmp_path)) == 2 + alive


@pytest.mark.parametrize(
    ("handle", "waited", "error", "expected"),
    [(4, 0x102, 0, True), (4, 0, 0, False), (0, 0, 5, True), (0, 0, 87, False)],
)
def test_life_of_a_process_is_asked_of_windows(
    monkeypatch: pytest.MonkeyPatch, handle: int, waited: int, error: int, expected: bool
) -> None:
    """WAIT_TIMEOUT: it runs; WAIT_OBJECT_0: it has ended; access denied: another user's; invalid: there is none."""

    def answer(value: int) -> Callable[..., int]:
        return lambda *_: value

    kernel = SimpleNamespace(OpenProcess=answer(handle), WaitForSingleObject=answer(waited), CloseHandle=answer(1))
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: kernel, raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: error, raising=False)
    assert locks.is_alive(77) is expected
