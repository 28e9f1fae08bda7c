"""Sets of files that appear together: how they get their names, and what becomes of a set when the process is killed.

No file system renames several files at once. So:

1. All files of a set are written to temporary names, and brought to the disk.
2. A set in a folder that did not exist is a folder with a temporary name, and one rename: no reader ever sees half.
3. Else a journal with all renames is written into the folder, itself by one rename. That is the moment from which the
   set exists: a kill before it leaves the old files, and temporary ones that the next run sweeps; after it the renames
   follow at once, and a kill among them leaves a journal. Whoever of quantlab next reads or writes in that folder
   finds it, and completes the set first. Only other programs can see half a set, and only in that case.
4. All of this is done under a lock of the folder, which no process keeps beyond its death: two writers never mix.
5. A set in several folders has a journal in each, of which the first decides.

A journal names files of its own folder only, and by inode numbers: one that was unpacked or copied moves nothing, and
what was written under a name since is not touched. Another user's is left alone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from quantlab.errors import ConfigError, DataError
from quantlab.files.locks import folders_locked
from quantlab.files.names import is_file
from quantlab.files.sweeping import TEMPORARY, temporary_name
from quantlab.files.uninterrupted import uninterrupted

JOURNAL = ".quantlab-journal"
FORMAT = "quantlab.journal"
_TRIES = 100
"""At one journal, where others complete it at the same time."""

Move = tuple[Path | None, Path]
"""What gets which name; None removes what has it."""


def rename_all(moves: Sequence[Move]) -> None:
    """Give finished temporary files their names, all or none.

    Args:
        moves: In this order; resolved paths.

    Raises:
        OSError: A name cannot be given.
    """
    folders = sorted({path.parent for path in _places(moves)})
    while True:
        for folder in folders:
            settle(folder)
        with folders_locked(folders), uninterrupted():
            journals = [folder / JOURNAL for folder in folders if (folder / JOURNAL).is_file()]
            if any(map(_is_of_another_user, journals)):
                raise PermissionError(13, f"a set of another user was cut off there ({JOURNAL})", str(journals[0]))
            if journals:
                continue  # of another process that was killed in between
            several = len(moves) > 1
            if several:
                _write_journals(moves, folders)
            try:
                _move_all(moves)
                for folder in folders:
                    bring_to_disk(folder)
            finally:
                if several:
                    for folder in reversed(folders):
                        (folder / JOURNAL).unlink(missing_ok=True)
            return


def _move_all(moves: Sequence[Move]) -> None:
    """All renames; where one fails (a file that another program keeps open, on Windows), those before it are undone."""
    kept: dict[Path, Path] = {}
    done: list[Move] = []
    try:
        for written, path in moves:
            if written is not None and not written.exists():
                raise FileNotFoundError(2, "its temporary file is gone", str(path))
            if len(moves) > 1 and path.is_file():
                with suppress(OSError):  # a file system without hard links
                    backup = temporary_name(path.parent)
                    os.link(path, backup)
                    kept[path] = backup
            _move(written, path)
            done.append((written, path))
    except OSError:
        for written, path in reversed(done):
            if path in kept:
                kept.pop(path).replace(path)
            elif written is not None and path.is_dir() and not written.exists():
                path.rename(written)
            elif written is not None:
                path.unlink(missing_ok=True)
        raise
    finally:
        for backup in kept.values():
            backup.unlink(missing_ok=True)


def settle(folder: Path) -> None:
    """Complete what a killed process has begun to publish in a folder; wait for one that is alive.

    Args:
        folder: Any folder.

    Raises:
        DataError: There is such a set, and it cannot be completed.
    """
    journal = folder / JOURNAL
    for _ in range(_TRIES):
        if not is_file(journal) or _is_of_another_user(journal):
            return
        try:
            if _is_from_elsewhere(journal):
                with suppress(OSError):
                    journal.unlink()
                return
            home = _home_of(journal)
            if home is None:
                continue  # it was completed meanwhile
            others = _read(home / JOURNAL)["others"] if (home / JOURNAL).exists() else []
            folders = {Path(os.path.realpath(place)) for place in (folder, home, *(home / other for other in others))}
            with folders_locked(f for f in folders if f.is_dir()), uninterrupted():
                _complete(home, journal, [f for f in folders if f.is_dir()])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"{journal} is of a set of files that was cut off, and the set cannot be completed: {error}",
                hint="run it where the folder can be written, or remove that file",
            ) from error


def settle_around(path: Path) -> None:
    """`settle` for a file that is to be read, where it really is.

    Args:
        path: The file, which may not be there, or a name that no file can have.

    Raises:
        DataError: It is of a set that cannot be completed, or of one that another user has to complete.
    """
    try:
        target = Path(os.path.realpath(path))
    except (OSError, ValueError):
        return
    settle(target.parent)
    journal = target.parent / JOURNAL
    if is_file(journal) and _is_of_another_user(journal) and target.name in _names_in(journal):
        raise DataError(
            f"{path} is of a set of files of another user that was cut off: it may be half old, half new",
            hint=f"let them read it with quantlab, which completes the set, or remove {journal}",
        )


def refuse_foreign(folder: Path) -> None:
    """ConfigError where a set of another user was cut off: nothing can be published there until it is complete."""
    journal = folder / JOURNAL
    if is_file(journal) and _is_of_another_user(journal):
        raise ConfigError(
            f"output folder {folder} has a set of files of another user that was cut off",
            hint=f"let them run quantlab there, which completes it, or remove {journal}",
        )


def _names_in(journal: Path) -> set[str]:
    """The names that the journal of another user gives to files which are still to get them; none if it is broken."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if not _is_from_elsewhere(journal):
            rows = _read(journal)["moves"]
            if any(w is not None and _inode(journal.parent / w) == inode for w, inode, _ in rows):
                return {str(name) for _, _, name in rows}
    return set()


def _places(moves: Sequence[Move]) -> Iterator[Path]:
    return (path for move in moves for path in move if path is not None)


def _write_journals(moves: Sequence[Move], folders: Sequence[Path]) -> None:
    """One for each folder, that of the first last: when it is there, the set is."""
    home = folders[0]
    for folder in reversed(folders):
        rows = [[w and w.name, _inode(w or path), path.name] for w, path in moves if path.parent == folder]
        others = [_from(home, other) for other in folders[1:]] if folder == home else []
        content: dict[str, Any] = {"format": FORMAT, "home": _from(folder, home), "others": others}
        content |= {"folder": folder.stat().st_ino, "moves": rows}
        temporary = temporary_name(folder)
        try:
            with temporary.open("x") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / JOURNAL)
        except BaseException:
            for place in (temporary, *(other / JOURNAL for other in folders)):
                place.unlink(missing_ok=True)
            raise
        bring_to_disk(folder)


def _inode(path: Path) -> int | None:
    return path.lstat().st_ino if os.path.lexists(path) else None


def _from(folder: Path, other: Path) -> str:
    """The way from a folder to another: absolute where there is none, as between drives of Windows."""
    try:
        return os.path.relpath(other, folder)
    except ValueError:
        return str(other)


def _is_of_another_user(journal: Path) -> bool:
    """Whether somebody else wrote it, who could have anything renamed or removed by it; root may."""
    with suppress(OSError):
        return hasattr(os, "getuid") and journal.lstat().st_uid not in (os.getuid(), 0)
    return False


def _is_from_elsewhere(journal: Path) -> bool:
    """Whether it came with a copy of a folder: the files that it names are not these."""
    content = json.loads(journal.read_bytes())
    return bool(content["format"] == FORMAT and content["folder"] != journal.parent.stat().st_ino)


def _read(journal: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(journal.read_bytes())
    if content["format"] != FORMAT or content["folder"] != journal.parent.stat().st_ino:
        raise ValueError("it was not written here")
    return content


def _home_of(journal: Path) -> Path | None:
    """The folder whose journal decides; None where the journal is gone."""
    try:
        return Path(os.path.realpath(journal.parent / str(_read(journal)["home"])))
    except FileNotFoundError:
        return None


def _complete(home: Path, journal: Path, folders: Sequence[Path]) -> None:
    """Under the locks: do what the journals say, if the one that decides is there."""
    if not (home / JOURNAL).exists():  # cut off before the set existed
        journal.unlink(missing_ok=True)
        return
    here = [folder for folder in folders if (folder / JOURNAL).exists()]
    for folder in here:
        for name, inode, path in _read(folder / JOURNAL)["moves"]:
            if Path(path).name != path or (name is not None and not TEMPORARY.fullmatch(name)):
                raise ValueError("it names other folders")
            written = None if name is None else folder / name
            if written is None:
                if inode is not None and _inode(folder / path) == inode:
                    _move(None, folder / path)
            elif written.exists() and written.lstat().st_ino == inode:
                _move(written, folder / path)
        bring_to_disk(folder)
    for folder in sorted(here, key=lambda f: f == home):
        (folder / JOURNAL).unlink(missing_ok=True)


def _move(written: Path | None, path: Path) -> None:
    if written is None:
        path.unlink(missing_ok=True)
    elif written.is_dir():
        _move_folder(written, path)
    else:
        written.replace(path)


def _move_folder(written: Path, path: Path) -> None:
    """One rename where the name is free; else somebody has made the folder meanwhile, and each file goes there."""
    try:
        written.rename(path)
    except OSError:
        if not path.is_dir():
            raise
        for file in [f for f in sorted(written.rglob("*")) if not f.is_dir()]:
            target = path / file.relative_to(written)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
        shutil.rmtree(written)


def bring_to_disk(folder: Path) -> None:
    """Bring the names in a folder to the disk, where a folder can be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
