"""Standard output and error that never stop the work: a reader that left, a full disk, a terminal without Unicode."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from typing import Any

_ASCII = {"–": "-", "∞": "inf", "…": "...", "×": "x", "±": "+-", "°": " deg"}
"""What stands for signs that a terminal does not have."""


class Stream(io.RawIOBase):
    """Writes to a file descriptor; what cannot be written is dropped, and the reason kept."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.problem: OSError | None = None

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        while self.problem is None:
            try:
                return os.write(self._descriptor, content)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.problem = error
        return len(content)


def guard_streams() -> None:
    """Put such streams in the place of sys.stdout and sys.stderr, unless a test or a caller has put others there."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream, original = getattr(sys, name), getattr(sys, f"__{name}__")
        if os.name == "posix" and stream is original:
            encoding = getattr(stream, "encoding", None) or "utf-8"
            raw = Stream(descriptor)
            text = io.TextIOWrapper(
                io.BufferedWriter(raw), encoding, "quantlab", line_buffering=name == "stderr" or raw.isatty()
            )
            setattr(sys, name, text)


def lost_output() -> str | None:
    """Why standard output could not be written, None if it could be, or if its reader left: `| head` has had enough."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            return None
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    problem = raw.problem if isinstance(raw, Stream) else None
    if problem is None or problem.errno in (errno.EPIPE, errno.EBADF):
        return None
    return problem.strerror


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    text = "".join(_ASCII.get(sign, sign.encode("ascii", "backslashreplace").decode()) for sign in bad)
    return text, error.end


codecs.register_error("quantlab", _replace)
