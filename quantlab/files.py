"""Reading files with clear errors, and writing them whole or not at all.

A result is written to a temporary name in the same folder, then renamed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

from filelock import FileLock

from quantlab.errors import ConfigError, DataError


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
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes that lock `path` out of the block; the lock is a file `path`.lock, on any system."""
    with FileLock(path.with_name(path.name + ".lock")):
        yield


def check_writable(path: Path) -> None:
    """ConfigError unless a file can be written at `path`. Asked before long work, so that none of it is lost."""
    folder = path.parent
    if len(path.name.encode()) > 240:
        raise ConfigError(f"output name {path.name[:40]}... is too long", hint="choose a shorter one")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ConfigError(f"output {path} is no ordinary file and is not replaced", hint="choose another name")
    if path.is_dir():
        raise ConfigError(f"output {path} is a folder, expected a file name", hint=f"use {path / 'NAME'}")
    if not folder.is_dir():
        raise ConfigError(f"output folder {folder} does not exist or is not a folder", hint=f"mkdir -p {folder}")
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".quantlab-"):
            pass
    except OSError as error:
        raise ConfigError(
            f"output folder {folder} cannot be written: {error.strerror}", hint="choose another folder"
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; an interrupted write leaves no file behind.

    Args:
        path: The file.
        content: All of it.

    Raises:
        ConfigError: It cannot be written.
    """
    check_writable(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".quantlab-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        publish(Path(name), path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise ConfigError(f"output {path} cannot be written: {error.strerror}", hint="is the disk full?") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def publish(written: Path, path: Path) -> None:
    """Give a finished temporary file its name and the usual permissions.

    Args:
        written: The temporary file, in the same folder.
        path: Its name.
    """
    umask = os.umask(0)
    os.umask(umask)
    written.chmod(0o666 & ~umask)
    written.replace(path)


def write_text(path: Path, content: str) -> None:
    """`write_bytes` of UTF-8 with LF line ends.

    Args:
        path: The file.
        content: All of it.
    """
    write_bytes(path, content.encode("utf-8"))


def check_output(path: Path, *inputs: Path) -> None:
    """`check_writable`, for a file that is made from others.

    Args:
        path: The file to be written.
        inputs: The files it is made from.

    Raises:
        ConfigError: It cannot be written, or would replace one of the inputs.
    """
    check_writable(path)
    for file in inputs:
        if path.exists() and file.exists() and path.samefile(file):
            raise ConfigError(f"output {path} is the input {file}", hint="write to another file")


def check_outputs(paths: Sequence[Path], *inputs: Path) -> None:
    """`check_output` of several files, before any of them is written.

    Args:
        paths: The files.
        inputs: What they must not replace.

    Raises:
        ConfigError: One cannot be written or is an input, or two of them are one file.
    """
    for path in paths:
        check_output(path, *inputs)
    for first, second in combinations(paths, 2):
        if first.resolve() == second.resolve():
            raise ConfigError(f"outputs {first} and {second} are one file", hint="give two names")


def check_folder(path: Path) -> None:
    """ConfigError unless folder `path` exists and can be written, or can be made."""
    nearest = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise ConfigError(f"output folder {path} cannot be made: {nearest} is a file", hint="choose another folder")
    check_writable(nearest / "file")


def make_folder(path: Path) -> None:
    """Create `path` with its parents, or ConfigError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"output folder {path} cannot be made: {error.strerror}", hint="choose another folder"
        ) from error
    check_writable(path / "file")
