"""What every backend is fed: batches with the labels of their samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from quantlab.data import Batch, Batches, BatchSize, LabeledBatches, Labels
from quantlab.data.batches import require_stream
from quantlab.data.labels import as_labels
from quantlab.errors import DataError, in_batch

LabeledBatch = tuple[Batch, Labels | None]


def first_batch(batches: Batches) -> Batch:
    """The first batch of a stream; DataError if it is empty."""
    batch = next(iter(batches), None)
    if batch is None:
        raise no_batches()
    return batch


def no_batches() -> DataError:
    """The error of an empty stream."""
    return DataError("there are no batches to compare on", hint="the stream is empty: check the data")


def with_labels(batches: Batches, labels: NDArray[np.int64] | None, size: BatchSize) -> Iterator[LabeledBatch]:
    """Pair every batch with the labels of its samples.

    Args:
        batches: The stream.
        labels: int64 (N,) for all samples in order; None to take those of the stream itself, if it has any.
        size: Counts the samples of a batch.

    Yields:
        (batch, int64 (samples,) or None).

    Raises:
        DataError: There are fewer labels than samples, or they are no class numbers.
    """
    require_stream(batches)
    return _from_stream(batches, size) if labels is None else _from_array(batches, labels, size)


def _from_stream(batches: Batches, size: BatchSize) -> Iterator[LabeledBatch]:
    stream = batches.labeled() if isinstance(batches, LabeledBatches) else ((batch, None) for batch in batches)
    for number, (batch, given) in enumerate(stream):
        with in_batch(number):
            samples = size.count(batch)
            if given is not None and np.shape(given) != (samples,):
                raise DataError(
                    f"its labels have shape {np.shape(given)}, expected ({samples},)",
                    hint="one class number per sample",
                )
            labels = None if given is None else as_labels(np.asarray(given), "of the stream")
        yield batch, labels


def _from_array(batches: Batches, given: NDArray[np.int64], size: BatchSize) -> Iterator[LabeledBatch]:
    labels, start = as_labels(np.asarray(given), "given"), 0
    for number, batch in enumerate(batches):
        with in_batch(number):
            end = start + size.count(batch)
        if end > len(labels):
            raise DataError(
                f"labels end at sample {len(labels)}, the data go on", hint="one label per sample, in order"
            )
        yield batch, labels[start:end]
        start = end


def check_range(labels: NDArray[np.int64], classes: int) -> None:
    """Refuse labels that are no classes of the model.

    Args:
        labels: int64 (N,).
        classes: How many the model has.

    Raises:
        DataError: A label is negative or too large.
    """
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise DataError(
            f"it has label {int(wrong[0])}, the model has classes 0 to {classes - 1}",
            hint="are these labels of this model's data set?",
        )
