"""Locks between processes. Where the system has locks on open files they end with their process, however it ends.

Nobody waits in silence: who waits for longer than a moment says so, and for whom; and not for ever.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, SoftFileLock, Timeout

from quantlab.errors import ConfigError

try:
    fcntl: Any = importlib.import_module("fcntl")
except ImportError:  # Windows
    fcntl = None

LOCK = ".quantlab-lock"
"""Made only where a folder itself cannot be locked (Windows, some network file systems)."""
SAID_AFTER_S = 3.0
LIMIT_S = 600.0
"""How long is waited: what is done under these locks takes a moment, but for a search, which takes hours."""
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)
_SYNCHRONIZE, _NO_SUCH_PROCESS, _TIMEOUT = 0x00100000, 87, 0x102
"""Of Windows: the right to wait for a process, ERROR_INVALID_PARAMETER, and WAIT_TIMEOUT, which says that it runs."""
_LOG = logging.getLogger(__name__)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes that lock `path` out of the block; the lock is a file `path`.lock, on any system.

    Args:
        path: Any name in a folder that exists.

    Raises:
        ConfigError: Another process does not let go of it, or the lock cannot be made.
    """
    with ExitStack() as stack:
        try:
            _lock_file(path.with_name(path.name + ".lock"), path, stack)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be locked: {path.name}.lock: {error.strerror or error}", hint="choose another folder"
            ) from error
        yield


@contextmanager
def folders_locked(folders: Iterable[Path]) -> Iterator[None]:
    """Keep others that do the same out of some folders, for the moment of a block.

    Args:
        folders: They exist; their names are resolved.

    Raises:
        ConfigError: Another process does not let go of one.
        OSError: One cannot be locked.
    """
    with ExitStack() as stack:
        for folder in sorted(set(folders)):  # in one order, so that no two wait for each other
            if not _lock_folder(folder, stack):
                _lock_file(folder / LOCK, folder, stack)
        yield


@contextmanager
def held_if_possible(folder: Path) -> Iterator[None]:
    """`folders_locked` for one that is not written to yet: one that cannot be opened is for others to say.

    Args:
        folder: It exists.

    Raises:
        ConfigError: Another process does not let go of it.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            _lock_folder(folder, stack)
        yield


def _lock_folder(folder: Path, stack: ExitStack) -> bool:
    """Whether the folder itself is locked until the end of the stack; else it cannot be."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return False
    stack.callback(os.close, descriptor)
    return hold(descriptor, folder)


def _lock_file(lock: Path, what: Path, stack: ExitStack) -> None:
    """Lock a file until the end of the stack."""
    if fcntl is not None:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        stack.callback(os.close, descriptor)
        if hold(descriptor, what):
            return
    kind = FileLock if fcntl is None else SoftFileLock  # the second where the file system has no locks at all
    other = kind(lock if fcntl is None else lock.with_name(lock.name + "ed"))

    def is_mine() -> bool:
        try:
            other.acquire(timeout=0)
        except Timeout:
            return False
        return True

    _wait(is_mine, what, lambda: f"another process (if there is none, remove {other.lock_file})")
    stack.callback(other.release)


def hold(descriptor: int, what: Path) -> bool:
    """Lock an open file or folder until it is closed.

    Args:
        descriptor: Of the file.
        what: What it is called where others have it.

    Returns:
        False where the file system has no such locks.

    Raises:
        ConfigError: Another process does not let go of it.
    """
    if fcntl is None:
        return False

    def is_mine() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        return True

    try:
        _wait(is_mine, what, lambda: _holder(os.fstat(descriptor)))
    except OSError:
        return False
    return True


def is_held(descriptor: int) -> bool:
    """Whether a living process holds an open file or folder; where that cannot be told, yes."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def has_locks() -> bool:
    """Whether locks of open files say who lives; else it is asked by `is_alive`."""
    return fcntl is not None


def is_alive(process: int) -> bool:
    """Whether there is such a process, on Windows; where that cannot be told, yes."""
    library = getattr(ctypes, "WinDLL", None)
    if library is None:
        return True
    kernel = library("kernel32", use_last_error=True)
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(_SYNCHRONIZE, False, process)
    if not handle:
        return bool(getattr(ctypes, "get_last_error")() != _NO_SUCH_PROCESS)  # noqa: B009  Windows has it alone
    try:
        return bool(kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == _TIMEOUT)
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))


def _wait(is_mine: Callable[[], bool], what: Path, holder: Callable[[], str]) -> None:
    begun, pause, announced = time.monotonic(), 0.001, False
    while not is_mine():
        waited = time.monotonic() - begun
        if waited > LIMIT_S:
            raise ConfigError(
                f"{what} has been held by {holder()} for {waited:.0f} s", hint="let it end, or choose another folder"
            )
        if waited > SAID_AFTER_S and not announced:
            _LOG.warning("waiting for %s, which is held by %s", what, holder())
            announced = True
        time.sleep(pause)
        pause = min(2 * pause, 0.2)


def _holder(state: os.stat_result) -> str:
    """Who holds an open file: process and command, where the system says it (Linux does)."""
    place = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}"
    with suppress(OSError, ValueError, IndexError):
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        # number, FLOCK, ADVISORY, WRITE, process, place, start, end
        process = next((row[4] for row in rows if row[1] == "FLOCK" and row[5] == place), "")
        command = Path(f"/proc/{int(process)}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        return f"process {process} ({' '.join(command.split())[:80]})"
    return "another process"
