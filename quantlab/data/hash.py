"""What names a stream of batches: one hash, the same wherever the stream is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from quantlab.data.batches import Batch, Labels
from quantlab.data.whole import BatchSize


class Digest(Protocol):
    """A hashlib object."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add some bytes."""


def hash_batch(digest: Digest, batch: Batch) -> None:
    """Add name, dtype, shape and values of every input, by name.

    Args:
        digest: What they are added to.
        batch: Input name -> array.
    """
    for name in sorted(batch):
        x = np.ascontiguousarray(batch[name])
        digest.update(f"{name}:{x.dtype}:{x.shape}".encode())
        if x.size:
            digest.update(x.data)


class SamplesHash:
    """Names samples and their labels, however they are cut into batches.

    Args:
        names: The inputs that count.
        size: Says which dimension of an input counts the samples.
    """

    def __init__(self, names: Iterable[str], size: BatchSize) -> None:
        self._names, self._size = sorted(names), size
        self._inputs = {name: hashlib.sha256() for name in self._names}
        self._shapes: dict[str, str] = {}
        self._labels, self._labeled = hashlib.sha256(), False

    def add(self, batch: Batch, labels: Labels | None) -> None:
        """Add the samples of a batch.

        Args:
            batch: Input name -> array.
            labels: int64 (N,), or None.
        """
        for name in self._names:
            x, axis = np.asarray(batch[name]), self._size.axes.get(name, 0)
            whole = axis is None or not x.ndim
            x = np.ascontiguousarray(x if whole else np.moveaxis(x, axis or 0, 0))
            # of an input that is fed whole, the same for all samples, every other content counts once
            shape = f"{x.dtype}:{hashlib.sha256(x.tobytes()).hexdigest()}" if whole else f"{x.dtype}:{x.shape[1:]}"
            if self._shapes.get(name) != shape:
                self._shapes[name] = shape
                self._inputs[name].update(f"{name}:{shape}".encode())
            if x.size and not whole:
                self._inputs[name].update(x.data)
        if labels is not None:
            self._labels.update(np.ascontiguousarray(labels, np.int64).data if labels.size else b"")
            self._labeled = True

    def data(self) -> str:
        """The hash of the samples so far."""
        return hashlib.sha256(b"".join(self._inputs[name].digest() for name in self._names)).hexdigest()

    def labels(self) -> str | None:
        """The hash of their labels; None without."""
        return self._labels.hexdigest() if self._labeled else None
