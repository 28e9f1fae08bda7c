"""Reading files with clear errors, and those of a set as they were written together.

A reader meets the old set or the new one, never both: one whose publication was cut off is completed first, or the
error says why it cannot be; one that appears while its files are read makes the reader begin again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from quantlab.errors import DataError, QuantlabError
from quantlab.files import names
from quantlab.files.settling import settle_around

_TRIES = 20
_MOST = 2**30
"""Bytes of a file that is read as a whole: far more than any table, cache or shard has."""
_CHUNK = 2**20
_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


def is_file(path: Path) -> bool:
    """Whether there is such a file to be read; a set that it may belong to is completed first.

    Args:
        path: Any name, also one that no file can have.

    Raises:
        DataError: Its set was cut off and cannot be completed.
    """
    settle_around(path)
    return names.is_file(path)


def read_together(path: Path, read: Callable[[], _T]) -> _T:
    """Read a file and those that were written with it.

    Args:
        path: The file, which every set replaces.
        read: Reads it and the others; called again where a set has appeared meanwhile.

    Returns:
        What `read` gives.

    Raises:
        DataError: The set was cut off and cannot be completed, or is replaced again and again.
        QuantlabError: As `read`.
    """
    for _ in range(_TRIES):
        settle_around(path)
        before, found, problem = _state(path), None, None
        try:
            found = read()
        except QuantlabError as error:
            problem = error
        settle_around(path)  # waits for who is just replacing it
        if _state(path) != before:
            continue
        if problem is not None:
            raise problem
        return found  # type: ignore[return-value]
    raise DataError(f"{path} is replaced again and again while it is read", hint="wait until its writer is done")


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def read_bytes(path: Path, what: str, most: int | None = None) -> bytes:
    """Read a file.

    Args:
        path: The file.
        what: What it is, as a noun for the error text ("calibration table").
        most: Bytes that it may have; None for far more than any table, cache or shard has.

    Returns:
        Its content.

    Raises:
        DataError: It cannot be read, has too much, or its set was cut off and cannot be completed.
    """
    settle_around(path)
    _LOG.debug("reading %s %s", what, path)
    most = _MOST if most is None else most
    try:
        with path.open("rb") as file:
            content, size = bytearray(), os.fstat(file.fileno()).st_size
            if 0 < size <= most:
                return file.read()
            while size <= most and (chunk := file.read(_CHUNK)):  # a pipe, or /dev/zero, which has no end
                content += chunk
                size = len(content)
        if size > most:
            raise DataError(
                f"{what} {path} has more than the {most:,} bytes that are read", hint="is it the right file?"
            )
        return bytes(content)
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{what} {path} cannot be read: {reason}", hint="check the path") from error


def read_text(path: Path, what: str) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.
        what: What it is, as a noun for the error text ("calibration table").

    Returns:
        Its text.

    Raises:
        DataError: It cannot be read, or is not UTF-8.
    """
    return text_of(read_bytes(path, what), path, what)


def text_of(content: bytes, path: Path, what: str) -> str:
    """The text of a file that was read: a pipe can be read once only.

    Args:
        content: Its content.
        path: The file, for the error text.
        what: What it is, likewise.

    Returns:
        Its text.

    Raises:
        DataError: It is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{what} {path} cannot be read: {error}", hint="it must be text in UTF-8") from error
