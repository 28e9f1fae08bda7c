"""The file of --log-file: written as standard output is, so that a full disk never stops the work."""

from __future__ import annotations

import io
import logging
from pathlib import Path

from quantlab.cli.streams import Stream
from quantlab.errors import ConfigError
from quantlab.files import check_output, is_there


class LogFile(logging.StreamHandler):  # type: ignore[type-arg]  # Python 3.10 cannot subscript it
    """Writes records to a file anew; from the first byte that cannot be written it drops them, and keeps the reason."""

    def __init__(self, path: Path) -> None:
        check_output(path)
        self.path = path
        self._was_there = is_there(path)
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._raw = Stream(self._file.fileno())
        super().__init__(io.TextIOWrapper(io.BufferedWriter(self._raw), "utf-8", "backslashreplace"))

    def check(self) -> None:
        """Before the work, once the first line is written: what holds no log is not begun.

        Raises:
            ConfigError: It could not be written.
        """
        if self._raw.problem is None:
            return
        self.close()
        if not self._was_there:
            self.path.unlink(missing_ok=True)
        raise _unwritable(self.path, self._raw.problem)

    def close(self) -> None:
        """Write what is left and close the file."""
        try:
            self.stream.close()  # it flushes, into a stream that does not fail
            self._file.close()  # where some network drives say that they are full
        except OSError as error:
            self._raw.problem = self._raw.problem or error
        super().close()

    def lost(self) -> str | None:
        """After it is closed: what could not be written and why, None if all of it was."""
        return None if self._raw.problem is None else _unwritable(self.path, self._raw.problem).message


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"log file {path} cannot be written: {error.strerror}", hint="free the disk, or log elsewhere")
