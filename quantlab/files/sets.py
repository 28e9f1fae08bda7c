"""Files that appear together or not at all; `quantlab.files.settling` says how."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from quantlab.errors import ConfigError
from quantlab.files.settling import bring_to_disk, rename_all
from quantlab.files.sweeping import held_file, held_folder


class FileSet:
    """Files under temporary names until all of them are finished. Each is locked, so that no other run sweeps it."""

    def __init__(self) -> None:
        self._named: dict[Path, Path | None] = {}  # name -> what gets it when the set is there; None: what has it goes
        self._drafts: dict[Path, Path] = {}  # name -> where its file is written
        self._folders: dict[Path, Path] = {}  # name of a new folder -> where its files are written
        self._held: list[int] = []

    def add_folder(self, folder: Path) -> None:
        """A folder that is to exist with the set: nothing is made before, unless it has to be."""
        target = Path(os.path.realpath(folder))
        if not target.exists():
            self._staged(target / "file").parent.mkdir(parents=True, exist_ok=True)

    def new_folder(self, folder: Path) -> Path:
        """Where to write the files of a folder that does not exist yet. They are not brought to the disk one by one,
        which would take minutes for thousands."""
        draft = self._staged(Path(os.path.realpath(folder)) / "file").parent
        draft.mkdir(parents=True, exist_ok=True)
        return draft

    def has_folder(self, folder: Path) -> bool:
        """Whether `add_folder` was told of it, or of one above it."""
        target = Path(os.path.realpath(folder))
        return any(top == target or top in target.parents for top in self._folders)

    def _staged(self, target: Path) -> Path:
        """Where a file is written whose folder does not exist: in a new folder beside the first that does not."""
        top = next(p for p in (target, *target.parents) if p.parent.exists())
        if top not in self._folders:
            staging = held_folder(top.parent, self._held)
            self._folders[top] = self._named[top] = staging
        return self._folders[top] / target.relative_to(top)

    @contextmanager
    def open(self, path: Path) -> Iterator[BinaryIO]:
        """A file to be written from its start; on the disk when the block ends, and not of the set if that fails."""
        target = Path(os.path.realpath(path))
        draft = self._drafts.get(target)
        if draft is None:
            draft = self._beside(target) if target.parent.exists() else self._staged(target)
            self._drafts[target] = draft
        draft.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            self._forget(target)  # whoever goes on without it must not publish half of it
            raise

    def _beside(self, target: Path) -> Path:
        """Where a file is written whose folder exists."""
        self._named.pop(target, None)  # last, if it was to go
        self._named[target] = draft = held_file(target.parent, self._held)
        return draft

    def remove(self, path: Path) -> None:
        """A file that is gone when the set is there, be it of the set."""
        target = Path(os.path.realpath(path))
        self._forget(target)
        if target.exists():
            self._named[target] = None

    def _forget(self, target: Path) -> None:
        draft = self._drafts.pop(target, None)
        if draft is not None:
            draft.unlink(missing_ok=True)
            self._named.pop(target, None)

    def publish(self) -> None:
        """Give all files their names."""
        for path, draft in self._named.items():
            if draft is not None and not draft.is_dir():
                with suppress(FileNotFoundError):  # the name is free
                    _keep_mode(draft, path)
        for staging in self._folders.values():
            for folder in (staging, *(path for path in staging.rglob("*") if path.is_dir())):
                bring_to_disk(folder)
        if self._named:
            rename_all([(draft, path) for path, draft in self._named.items()])

    def drop(self) -> None:
        """Remove whatever has no name yet."""
        for draft in self._named.values():
            if draft is not None and draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
            elif draft is not None:
                draft.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the locks."""
        for descriptor in self._held:
            os.close(descriptor)


_CURRENT: ContextVar[FileSet | None] = ContextVar("quantlab_file_set", default=None)


@contextmanager
def together() -> Iterator[FileSet]:
    """All files that are written in the block appear together when it ends, or none of them.

    Blocks within the block belong to it.

    Yields:
        The set.

    Raises:
        ConfigError: They cannot be written.
    """
    outer = _CURRENT.get()
    if outer is not None:
        yield outer
        return
    files = FileSet()
    token = _CURRENT.set(files)
    try:
        yield files
        try:
            files.publish()
        except OSError as error:
            name = error.filename2 or error.filename or "a file"
            raise ConfigError(
                f"output {name} cannot be written: {error.strerror}", hint="can the folder be written?"
            ) from error
    except BaseException:
        files.drop()
        raise
    finally:
        _CURRENT.reset(token)
        files.close()


def current_set() -> FileSet | None:
    """The set of the block that is running, if there is one."""
    return _CURRENT.get()


def _keep_mode(draft: Path, replaced: Path) -> None:
    """A file that takes the place of another has its mode, and its owner where that may be given."""
    state = replaced.stat()
    with suppress(OSError, AttributeError):
        if (state.st_uid, state.st_gid) != (os.getuid(), os.getgid()):
            os.chown(draft, state.st_uid, state.st_gid)
    draft.chmod(state.st_mode & 0o7777)
