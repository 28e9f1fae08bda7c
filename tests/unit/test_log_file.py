"""--log-file where it cannot be written: before the work, in the middle of it, at the last line, when it is closed."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from conftest import CliResult
from models import conv_net, floats
from quantlab.cli import log_file
from quantlab.cli.streams import Stream

Cli = Callable[..., CliResult]
WORDS = ("presets", "--log-file", "run.log")
SAID = "error: log file run.log cannot be written: No space left on device"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(conv_net(), "m.onnx")
    np.save("x.npy", floats(4, 3, 8, 8))
    return tmp_path


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One number: how many bytes of a log fit on the disk."""
    left = [10**6]

    class Small(Stream):
        def write(self, content: bytes) -> int:
            fits = bytes(content)[: left[0]]
            if self.problem is None and not fits:
                self.problem = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.problem is not None:
                return len(content)
            left[0] -= len(fits)
            return super().write(fits)

    monkeypatch.setattr(log_file, "Stream", Small)
    return left


def whole(cli: Cli, room: list[int]) -> int:
    before = room[0]
    assert cli(*WORDS).code == 0
    return before - room[0]


def test_log_whose_first_line_does_not_fit_is_refused_before_the_work(cli: Cli, work: Path, room: list[int]) -> None:
    for room[0] in (0, 1, 40):
        done = cli(*WORDS)
        assert (done.code, done.out, done.err.splitlines()) == (2, "", [SAID, "hint: free the disk, or log elsewhere"])
        assert not Path("run.log").exists()
    assert logging.getLogger("quantlab").handlers == []


def test_log_that_fills_up_later_is_one_error_after_the_work(cli: Cli, work: Path, room: list[int]) -> None:
    size = whole(cli, room)
    printed, text = cli("presets").out, Path("run.log").read_bytes()
    for room[0] in (size - 1, size // 2):  # at the last line, in the middle
        fits = room[0]
        done = cli(*WORDS)
        assert (done.code, done.out, done.err) == (2, printed, f"{SAID}\n")
        assert len(Path("run.log").read_bytes()) == fits < len(text)
    assert logging.getLogger("quantlab").handlers == []


def test_command_that_failed_keeps_its_one_error(cli: Cli, work: Path, room: list[int]) -> None:
    room[0] = 200
    done = cli("calibrate", "m.onnx", "--data", "x.npy", "-o", "t.txt", "--log-file", "run.log")
    assert (done.code, done.err.count("error: "), SAID.replace("error", "warning") in done.err) == (2, 1, True)


def test_log_whose_drive_is_full_when_it_is_closed_is_an_error(
    cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = log_file.LogFile.close

    def fails(self: log_file.LogFile) -> None:
        os.close(self._file.fileno())  # what is closed twice fails the second time
        close(self)

    monkeypatch.setattr(log_file.LogFile, "close", fails)
    done = cli("presets", "--log-file", "run.log")
    assert (done.code, done.err) == (2, "error: log file run.log cannot be written: Bad file descriptor\n")


def test_log_that_cannot_be_opened_is_one_error(cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(log_file, "check_output", lambda path: monkeypatch.setattr(Path, "open", full))
    done = cli(*WORDS)
    assert (done.code, done.err.splitlines()[0]) == (2, SAID)
