"""The image files below a folder, and the classes that its subfolders are. Nothing is passed over in silence."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab.data.class_map import ClassMap
from quantlab.errors import DataError, Notice

_SIDECARS = frozenset({".csv", ".tsv", ".txt", ".lst", ".list", ".json", ".md", ".xml", ".yaml", ".yml", ".npy", ".npz",
                       ".db", ".ini"})  # fmt: skip
"""The last two are of Windows, which puts Thumbs.db and desktop.ini into folders of pictures."""
_NUMBER = re.compile(r"\d{1,9}(?!\d)")
"""At the beginning of the name of a class folder: more digits are no class."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images of a folder.

    Attributes:
        files: In the order in which they are used.
        labels: int64, the class of every file; None without class folders.
        notices: What a reader of the labels must know.
        class_names: Class -> the name of its folder, or what the class list calls it.
    """

    files: list[Path]
    labels: NDArray[np.int64] | None = None
    notices: tuple[Notice, ...] = ()
    class_names: Mapping[int, str] = field(default_factory=dict)


def image_files(folder: Path, classes: ClassMap | None = None) -> ImageFiles:
    """Find the image files below a folder, and labels where all of them lie in class subfolders (two or more).

    A class folder that a class list names has that class, if all are named there; one that begins with a number has
    that label, if all do; otherwise labels are the positions in sorted order. Files are taken from the classes in turn,
    so that the first N are as mixed as the whole. Hidden files and text files are passed over; anything else counts as
    an image, to be decoded or reported. Links are followed.

    Args:
        folder: The folder.
        classes: The class list of the model, where there is one.

    Returns:
        What is in it.

    Raises:
        DataError: It holds no images, a part of it cannot be read, a folder without images would shift the labels, or
            the class list knows some of the folders only.
    """
    if not folder.is_dir():
        raise DataError(f"image folder {folder} does not exist", hint="give a folder of images")
    found = sorted(_walk(folder, (), frozenset({folder.resolve()})))
    if not found:
        raise DataError(f"no images in {folder}", hint="put .png, .jpg or other image files there")
    return grouped(folder, found, classes)


def grouped(folder: Path, found: Sequence[tuple[str, ...]], classes: ClassMap | None) -> ImageFiles:
    """Images by the class folders that they lie in, see `image_files`.

    Args:
        folder: Above all of them.
        found: The parts of their paths below it, sorted.
        classes: The class list of the model, where there is one.

    Returns:
        The images, with labels where all of them lie in class folders.

    Raises:
        DataError: See `image_files`.
    """
    columns: dict[str, list[Path]] = {}
    for parts in found:
        columns.setdefault(parts[0] if len(parts) > 1 else "", []).append(Path(folder, *parts))
    files = [path for column in columns.values() for path in column]
    names = [name for name in columns if name]
    if "" in columns:
        return ImageFiles(sorted(files), notices=_beside(folder, columns))
    if len(names) == 1:
        return ImageFiles(files)  # one folder is a folder, not a class
    label_of = _class_labels(folder, names, classes)
    rows = zip_longest(*([(path, label_of[name]) for path in columns[name]] for name in names))
    mixed = [pair for row in rows for pair in row if pair is not None]
    called = {label: name if classes is None else classes.names.get(label, name) for name, label in label_of.items()}
    labels = np.array([label for _, label in mixed], np.int64)
    return ImageFiles([path for path, _ in mixed], labels, class_names=called)


def _walk(folder: Path, below: tuple[str, ...], above: frozenset[Path]) -> Iterator[tuple[str, ...]]:
    """The parts of the path of every image file. `above`: the folders that lead here, so that a link to one of them
    does not go round for ever."""
    try:
        with os.scandir(folder) as entries:
            kinds = [(entry, entry.is_dir(), entry.is_symlink(), entry.is_file()) for entry in entries]
    except OSError as error:
        at = error.filename or folder
        raise DataError(f"{at} cannot be read: {error.strerror}", hint="change its permissions or remove it") from error
    for entry, is_folder, is_link, is_file in kinds:
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        if is_folder:
            real = path.resolve()
            if real in above:
                raise DataError(f"{path} is a link to a folder that it lies in", hint="remove the link")
            yield from _walk(path, (*below, entry.name), above | {real})
        elif path.suffix.lower() not in _SIDECARS:
            if not is_file and not is_link:
                raise DataError(f"{path} is no ordinary file", hint="remove it from the data")
            yield (*below, entry.name)  # a link to nothing too: it is named when it is to be decoded


def may_be_image(path: Path) -> bool:
    """Whether `image_files` would take a file for an image, by its path below the folder."""
    return path.suffix.lower() not in _SIDECARS and not any(part.startswith(".") for part in path.parts)


def _beside(folder: Path, columns: dict[str, list[Path]]) -> tuple[Notice, ...]:
    """That classes are not read, where images lie beside what may be class folders."""
    if len(columns) < 3:
        return ()
    first, count = columns[""][0].name, len(columns[""])
    text = f"{count} images lie beside the {len(columns) - 1} folders in {folder} (first: {first})"
    return (Notice(f"{text}: the folders are not taken for classes", "labels"),)


def _class_labels(folder: Path, classes: list[str], known: ClassMap | None) -> dict[str, int]:
    """The label of every class folder.

    Raises:
        DataError: Labels are positions, and a folder without images leaves open whether it is one of them; or a class
            list has some of the names only.
    """
    if known is not None:
        return _listed_labels(folder, classes, known)
    numbers = [_NUMBER.match(name) for name in classes]
    labels = [int(n.group()) for n in numbers if n]
    if len(set(labels)) == len(classes):
        return dict(zip(classes, labels, strict=True))
    folders = (path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if empty := sorted(set(folders) - set(classes)):
        raise DataError(
            f"folder {folder / empty[0]} has no images: is it a class? The labels of those behind it depend on that",
            hint="remove it, or let the names of all class folders begin with their number",
        )
    return {name: index for index, name in enumerate(classes)}


def _listed_labels(folder: Path, classes: list[str], known: ClassMap) -> dict[str, int]:
    """The label of every class folder by the class list of the model: by its name, or else by its number."""
    found = {name: known.find(name) for name in classes}
    if all(label is None for label in found.values()):
        numbers = {name: _NUMBER.match(name) for name in classes}
        found = {name: int(n.group()) if n and int(n.group()) in known.names else None for name, n in numbers.items()}
    labels = {name: label for name, label in found.items() if label is not None}
    if len(labels) < len(classes):
        other = next(name for name in classes if name not in labels)
        raise DataError(
            f"folder {folder / other} is none of the classes of {known.source}",
            hint="name the folders as the class list does (synsets or names), or begin their names with the number",
        )
    if len(set(labels.values())) < len(classes):
        raise DataError(f"two folders of {folder} are one class of {known.source}", hint="put them together")
    return labels
