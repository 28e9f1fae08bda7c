"""What other libraries print on standard error: counted, so that it does not bury what quantlab has to say."""

from __future__ import annotations

import faulthandler
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from quantlab.cli.say import echo, note
from quantlab.cli.streams import Stream
from quantlab.errors import QuantlabError

_WIDTH = 120
_STDERR = 2


class _Heard(logging.Handler):
    """Lines that came by Python: warnings, and log records that nobody handles."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("quantlab."):
            echo(record.getMessage(), err=True)
        else:
            self.lines.append(record.getMessage())

    def show(self, message: Warning | str, category: type[Warning], *_: Any) -> None:
        """In place of `warnings.showwarning`."""
        self.lines.append(f"{category.__name__}: {message}")


@contextmanager
def counted_noise() -> Iterator[None]:
    """One line at the end for all that other libraries write to standard error meanwhile; all of it before the
    traceback of a bug, which it may explain."""
    heard = _Heard()
    shown, last = warnings.showwarning, logging.lastResort
    with _scratch_file() as file, ExitStack() as stack:
        stack.callback(setattr, warnings, "showwarning", shown)
        stack.callback(setattr, logging, "lastResort", last)
        setattr(warnings, "showwarning", heard.show)  # noqa: B010  mypy wants the same signature
        logging.lastResort = heard
        if _is_plain_stderr():
            stack.enter_context(_redirected(file))
        try:
            yield
        except Exception as error:
            is_bug = not isinstance(error, QuantlabError) and type(error).__module__.split(".")[0] != "click"
            stack.callback(_print_all, file, heard) if is_bug else stack.callback(_print, file, heard)
            raise
        except BaseException:
            raise
        else:
            stack.callback(_print, file, heard)


def _scratch_file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # the disk is full: the lines are lost, the work goes on
        return Path(os.devnull).open("w+b")


def _is_plain_stderr() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.fileno() == _STDERR and bool(os.fstat(_STDERR))
    except (OSError, ValueError):  # closed, or no file
        return False


@contextmanager
def _redirected(file: IO[bytes]) -> Iterator[None]:
    """The descriptor goes to a file, Python's own stream to where it went."""
    before = sys.stderr
    before.flush()
    kept = os.dup(_STDERR)
    faulthandler.enable(kept)  # a crash in a library has no other way to be seen
    buffer = io.BufferedWriter(Stream(kept))
    sys.stderr = io.TextIOWrapper(buffer, before.encoding, before.errors, line_buffering=True)
    os.dup2(file.fileno(), _STDERR)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before
        faulthandler.disable()
        os.dup2(kept, _STDERR)
        os.close(kept)


def _lines(file: IO[bytes], heard: _Heard) -> list[str]:
    file.seek(0)
    written = file.read().decode(errors="replace").splitlines()
    return [line for line in (*heard.lines, *written) if line.strip()]


def _print(file: IO[bytes], heard: _Heard) -> None:
    lines = _lines(file, heard)
    if lines:
        first = " ".join(lines[0].split())
        shown = first if len(first) <= _WIDTH else f"{first[:_WIDTH]}..."
        note(f"note: {len(lines)} lines of other libraries are not shown, the first: {shown}")


def _print_all(file: IO[bytes], heard: _Heard) -> None:
    for line in _lines(file, heard):
        echo(line, err=True)
