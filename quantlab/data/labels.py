"""Labels from a file: CSV, TSV or text (file name, label), text (one per line), .npy, or one array of an .npz."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.arrays import read_arrays
from quantlab.data.class_map import ClassMap
from quantlab.data.file_names import FileNames, is_same_end, plain_name
from quantlab.data.label_file import LabelLine, read_label_lines
from quantlab.errors import DataError
from quantlab.files import read_text


@dataclass(frozen=True, slots=True)
class Samples:
    """What is labelled.

    Attributes:
        count: How many there are in all.
        used: The first so many are used.
        names: Of all files in order; None for data in arrays.
        classes: Which class a name is, or None.
    """

    count: int
    used: int
    names: Sequence[str] | None = None
    classes: ClassMap | None = None


def read_labels(path: Path, key: str, samples: Samples) -> NDArray[np.int64]:
    """Read the labels of the samples that are used.

    Args:
        path: A CSV, text, .npy or .npz file.
        key: The array of an .npz, '' for its only one.
        samples: What is labelled; the first column of a CSV must cover the names of those that are used.

    Returns:
        int64 (used,).

    Raises:
        DataError: The file cannot be read, has no label for one of the samples, or leaves open which is whose.
    """
    if path.suffix.lower() in (".npy", ".npz"):
        return _in_order(as_labels(pick_array(path, read_arrays(path), key), str(path)), path, samples)
    lines = read_label_lines(read_text(path, "labels file"), path, samples.classes, samples.names or ())
    if not lines[0].file or (samples.names is None and _are_counted(lines)):
        return _in_order(np.array([line.label for line in lines], np.int64), path, samples)
    if samples.names is None:
        raise DataError(f"labels file {path} names files, but the data are arrays", hint="give one label per line")
    return _by_name(lines, path, samples.names, samples.used)


def _are_counted(lines: Sequence[LabelLine]) -> bool:
    """Whether the first column counts the samples, from 0 or 1."""
    column = [line.file for line in lines]
    return any(column == [str(number + first) for number in range(len(lines))] for first in (0, 1))


def _in_order(labels: NDArray[np.int64], path: Path, samples: Samples) -> NDArray[np.int64]:
    """Labels without names, where it is beyond doubt which belongs to which sample."""
    if len(labels) != samples.count:
        what = "samples" if samples.names is None else "images"
        raise DataError(
            f"labels file {path}: there are {len(labels)} labels for {samples.count} {what}",
            hint="one label per sample of all the data, in order; a limit cuts both",
        )
    why = _doubt(samples.names) if samples.names is not None else None
    if why is not None:
        raise DataError(
            f"labels file {path} has labels without file names, and the order of the images is not certain: {why}",
            hint="give a CSV: file,label",
        )
    return labels[: samples.used]


def _doubt(names: Sequence[str]) -> str | None:
    """Why nobody can be sure in which order files come, or None."""
    if any("/" in name for name in names):
        return "they lie in several folders"
    plain = sorted(names)
    if counted := next(
        (pair for pair in zip(plain, sorted(names, key=_counted), strict=True) if pair[0] != pair[1]), None
    ):
        return f"by name '{counted[0]}' comes before '{counted[1]}', by number or without regard to case after it"
    return None


def _counted(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """A key for the order in which a person counts: img2 before img10, a before B."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part], name


def _by_name(lines: Sequence[LabelLine], path: Path, names: Sequence[str], used: int) -> NDArray[np.int64]:
    """Labels by the path of a file below the folder, or by as much of it as is beyond doubt."""
    by_name: dict[str, LabelLine] = {}
    by_last: dict[str, list[LabelLine]] = {}
    for line in lines:
        file = plain_name(line.file)
        if (other := by_name.setdefault(file, line)) is not line:
            raise DataError(
                f"labels file {path} names a file twice: '{line.file}' in lines {other.number} and {line.number}",
                hint="give every file one label",
            )
        by_last.setdefault(file.rsplit("/", 1)[-1], []).append(line)
    known = FileNames(names)
    chosen = names[:used]
    plain = {name: plain_name(name) for name in chosen}
    found = {name: [by_name[file]] if file in by_name else _like(file, by_last) for name, file in plain.items()}
    if missing := [name for name in chosen if not found[name]]:
        raise DataError(
            f"labels file {path} has no label for {len(missing)} of {used} images (first: {missing[0]})",
            hint="the first column is the image's path below the data folder, or its file name",
        )
    for name in chosen:
        file = found[name][0].file
        meant = known.like(file)
        if len(found[name]) > 1 or (len(meant) > 1 and plain_name(file) != plain[name]):
            count = max(len(meant), len(found[name]))
            raise DataError(
                f"labels file {path}: '{file}' is the name of {count} images (such as {name})",
                hint="give their paths below the data folder",
            )
    return np.array([found[name][0].label for name in chosen], np.int64)


def _like(name: str, by_last: Mapping[str, Sequence[LabelLine]]) -> list[LabelLine]:
    """The lines that can mean a file: those that name it with its suffix come first."""
    path = PurePosixPath(name)
    for last in (path.name, path.stem):
        if found := [line for line in by_last.get(last, ()) if is_same_end(plain_name(line.file), name)]:
            return found
    return []


def as_labels(values: NDArray[Any], source: str) -> NDArray[np.int64]:
    """Check labels.

    Args:
        values: What was given for labels.
        source: Where it comes from, for the error text.

    Returns:
        int64 (N,).

    Raises:
        DataError: They are no integers of one dimension, or beyond int64.
    """
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise DataError(
            f"labels {source} are {values.dtype} {values.shape}, expected integers (N,)",
            hint="one class number per sample",
        )
    labels = values.astype(np.int64)
    if values.dtype.kind == "u" and (labels < 0).any():
        raise DataError(f"labels {source} reach {values.max()}, which is no class", hint="one class number per sample")
    return labels


def pick_array(path: Path, arrays: dict[str, NDArray[Any]], key: str) -> NDArray[Any]:
    """Pick an array of a file.

    Args:
        path: The file, for the error text.
        arrays: What is in it, by name.
        key: The name of one, '' for the only one.

    Returns:
        The array.

    Raises:
        DataError: There is no such array, or there are several and no key.
    """
    arrays = {name: array for name, array in arrays.items() if array.ndim}
    if key in arrays:
        return arrays[key]
    if not key and len(arrays) == 1:
        return next(iter(arrays.values()))
    raise DataError(
        f"{path} has no array {key!r}" if key else f"{path} holds several arrays",
        hint=f"choose one: {', '.join(f'{path}:{name}' for name in arrays)}",
    )
