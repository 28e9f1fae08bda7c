"""The batches that sensitivity is measured on: checked, hashed, labelled; a few samples of them for the estimate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.comparison.feed import no_batches, with_labels
from quantlab.comparison.task import Metric
from quantlab.data import Batch, Batches, BatchSize, Labels, check_batch
from quantlab.data.hash import hash_batch
from quantlab.errors import DataError, in_batch
from quantlab.onnx_model import input_specs

LOCAL_SAMPLES, GAIN_SAMPLES = 256, 64
"""The most samples on which an estimate looks at local errors, and at what becomes of noise; taken evenly from all."""
PIECE = 8
"""Samples of an estimate that are in memory at once with all of their activations."""


@dataclass(frozen=True)
class Judged:
    """The data, and what is asked of the outputs.

    Attributes:
        batches: The data.
        labels: int64 (N,) for all samples; None to take those of the stream, if it has any.
        metric: Of the user; None for top-1 where there are labels.
    """

    batches: Batches
    labels: Labels | None = None
    metric: Metric | None = None


@dataclass(frozen=True, slots=True)
class FedBatch:
    """One batch of a pass.

    Attributes:
        number: From 0.
        batch: Checked, and filled up for a network with a fixed batch size.
        labels: int64 (size,), or None.
        size: How many samples it had before it was filled up.
    """

    number: int
    batch: Batch
    labels: Labels | None
    size: int


class Feed:
    """The batches of one pass.

    Args:
        proto: The network.
        judged: The data.

    Attributes:
        samples: How many have gone by.
        batches: How many have gone by.
        size: The batch size of the network.

    Raises:
        DataError: While it is read: the data or the labels do not fit, or there are none.
    """

    def __init__(self, proto: onnx.ModelProto, judged: Judged) -> None:
        self._specs, self._judged = input_specs(proto), judged
        self.size = BatchSize.of(self._specs)
        self._data, self._labels = hashlib.sha256(), hashlib.sha256()
        self._labeled = self.samples = self.batches = 0

    def __iter__(self) -> Iterator[FedBatch]:
        given = self._judged.labels
        for number, (batch, labels) in enumerate(with_labels(self._judged.batches, given, self.size)):
            with in_batch(number):
                size = self.size.count(batch)
                filled = self.size.filled(batch)
                check_batch(filled, self._specs)
            hash_batch(self._data, batch)
            if labels is not None:
                self._labels.update(np.ascontiguousarray(labels).data)
                self._labeled += len(labels)
            self.samples += size
            self.batches += 1
            yield FedBatch(number, filled, labels, size)
        if not self.batches:
            raise no_batches()
        if given is not None and len(given) != self.samples:
            text = f"there are {len(given)} labels for {self.samples} samples"
            raise DataError(text, hint="one label per sample, in order")

    @property
    def data_hash(self) -> str:
        """Of the batches so far, as in a calibration table."""
        return self._data.hexdigest()

    @property
    def labels_hash(self) -> str:
        """Of the labels so far; '' without."""
        return self._labels.hexdigest() if self._labeled else ""

    def cut(self, outputs: dict[str, NDArray[Any]], fed: FedBatch) -> dict[str, NDArray[Any]]:
        """Take off what belongs to the copies that filled a batch up.

        Args:
            outputs: Of the network.
            fed: The batch.

        Returns:
            The outputs of its samples.
        """
        return {name: self.size.cut(values, fed.size) for name, values in outputs.items()}


class EvenSamples:
    """At most LOCAL_SAMPLES samples of a stream of any length, evenly spaced: every one, every other one, ..."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, Batch]] = []
        self._every, self._seen = 1, 0

    def take(self, fed: FedBatch) -> None:
        """Look at one batch."""
        for row in range(fed.size):
            if self._seen % self._every == 0:
                self._kept.append((self._seen, {name: _row(x, row) for name, x in fed.batch.items()}))
            if len(self._kept) > LOCAL_SAMPLES:
                self._every *= 2
                self._kept = [(index, sample) for index, sample in self._kept if index % self._every == 0]
            self._seen += 1

    def pieces(self, size: BatchSize, most: int = LOCAL_SAMPLES) -> list[FedBatch]:
        """Samples in batches that the network takes, those of one shape together.

        Args:
            size: The batch size of the network.
            most: So many of them at most.

        Returns:
            The batches.
        """
        found: list[FedBatch] = []
        waiting: list[Batch] = []
        for _, sample in [*self._kept[:: -(-len(self._kept) // most) or 1], (0, dict[str, NDArray[Any]]())]:
            if waiting and (len(waiting) == (size.fixed or PIECE) or _shapes(sample) != _shapes(waiting[0])):
                joined = {name: _joined([s[name] for s in waiting]) for name in waiting[0]}
                found.append(FedBatch(len(found), size.filled(joined), None, len(waiting)))
                waiting = []
            waiting.append(sample)
        return found

    def batches(self, size: BatchSize, most: int) -> list[Batch]:
        """Samples in batches for another pass.

        Args:
            size: The batch size of the network.
            most: So many samples at most.

        Returns:
            Batches; of a network that takes any size, up to four pieces each.
        """
        found: list[Batch] = []
        for piece in self.pieces(size, most):
            batch = {name: x[: piece.size] if x.ndim else x for name, x in piece.batch.items()}
            last = found[-1] if found else None
            is_open = last is not None and size.fixed is None and size.count(last) + piece.size <= 4 * PIECE
            same = last is not None and all(last[name].shape[1:] == x.shape[1:] for name, x in batch.items())
            if last is not None and is_open and same:
                found[-1] = {name: _joined([last[name], x]) for name, x in batch.items()}
            else:
                found.append(batch)
        return found


def _row(x: NDArray[Any], row: int) -> NDArray[Any]:
    return np.array(x[row : row + 1] if x.ndim else x)


def _joined(rows: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(rows) if rows[0].ndim else rows[0]


def _shapes(sample: Batch) -> dict[str, tuple[int, ...]]:
    return {name: x.shape for name, x in sample.items()}
