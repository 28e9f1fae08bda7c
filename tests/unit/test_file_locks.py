"""Locks between processes: who waits, for how long, and when they end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from quantlab.errors import ConfigError
from quantlab.files import (
    check_writable,
    locked,
    locks,
)


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
