"""Images that are named by a pattern or in a list, in place of a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from quantlab.data.class_map import ClassMap
from quantlab.data.folder import ImageFiles, grouped, may_be_image
from quantlab.errors import DataError
from quantlab.files import is_file, is_there, read_text

LISTS = (".txt", ".lst", ".list")
"""Suffixes of files that list images."""
_WILD = re.compile(r"[*?\[]")
_KEY = re.compile(r":[^:/\\]*$")
"""Behind an .npz or a script."""


def is_pattern(source: str) -> bool:
    """Whether a source is a pattern of files, and not a file of that very name."""
    return bool(_WILD.search(source)) and not is_there(Path(source)) and not is_there(Path(_KEY.sub("", source)))


def is_list(source: str) -> bool:
    """Whether a source is a file that lists images."""
    return Path(source).suffix.lower() in LISTS


def pattern_base(pattern: str) -> Path:
    """The folder that a pattern starts from: all that it names lies below."""
    fixed = []
    for part in Path(pattern).parts:
        if _WILD.search(part):
            break
        fixed.append(part)
    return Path(*fixed)


def pattern_files(pattern: str, classes: ClassMap | None = None) -> ImageFiles:
    """Find the images of a pattern; folders below the fixed part of it are classes, as of `image_files`.

    Args:
        pattern: With `*`, `?`, `[...]` and `**`, which stands for folders within each other. Links are followed.
        classes: The class list of the model, where there is one.

    Returns:
        The images.

    Raises:
        DataError: It matches no image, or a folder on the way cannot be read.
    """
    base = pattern_base(pattern)
    parts = Path(pattern).relative_to(base).parts
    found = sorted(set(_matching(base, (), parts if parts[-1] != "**" else (*parts, "*"), frozenset())))
    found = [parts for parts in found if may_be_image(Path(*parts))]
    if not found:
        raise DataError(
            f"no image matches {pattern}", hint="quote the pattern, so that quantlab sees it: 'images/*.jpg'"
        )
    return grouped(base, found, classes)


def _matching(
    folder: Path, below: tuple[str, ...], parts: tuple[str, ...], above: frozenset[str]
) -> Iterator[tuple[str, ...]]:
    """The parts of the path of every file below a folder that matches. `above`: the folders that lead here."""
    part, rest = parts[0], parts[1:]
    if not _WILD.search(part):
        if rest:
            yield from _matching(folder / part, (*below, part), rest, above)
        elif is_file(folder / part):
            yield (*below, part)
        return
    if part == "**":
        yield from _matching(folder, below, rest, above)
    for entry in _entries(folder):
        path = folder / entry.name
        if part == "**" and entry.is_dir():
            real = os.path.realpath(path)
            if real in above | {os.path.realpath(folder)}:
                raise DataError(f"{path} is a link to a folder that it lies in", hint="remove the link")
            yield from _matching(path, (*below, entry.name), parts, above | {os.path.realpath(folder)})
        elif part != "**" and fnmatch(entry.name, part):
            if rest and entry.is_dir():
                yield from _matching(path, (*below, entry.name), rest, above)
            elif not rest and entry.is_file():
                yield (*below, entry.name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder but for hidden files; nothing where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return []
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read: {error.strerror}", hint="change its permissions, or name others"
        ) from error


def list_files(path: Path) -> ImageFiles:
    """The images of a list, in its order: a path per line, relative to the folder of the list.

    Args:
        path: The list.

    Returns:
        The images, without labels.

    Raises:
        DataError: It names none, one that is not there, or one twice.
    """
    files: dict[Path, int] = {}
    for number, line in enumerate(read_text(path, "list of images").splitlines(), 1):
        if not line.strip():
            continue
        file = path.parent / line.strip()
        if not is_file(file):
            file = path.parent / line.strip().replace("\\", "/")  # of Windows
        if not is_file(file):
            hint = "one path per line, relative to the folder of the list"
            if is_file(path.parent / re.sub(r"[\s,;]+\S*$", "", line.strip())):
                hint += f"; give the labels of the lines as --labels {path.name} and a list without them"
            raise DataError(f"list {path}, line {number}: {line.strip()[:80]!r} is no file", hint=hint)
        if file in files:
            raise DataError(f"list {path} names {file} twice, in lines {files[file]} and {number}", hint="name it once")
        files[file] = number
    if not files:
        raise DataError(f"list {path} names no images", hint="one path per line")
    return ImageFiles(list(files))
