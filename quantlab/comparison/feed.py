"""What every backend is fed: batches with the labels of their samples, filled up where a model wants a fixed batch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.batches import Batch, Batches, LabeledBatches, batch_length
from quantlab.data.labels import as_labels
from quantlab.errors import DataError


def with_labels(
    batches: Batches, labels: NDArray[np.int64] | None, first: str
) -> Iterator[tuple[Batch, NDArray[np.int64] | None]]:
    """Every batch with the labels of its samples, int64 (N,), from the stream itself or from `labels`."""
    if labels is None:
        own = batches.labeled() if isinstance(batches, LabeledBatches) else ((batch, None) for batch in batches)
        for number, (batch, rows) in enumerate(own):
            size = batch_length(batch, first, number)
            if rows is not None and np.shape(rows) != (size,):
                raise DataError(
                    f"batch {number} has labels of shape {np.shape(rows)}, expected ({size},)",
                    hint="one class number per sample",
                )
            yield batch, None if rows is None else as_labels(np.asarray(rows), f"batch {number}")
        return
    labels = as_labels(np.asarray(labels), "given")
    start = 0
    for number, batch in enumerate(batches):
        end = start + batch_length(batch, first, number)
        if end > len(labels):
            raise DataError(
                f"labels end at sample {len(labels)}, the data go on", hint="one label per sample, in order"
            )
        yield batch, labels[start:end]
        start = end


def padded(batch: Batch, size: int, fixed: int | None) -> Batch:
    """A short batch filled up with copies of its last sample for a fixed-batch model; the copies' outputs are cut."""
    if fixed is None or not 0 < size < fixed:
        return batch
    return {name: np.concatenate([x, np.repeat(x[-1:], fixed - size, axis=0)]) for name, x in batch.items()}


def cut(output: NDArray[Any], size: int, fixed: int | None) -> NDArray[Any]:
    """The rows of the real samples of a padded batch; an output without batch dimension stays whole."""
    return output[:size] if output.ndim and output.shape[0] == fixed else output


def check_range(labels: NDArray[np.int64], classes: int, number: int) -> None:
    """DataError for a label that is no class of the model."""
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise DataError(
            f"batch {number} has label {int(wrong[0])}, the model has classes 0 to {classes - 1}",
            hint="are these labels of this model's data set?",
        )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block is done, a second one does not. Only the main thread gets any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []

    def once(number: int, _: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = signal.signal(signal.SIGINT, once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    if caught:
        raise KeyboardInterrupt
