"""Batches from .npy and .npz files and from arrays in memory. Pickled files are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.batches import Batch, Labels, require_batch_size
from quantlab.data.hash import hash_batch
from quantlab.data.mapped_files import MappedFiles
from quantlab.data.numpy_files import is_zip, read_npy, read_npz, refused
from quantlab.data.prefetch import counted
from quantlab.errors import DataError
from quantlab.files import is_file


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name, without scalars and texts; see `read_all_arrays`."""
    return {name: array for name, array in read_all_arrays(path).items() if array.ndim}


def read_all_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name, scalars too, without texts; an .npy gives one named ''.

    Args:
        path: An .npy or .npz.

    Returns:
        Real numbers, at least one array with at least one dimension.

    Raises:
        DataError: It cannot be read, is pickled, or unpacks to too much.
    """
    if not is_file(path):
        raise DataError(f"array file {path} does not exist", hint="give an .npy or .npz file")
    with refused(f"array file {path} cannot be read", "save plain numeric arrays with numpy.save or numpy.savez"):
        with path.open("rb") as file:
            found = read_npz(file) if is_zip(file) else {"": read_npy(path)}
        if not any(array.ndim for array in found.values()):
            raise ValueError("it holds no array with at least one dimension")
        return found


class ArrayBatches:
    """Arrays cut into batches; the last one may be short.

    Args:
        arrays: Input name -> array (N, ...).
        batch_size: Samples per batch.
        labels: The class of every sample, (N,).
        axes: Inputs whose first dimension does not count the samples, see `BatchSize`.
        class_names: Class -> its name, where known.

    Attributes:
        count: Number of samples.
        batch_size: As given.
        labels: As given.
        class_names: As given.

    Raises:
        DataError: The arrays or labels are not of the same number of samples, or there are none.
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        *,
        batch_size: int = 32,
        labels: NDArray[np.int64] | None = None,
        axes: Mapping[str, int | None] | None = None,
        class_names: Mapping[int, str] | None = None,
    ) -> None:
        require_batch_size(batch_size)
        self._axes = {name: axes.get(name, 0) if axes else 0 for name in arrays}
        lengths = {
            name: array.shape[axis] if array.ndim > axis else 0
            for name, array in arrays.items()
            if (axis := self._axes[name]) is not None
        }
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise DataError(
                f"arrays have {lengths} samples",
                hint="every input needs the same number of samples, > 0; one of fixed size in the model is fed whole",
            )
        self.count = next(iter(lengths.values()))
        if labels is not None and labels.shape != (self.count,):
            raise DataError(
                f"labels have shape {labels.shape}, expected ({self.count},)", hint="one label per sample, in order"
            )
        self.batch_size = batch_size
        self.class_names: Mapping[int, str] = class_names or {}
        self._arrays, self.labels = dict(arrays), labels
        self._order: NDArray[np.intp] | None = None
        self._identities: list[bytes] | None = None
        self._mapped = MappedFiles(arrays.values())

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batch, _ in self.labeled())

    def labeled(self) -> Iterator[tuple[Batch, Labels | None]]:
        """Batches with their labels, if there are any."""
        for start in range(0, self.count, self.batch_size):
            rows = self._places(start, start + self.batch_size)
            yield self._batch(rows), None if self.labels is None else self.labels[start : start + self.batch_size]

    def _batch(self, rows: slice | NDArray[np.intp]) -> Batch:
        self._mapped.check()
        batch = {name: self._rows(name, array, rows) for name, array in self._arrays.items()}
        self._mapped.check()
        return batch

    def _places(self, start: int, end: int) -> slice | NDArray[np.intp]:
        """Where some samples stand in the arrays, which may be mapped files and are never reordered."""
        return slice(start, end) if self._order is None else self._order[start:end]

    def identities(self, on_sample: Callable[[int], None] | None = None) -> list[bytes]:
        """What tells equal samples from others: the hash of each over all inputs.

        Args:
            on_sample: Called with the number of samples so far; not at all where they are known already.

        Returns:
            One per sample. Later calls, and those of subsets, give the same without a look at the arrays.
        """
        if self._identities is None:
            self._identities = counted(map(self._identity, range(self.count)), on_sample)
        return list(self._identities)

    def _identity(self, index: int) -> bytes:
        digest = hashlib.sha256()
        hash_batch(digest, self._batch(self._places(index, index + 1)))
        return digest.digest()

    def subset(self, indices: NDArray[np.intp]) -> ArrayBatches:
        """The same stream of some of the samples.

        Args:
            indices: Which, in order.

        Returns:
            A stream of its own over the same arrays.
        """
        part = copy(self)
        part._order = indices if self._order is None else self._order[indices]
        part._identities = None if self._identities is None else [self._identities[i] for i in indices]
        part.count = len(indices)
        part.labels = None if self.labels is None else self.labels[indices]
        return part

    def _rows(self, name: str, array: NDArray[Any], rows: slice | NDArray[np.intp]) -> NDArray[Any]:
        """What an input is fed for some samples."""
        axis = self._axes[name]
        # a scalar stays one: ascontiguousarray would give it a dimension
        part = array if axis is None else array[(slice(None),) * axis + (rows,)]
        return np.ascontiguousarray(part) if part.ndim else np.asarray(part)
