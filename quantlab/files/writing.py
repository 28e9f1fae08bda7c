"""Writing files whole or not at all, alone or as one of a set."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from quantlab.errors import ConfigError
from quantlab.files.places import check_writable
from quantlab.files.sets import together

_LOG = logging.getLogger(__name__)


@contextmanager
def open_output(path: Path) -> Iterator[BinaryIO]:
    """A file to be written in pieces, atomically or as one of the set of the block.

    Args:
        path: The file.

    Yields:
        It, under a temporary name.

    Raises:
        ConfigError: It cannot be written.
    """
    check_writable(path)
    _LOG.info("writing %s", path)
    with together() as files:
        try:
            with files.open(path) as file:
                yield file
        except OSError as error:
            raise ConfigError(f"output {path} cannot be written: {error.strerror}", hint="is the disk full?") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; an interrupted write leaves no file behind.

    Args:
        path: The file.
        content: All of it.

    Raises:
        ConfigError: It cannot be written.
    """
    with open_output(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """`write_bytes` of UTF-8 with LF line ends.

    Args:
        path: The file.
        content: All of it.
    """
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def remove(path: Path) -> None:
    """Remove a file if it is there; in a set, when the set is.

    Args:
        path: The file.
    """
    with together() as files:
        files.remove(path)
