"""Locks between processes. Where the system has locks on open files they end with their process, however it ends."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

try:
    fcntl: Any = importlib.import_module("fcntl")
except ImportError:  # Windows
    fcntl = None

LOCK = ".quantlab-lock"
"""Made only where a folder itself cannot be locked (Windows, some network file systems)."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes that lock `path` out of the block; the lock is a file `path`.lock, on any system."""
    with FileLock(path.with_name(path.name + ".lock")):
        yield


@contextmanager
def folders_locked(folders: Iterable[Path]) -> Iterator[None]:
    """Keep others that do the same out of some folders, for the moment of a block.

    Args:
        folders: They exist; their names are resolved.
    """
    with ExitStack() as stack:
        for folder in sorted(set(folders)):  # in one order, so that no two wait for each other
            stack.enter_context(_folder_locked(folder))
        yield


@contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    try:
        descriptor = os.open(folder, os.O_RDONLY) if fcntl is not None else -1
    except PermissionError:
        descriptor = -1
    try:
        if descriptor >= 0 and hold(descriptor):
            yield
        else:
            with FileLock(folder / LOCK):
                yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def hold(descriptor: int) -> bool:
    """Lock an open file or folder until it is closed. False where the file system has no such locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
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
