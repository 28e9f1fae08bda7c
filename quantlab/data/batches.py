"""What a stream of batches is, and the adapters for iterables and torch DataLoaders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import ConfigError, DataError, in_batch

Batch = Mapping[str, NDArray[Any]]
"""Input name -> array with batch dimension."""
Batches = Iterable[Batch]
"""Re-iterable: every `for` starts from the first batch."""
Labels = NDArray[np.int64]
"""The class of every sample, shape (N,)."""


@runtime_checkable
class LabeledBatches(Protocol):
    """A stream that knows the class of every sample."""

    def __iter__(self) -> Iterator[Batch]: ...

    def labeled(self) -> Iterator[tuple[Batch, Labels | None]]:
        """Batches with the labels (N,) of their samples, or None."""


def require_stream(batches: object) -> None:
    """ConfigError unless something can be iterated again and again: a list, or one of quantlab's streams."""
    if isinstance(batches, Iterator) or not isinstance(batches, Iterable):
        why = "which can be read only once" if isinstance(batches, Iterator) else "expected a list"
        raise ConfigError(
            f"batches are a {type(batches).__name__}, {why}",
            hint="pass a list of {input: array}, or quantlab.IterableBatches(function)",
        )


def may_have_labels(batches: object) -> bool:
    """Whether a stream has labels, as far as it says before it is read."""
    known = getattr(batches, "has_labels", None)
    if isinstance(known, bool):
        return known
    missing = object()
    labels = getattr(batches, "labels", missing)
    return isinstance(batches, LabeledBatches) if labels is missing else labels is not None


def require_batch_size(size: int) -> None:
    """ConfigError unless a batch of this size has samples."""
    if size < 1:
        raise ConfigError(f"batch size {size} is less than 1", hint="batch_size=32")


def batch_length(batch: Batch, first: str) -> int:
    """Count the samples of a batch.

    Args:
        batch: Input name -> array.
        first: The input whose first dimension counts them.

    Returns:
        The number of samples; 0 where that input is missing or has no dimension.

    Raises:
        DataError: The batch is no mapping of arrays.
    """
    if not isinstance(batch, Mapping):
        raise DataError(
            f"it is a {type(batch).__name__}, expected a mapping of input name to array",
            hint="wrap a torch DataLoader in quantlab.LoaderBatches(loader, input_names)",
        )
    try:
        shape = np.shape(batch[first]) if first in batch else ()
    except ValueError as error:
        raise DataError(
            f"input '{first}': got a ragged {type(batch[first]).__name__}, expected a numpy array",
            hint="give all samples of a batch one shape and stack them with numpy.stack",
        ) from error
    return int(shape[0]) if shape else 0


class IterableBatches:
    """Any re-iterable of `{input: array}`, or a function that returns a new iterator each time.

    Raises:
        ConfigError: `source` is an iterator, such as a generator object, which can be read only once.
    """

    def __init__(self, source: Iterable[Batch] | Callable[[], Iterable[Batch]]) -> None:
        if isinstance(source, Iterator):
            raise ConfigError(
                f"batches are a {type(source).__name__}, which can be read only once",
                hint="pass the function that makes it, or a list",
            )
        self._source = source

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._source() if callable(self._source) else self._source)


class LoaderBatches:
    """A torch DataLoader, or anything that iterates over tensors, tuples or mappings of them.

    Tensors are recognised by their `numpy` method: torch itself is not imported.

    Args:
        loader: Iterated anew for every pass.
        input_names: Which model input each element of a tuple feeds, in order. One element more than names is taken
            as the labels.

    Raises:
        ConfigError: `loader` is an iterator, which can be read only once.
    """

    def __init__(self, loader: Iterable[Any], input_names: Sequence[str]) -> None:
        if isinstance(loader, Iterator):
            raise ConfigError("loader can be read only once", hint="pass the DataLoader itself, not iter(loader)")
        self._loader = loader
        self._names = tuple(input_names)

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batch, _ in self.labeled())

    def labeled(self) -> Iterator[tuple[Batch, Labels | None]]:
        """Batches with their labels, where the loader gives any."""
        for number, element in enumerate(self._loader):
            with in_batch(number):
                split = self._split(element)
            yield split

    def _split(self, element: Any) -> tuple[Batch, Labels | None]:
        if isinstance(element, Mapping):
            if missing := [n for n in self._names if n not in element]:
                raise DataError(
                    f"it has no {', '.join(missing)}, it has {', '.join(map(str, element))}",
                    hint="name the model inputs as the loader does",
                )
            return {n: as_array(element[n], f"input '{n}'") for n in self._names}, None
        parts = list(element) if isinstance(element, (tuple, list)) else [element]
        if len(parts) not in (len(self._names), len(self._names) + 1):
            raise DataError(
                f"it has {len(parts)} elements, expected {len(self._names)} inputs and perhaps labels",
                hint=f"input names given: {', '.join(self._names)}",
            )
        batch = {n: as_array(p, f"input '{n}'") for n, p in zip(self._names, parts, strict=False)}
        if len(parts) == len(self._names):
            return batch, None
        labels = as_array(parts[-1], "the last element (labels)")
        if labels.dtype.kind not in "iub":
            raise DataError(
                f"the last element (labels) is {labels.dtype}, expected integers", hint="give the number of each class"
            )
        return batch, labels.astype(np.int64)


def as_array(value: Any, what: str) -> NDArray[Any]:
    """Turn what a loader gives into a numpy array; tensors are recognised by what they can do.

    Args:
        value: An array, a tensor, or numbers in lists of one length.
        what: What it is called in the error.

    Returns:
        The array, which may share its memory with `value`.

    Raises:
        DataError: It cannot become an array of numbers.
    """
    try:
        if hasattr(value, "detach"):  # a torch tensor, perhaps on a GPU
            value = value.detach().cpu()
        if not isinstance(value, np.ndarray) and callable(getattr(value, "numpy", None)):
            value = value.numpy()
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{what} cannot become an array: {error}", hint="convert it to numpy") from error
    if array.dtype == object:
        raise DataError(f"{what} is a {type(value).__name__}, expected an array of numbers", hint="convert it to numpy")
    return array
