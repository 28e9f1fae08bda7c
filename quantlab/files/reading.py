"""Reading files with clear errors."""

from __future__ import annotations

from pathlib import Path

from quantlab.errors import DataError
from quantlab.files.settling import settle


def read_bytes(path: Path, what: str) -> bytes:
    """Read a file.

    Args:
        path: The file.
        what: What it is, as a noun for the error text ("calibration table").

    Returns:
        Its content.

    Raises:
        DataError: It cannot be read.
    """
    settle(path.parent)
    try:
        return path.read_bytes()
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
    try:
        return read_bytes(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{what} {path} cannot be read: {error}", hint="it must be text in UTF-8") from error
