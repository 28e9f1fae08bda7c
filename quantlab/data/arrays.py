"""Batches from .npy and .npz files and from arrays in memory. Pickled files are refused."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.batches import Batch, Labels, require_batch_size
from quantlab.errors import DataError

_BROKEN = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, tokenize.TokenError, NotImplementedError)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name, without scalars; an .npy gives one named ''. DataError if unreadable or pickled."""
    if not path.is_file():
        raise DataError(f"array file {path} does not exist", hint="give an .npy or .npz file")
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            if is_zip:
                with np.load(file, allow_pickle=False) as loaded:
                    arrays = {name: loaded[name] for name in loaded.files}
            else:
                arrays = {"": np.load(path, mmap_mode="r", allow_pickle=False)}
        if scalars := [name for name, array in arrays.items() if array.ndim == 0]:
            arrays = {name: array for name, array in arrays.items() if name not in scalars}
        if not arrays:
            raise ValueError("it holds no array with at least one dimension")
        return arrays
    except (*_BROKEN, KeyError) as error:
        pickled = "allow_pickle" in str(error) or "Python objects" in str(error)
        what = "holds pickled objects, which can run code when loaded" if pickled else f"cannot be read: {error}"
        raise DataError(
            f"array file {path} {what}", hint="save plain numeric arrays with numpy.save or numpy.savez"
        ) from error


class ArrayBatches:
    """Arrays cut into batches; the last one may be short.

    Args:
        arrays: Input name -> array (N, ...).
        batch_size: Samples per batch.
        labels: The class of every sample, (N,).

    Attributes:
        count: Number of samples.
        batch_size: As given.

    Raises:
        DataError: The arrays or labels are not of the same number of samples, or there are none.
    """

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], *, batch_size: int = 32, labels: NDArray[np.int64] | None = None
    ) -> None:
        require_batch_size(batch_size)
        lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise DataError(f"arrays have {lengths} samples", hint="every input needs the same number of samples, > 0")
        self.count = next(iter(lengths.values()))
        if labels is not None and labels.shape != (self.count,):
            raise DataError(
                f"labels have shape {labels.shape}, expected ({self.count},)", hint="one label per sample, in order"
            )
        self.batch_size = batch_size
        self._arrays, self._labels = dict(arrays), labels

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batch, _ in self.labeled())

    def labeled(self) -> Iterator[tuple[Batch, Labels | None]]:
        """Batches with their labels, if there are any."""
        for start in range(0, self.count, self.batch_size):
            rows = slice(start, start + self.batch_size)
            batch = {name: np.ascontiguousarray(array[rows]) for name, array in self._arrays.items()}
            yield batch, None if self._labels is None else self._labels[rows]
