"""What killed processes have left is removed; what belongs to living ones stays."""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from folder_contents import names
from quantlab.errors import ConfigError
from quantlab.files import (
    check_writable,
    locks,
    scratch_folder,
    sweeping,
    together,
    write_bytes,
)


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
