"""What activations are like, channel by channel: sums over one pass of the data, in pieces that fit the memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import Progress
from quantlab.data import Batches, BatchSize
from quantlab.errors import DataError, in_batch
from quantlab.onnx_model import input_specs
from quantlab.ort import ActivationReader
from quantlab.ort.pieces import piece_size, pieces

Key = tuple[str, tuple[int, ...]]
"""A tensor, and the axes of its channels."""
_COPIES = 4
"""Of a tensor, that are made to sum it up."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the values of every channel of a tensor, float64 in the shape of the channels.

    Attributes:
        reach: Their largest magnitude.
        second: The same without the sample that has it.
        energy: The sum of squares in that sample, over the number of all values.
        variance: About their mean.
        active: The share of them that is not 0: those that quantization changes.
    """

    reach: NDArray[np.float64]
    second: NDArray[np.float64]
    energy: NDArray[np.float64]
    variance: NDArray[np.float64]
    active: NDArray[np.float64]


class _Sums:
    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes
        self.count = 0
        self.first: NDArray[np.float64] | float = 0.0
        self.second: NDArray[np.float64] | float = 0.0
        self.energy: NDArray[np.float64] | float = 0.0
        self.total: NDArray[np.float64] | float = 0.0
        self.squares: NDArray[np.float64] | float = 0.0
        self.active: NDArray[np.float64] | float = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Values of some samples more."""
        others = tuple(a for a in range(1, values.ndim) if a not in self.axes)
        largest = np.abs(values).max(others, initial=0).astype(np.float64)
        squares = np.square(values).sum(others, dtype=np.float64)
        for reach, energy in zip(largest, squares, strict=True):  # one sample after the other: they are ranked
            is_first = reach > self.first
            self.second = np.where(is_first, self.first, np.maximum(self.second, reach))
            self.energy = np.where(is_first, energy, self.energy)
            self.first = np.maximum(self.first, reach)
        self.squares = self.squares + squares.sum(0)
        self.total = self.total + values.sum((0, *others), dtype=np.float64)
        self.active = self.active + np.count_nonzero(values, (0, *others))
        self.count += int(np.prod([values.shape[a] for a in (0, *others)]))

    def moments(self) -> Moments:
        """Channels with values that are not finite have none: nothing can be said about them."""
        count = max(self.count, 1)
        first, second, energy, total, squares, active = (
            np.asarray(v, np.float64)
            for v in (self.first, self.second, self.energy, self.total, self.squares, self.active)
        )
        with np.errstate(over="ignore", invalid="ignore"):
            variance = np.maximum(squares / count - (total / count) ** 2, 0)
        known = np.isfinite(variance) & np.isfinite(first)
        found = (first, second, energy / count, variance, active / count)
        return Moments(*(np.where(known, v, 0.0) for v in found))


def measure(
    proto: onnx.ModelProto, wanted: Iterable[Key], batches: Batches, on_batch: Progress | None = None
) -> Mapping[Key, Moments]:
    """Run the data through a network once.

    Args:
        proto: The network.
        wanted: The tensors, with the axes of their channels; the first axis is none.
        batches: The data.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        The moments of every one.

    Raises:
        DataError: There are no batches.
    """
    sums = {key: _Sums(key[1]) for key in wanted}
    reader = ActivationReader(proto, [tensor for tensor, _ in sums], optimize=False)
    size, piece, samples = BatchSize.of(input_specs(proto)), None, 0
    for number, batch in enumerate(size.whole(batches)):
        with in_batch(number):
            count = size.count(batch)
            if number == 0 and count > 1:
                piece = piece_size([reader], batch, _COPIES)
            for part in pieces(batch, count, piece):
                values = reader.read_one(part)
                with np.errstate(over="ignore", invalid="ignore"):
                    for (tensor, _), one in sums.items():
                        one.add(values[tensor])
        samples += count
        if on_batch:
            on_batch(samples)
    if not samples:
        raise DataError("there are no batches to equalize channels with", hint="the stream is empty: check the data")
    return {key: one.moments() for key, one in sums.items()}
