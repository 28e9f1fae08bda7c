"""Where outputs may go: asked before long work, so that none of it is lost."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from quantlab.errors import ConfigError
from quantlab.files.locks import held_if_possible
from quantlab.files.names import is_file, is_folder, is_link, is_there
from quantlab.files.sets import current_set
from quantlab.files.settling import JOURNAL, refuse_foreign, settle
from quantlab.files.sweeping import sweep, temporary_name


def check_writable(path: Path) -> None:
    """ConfigError unless a file can be written at `path`. Asked before long work, so that none of it is lost."""
    if len(os.fsencode(path.name)) > 240:
        raise ConfigError(f"output name {path.name[:40]}... is too long", hint="choose a shorter one")
    if "\0" in str(path):
        raise ConfigError(f"output name {path.name[:40]!r} holds NUL", hint="choose another one")
    if is_there(path) and not is_file(path) and not is_folder(path):
        raise ConfigError(f"output {path} is no ordinary file and is not replaced", hint="choose another name")
    if is_folder(path):
        raise ConfigError(f"output {path} is a folder, expected a file name", hint=f"use {path / 'NAME'}")
    if is_there(path) and not os.access(path, os.W_OK):
        raise ConfigError(f"output {path} is read-only and is not replaced", hint="choose another name, or chmod +w")
    files = current_set()
    if files is not None and files.has_folder(path.parent):
        return
    folder = Path(os.path.realpath(path)).parent if is_link(path) else path.parent
    if not is_folder(folder):
        raise ConfigError(f"output folder {folder} does not exist or is not a folder", hint=f"mkdir -p {folder}")
    settle(folder)
    refuse_foreign(folder)
    with held_if_possible(folder):  # who holds it for long, as `flock . COMMAND` does, is told before the work
        if not is_file(folder / JOURNAL):  # of a process that was killed just now: what it names is still needed
            sweep(folder)
    _try_to_write(folder)


def _try_to_write(folder: Path) -> None:
    place = temporary_name(folder)
    try:
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        place.unlink()
    except OSError as error:
        raise ConfigError(
            f"output folder {folder} cannot be written: {error.strerror}", hint="choose another folder"
        ) from error


def is_same_file(one: Path, other: Path) -> bool:
    """Compare what two names stand for.

    Args:
        one: A file.
        other: A file.

    Returns:
        Whether they are one file, by links of either kind too; if neither exists, also where they differ in case
        alone, which some systems take for one.
    """
    if is_there(one) or is_there(other):
        return is_there(one) and is_there(other) and one.samefile(other)
    return _folded(one) == _folded(other)


def _folded(path: Path) -> str:
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()


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
        if is_there(path) and is_there(file) and path.samefile(file):
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
        if is_same_file(first, second):
            raise ConfigError(f"outputs {first} and {second} are one file", hint="give two names")


def check_folder(path: Path) -> None:
    """ConfigError unless folder `path` exists and can be written, or can be made."""
    nearest = next(p for p in (path, *path.absolute().parents) if is_there(p))
    if not is_folder(nearest):
        raise ConfigError(f"output folder {path} cannot be made: {nearest} is a file", hint="choose another folder")
    check_writable(nearest / "file")


def make_folder(path: Path) -> None:
    """Create `path` with its parents, or ConfigError; in a set, when the set is there."""
    files = current_set()
    if files is not None and not is_there(path) and not is_link(path):
        check_folder(path)
        files.add_folder(path)
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"output folder {path} cannot be made: {error.strerror}", hint="choose another folder"
        ) from error
    check_writable(path / "file")
