"""Temporary names, and the end of what killed processes have left under them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quantlab.errors import ConfigError
from quantlab.files.locks import has_locks, hold, is_alive, is_held

TEMPORARY = re.compile(r"\.quantlab-(?:(?P<process>\d+)-)?[a-z0-9_]{8}")
_SCRATCH = re.compile(r"quantlab-(?:(?P<process>\d+)-)?[0-9a-f]{16}\.held")
_OLD_S = 86_400.0
"""Where locks do not say who lives, nothing younger is swept: its process may run on another machine."""
_swept: set[tuple[int, int]] = set()
"""Folders that this process has looked through: to list one of many files takes time."""


def temporary_name(folder: Path) -> Path:
    """A new name for something that is not finished."""
    return folder / f".quantlab-{os.getpid()}-{secrets.token_hex(4)}"


def held_file(folder: Path, held: list[int]) -> Path:
    """A new file that is locked.

    Args:
        folder: Where.
        held: Gets what keeps it locked, to be closed.

    Returns:
        Its temporary name.
    """
    return _held(lambda: temporary_name(folder), _open_file, held)


def held_folder(parent: Path, held: list[int]) -> Path:
    """The same of a folder.

    Args:
        parent: Where.
        held: Gets what keeps it locked, to be closed.

    Returns:
        Its temporary name.
    """
    return _held(lambda: temporary_name(parent), _open_folder, held)


def _held(name: Callable[[], Path], make: Callable[[Path], int | None], held: list[int]) -> Path:
    """Make and lock something; under another name where a sweep between the two took it away."""
    while True:
        path = name()
        descriptor = make(path)
        if descriptor is not None:
            _keep(descriptor, path, held)
        if path.exists():
            return path


def _open_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def _open_folder(path: Path) -> int | None:
    """None where a folder cannot be opened: there nothing is swept either."""
    path.mkdir()
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return None


def _keep(descriptor: int, path: Path, held: list[int]) -> None:
    """Lock it and keep it open, where that is possible: elsewhere an open file could not be renamed."""
    if hold(descriptor, path):
        held.append(descriptor)
    else:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what killed processes have left in a folder, once in a process; what belongs to living ones stays.

    Args:
        folder: Any folder.
    """
    for path in _not_swept(folder, TEMPORARY):
        with _dead(path, TEMPORARY) as state:
            if state is not None:
                _remove(path)


def _not_swept(folder: Path, names: re.Pattern[str]) -> list[Path]:
    with suppress(OSError):
        state = folder.stat()
        if (state.st_dev, state.st_ino) not in _swept:
            with os.scandir(folder) as entries:
                found = [folder / entry.name for entry in entries if names.fullmatch(entry.name)]
            _swept.add((state.st_dev, state.st_ino))
            return found
    return []


@contextmanager
def _dead(path: Path, names: re.Pattern[str]) -> Iterator[os.stat_result | None]:
    """What a file or folder is whose process is dead, which nobody else takes meanwhile; else None."""
    if not has_locks():
        yield _state_by_name(path, names)
        return
    descriptor = -1
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        yield _state_of_dead(descriptor, path) if descriptor >= 0 else None
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _state_of_dead(descriptor: int, path: Path) -> os.stat_result | None:
    with suppress(OSError):
        state = os.fstat(descriptor)
        ordinary = stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)  # nothing else is ours
        if ordinary and not is_held(descriptor) and os.path.samestat(state, path.lstat()):
            return state
    return None


def _state_by_name(path: Path, names: re.Pattern[str]) -> os.stat_result | None:
    """The same by the process in its name."""
    match = names.fullmatch(path.name)
    with suppress(OSError):
        state = path.lstat()
        if match and match["process"] and time.time() - state.st_mtime > _OLD_S and not is_alive(int(match["process"])):
            return state
    return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder in that of the system for temporary files. One that a killed process has left is removed by the next.

    A file beside it is locked as long as it is in use: the folder itself is locked by who writes there.

    Yields:
        It; it is gone after the block.

    Raises:
        ConfigError: It cannot be made.
    """
    held: list[int] = []
    try:
        top = Path(tempfile.gettempdir())
        for mark in _not_swept(top, _SCRATCH):
            with _dead(mark, _SCRATCH) as state:
                if state is not None and (not hasattr(os, "getuid") or state.st_uid == os.getuid()):
                    _remove_scratch(mark)
        mark = _held(lambda: _new_mark(top), _open_file, held)
        mark.with_suffix("").mkdir(0o700)
    except OSError as error:
        raise ConfigError(
            f"a temporary folder cannot be made: {error.strerror or error}", hint="set TMPDIR to a folder with space"
        ) from error
    try:
        yield mark.with_suffix("")
    finally:
        _remove_scratch(mark)
        for descriptor in held:
            os.close(descriptor)


def _new_mark(top: Path) -> Path:
    return top / f"quantlab-{os.getpid()}-{secrets.token_hex(8)}.held"


def _remove_scratch(mark: Path) -> None:
    """The folder first: a mark without one is swept, a folder without a mark never."""
    _remove(mark.with_suffix(""))
    _remove(mark)
