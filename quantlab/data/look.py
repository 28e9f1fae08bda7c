"""What the eye would find in calibration data: the same sample twice, a channel that says nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.batches import Batch
from quantlab.data.hash import hash_batch

_CHANNELS = 4
"""An image has no more: gray, RGB, RGBA."""


@dataclass(frozen=True, slots=True)
class InputFacts:
    """What was found in the inputs.

    Attributes:
        samples: How many were looked at.
        copies: How many of them are equal to an earlier one in every input.
        first_copy: The places of such an earlier one and its copy, from 0; None without.
        constant: (input, channel, value) of every channel that has the same value in all samples.
    """

    samples: int = 0
    copies: int = 0
    first_copy: tuple[int, int] | None = None
    constant: tuple[tuple[str, int, float], ...] = ()

    @property
    def findings(self) -> list[str]:
        """What a user should know, a sentence each."""
        lines = []
        if self.first_copy is not None:
            lines.append(
                f"{self.copies} of {self.samples} samples are copies of earlier ones (such as samples "
                f"{self.first_copy[0]} and {self.first_copy[1]}): they count several times"
            )
        for name, channel, value in self.constant:
            lines.append(
                f"channel {channel} of input '{name}' is {value:g} in every sample: look at the preprocess and the data"
            )
        return lines


class InputLook:
    """Looks at batches one after the other; `facts` says what there was."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._ends: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        self._samples = self._copies = 0
        self._first_copy: tuple[int, int] | None = None

    def take(self, batch: Batch, size: int) -> None:
        """Look at one batch.

        Args:
            batch: Input name -> array.
            size: How many samples it has.
        """
        for row in range(size):
            digest = hashlib.sha256()
            hash_batch(digest, {name: _row(np.asarray(x), row, size) for name, x in batch.items()})
            place = self._places.setdefault(digest.digest(), self._samples)
            if place != self._samples:
                self._copies += 1
                self._first_copy = self._first_copy or (place, self._samples)
            self._samples += 1
        for name, x in batch.items():
            self._look_at_channels(name, np.asarray(x))

    def _look_at_channels(self, name: str, x: NDArray[Any]) -> None:
        axis = next((a for a in (1, x.ndim - 1) if x.ndim > 2 and x.shape[a] <= _CHANNELS), None)
        if axis is None or not x.size or x.dtype.kind not in "fu":
            return
        others = tuple(a for a in range(x.ndim) if a != axis)
        low, high = x.min(axis=others).astype(np.float64), x.max(axis=others).astype(np.float64)
        before = self._ends.get(name)
        if before is not None and before[0].shape == low.shape:
            low, high = np.minimum(low, before[0]), np.maximum(high, before[1])
        self._ends[name] = (low, high)

    @property
    def facts(self) -> InputFacts:
        """What was found so far."""
        constant = [
            (name, int(channel), float(low[channel]))
            for name, (low, high) in self._ends.items()
            for channel in np.flatnonzero(low == high)
        ]
        return InputFacts(self._samples, self._copies, self._first_copy, tuple(constant))


def _row(x: NDArray[Any], row: int, size: int) -> NDArray[Any]:
    """The part of an array that belongs to one sample; all of it where it has no batch dimension."""
    return x[row] if x.ndim and len(x) == size else x
