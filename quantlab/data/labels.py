"""Labels from a file: CSV (file name, label), text (one per line), .npy, or one array of an .npz."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.arrays import read_arrays
from quantlab.errors import DataError
from quantlab.files import read_text

_NUMBER = re.compile(r"-?[0-9]{1,18}")


def read_labels(path: Path, key: str, names: list[str] | None) -> NDArray[np.int64]:
    """Read labels.

    Args:
        path: A CSV, text, .npy or .npz file.
        key: The array of an .npz, '' for its only one.
        names: The file names that a CSV's first column must cover, in the order wanted; None for data in arrays.

    Returns:
        int64 (N,).

    Raises:
        DataError: The file cannot be read, or has no label for one of the names.
    """
    if path.suffix.lower() in (".npy", ".npz"):
        return as_labels(pick_array(path, read_arrays(path), key), str(path))
    rows = [row for row in csv.reader(read_text(path, "labels file").splitlines()) if row]
    if rows and not _NUMBER.fullmatch(rows[0][-1].strip()):
        rows = rows[1:]  # a header line
    for row in rows:
        if not _NUMBER.fullmatch(row[-1].strip()):
            raise DataError(f"labels file {path}: {','.join(row)!r} has no class number", hint="end the line with one")
    if all(len(row) == 1 for row in rows):
        return np.array([int(row[0]) for row in rows], np.int64)
    by_name = {row[0].strip(): int(row[-1]) for row in rows}
    if len(by_name) != len(rows):
        raise DataError(f"labels file {path} names a file twice", hint="give every file one label")
    if names is None:
        raise DataError(f"labels file {path} names files, but the data are arrays", hint="give one label per line")
    wanted = [name if name in by_name else Path(name).name for name in names]
    if missing := [name for name in wanted if name not in by_name]:
        raise DataError(
            f"labels file {path} has no label for {len(missing)} of {len(names)} images (first: {missing[0]})",
            hint="the first column is the image's path below the data folder, or its file name",
        )
    return np.array([by_name[name] for name in wanted], np.int64)


def as_labels(values: NDArray[Any], source: str) -> NDArray[np.int64]:
    """Check labels.

    Args:
        values: What was given for labels.
        source: Where it comes from, for the error text.

    Returns:
        int64 (N,).

    Raises:
        DataError: They are no integers of one dimension.
    """
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise DataError(
            f"labels {source} are {values.dtype} {values.shape}, expected integers (N,)",
            hint="one class number per sample",
        )
    return values.astype(np.int64)


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
    if key in arrays:
        return arrays[key]
    if not key and len(arrays) == 1:
        return next(iter(arrays.values()))
    raise DataError(
        f"{path} has no array {key!r}" if key else f"{path} holds several arrays",
        hint=f"choose one: {', '.join(f'{path}:{name}' for name in arrays)}",
    )
