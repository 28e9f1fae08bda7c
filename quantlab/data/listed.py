"""Images that are named by a pattern or in a list, in place of a folder."""

from __future__ import annotations

import re
from pathlib import Path

from quantlab.data.class_map import ClassMap
from quantlab.data.folder import ImageFiles, grouped, may_be_image
from quantlab.errors import DataError
from quantlab.files import is_file, is_there, read_text

LISTS = (".txt", ".lst", ".list")
"""Suffixes of files that list images."""
_WILD = re.compile(r"[*?\[]")


def is_pattern(source: str) -> bool:
    """Whether a source is a pattern of files, and not a file of that very name."""
    return bool(_WILD.search(source)) and not is_there(Path(source))


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
        pattern: With `*`, `?`, `[...]` and `**`.
        classes: The class list of the model, where there is one.

    Returns:
        The images.

    Raises:
        DataError: It matches no image.
    """
    base = pattern_base(pattern)
    names = base.glob(str(Path(pattern).relative_to(base)))
    found = sorted(name.relative_to(base).parts for name in names if name.is_file())
    found = [parts for parts in found if may_be_image(Path(*parts))]
    if not found:
        raise DataError(
            f"no image matches {pattern}", hint="quote the pattern, so that quantlab sees it: 'images/*.jpg'"
        )
    return grouped(base, found, classes)


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
            hint = "one path per line, relative to the folder of the list"
            if is_file(path.parent / line.rsplit(None, 1)[0]):
                hint += f"; give the labels of the lines as --labels {path.name} and a list without them"
            raise DataError(f"list {path}, line {number}: {line.strip()[:80]!r} is no file", hint=hint)
        if file in files:
            raise DataError(f"list {path} names {file} twice, in lines {files[file]} and {number}", hint="name it once")
        files[file] = number
    if not files:
        raise DataError(f"list {path} names no images", hint="one path per line")
    return ImageFiles(list(files))
