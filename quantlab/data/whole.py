"""Batches of one size: the only place that decides what becomes of a short last batch.

A network with a fixed batch size takes no other, and TensorRT calibrates with batches of one size. Where numbers are
summed up over calibration data a short last batch is left out, with a notice: padding it would count samples twice.
Where every sample has to have its output it is filled up with copies of its last sample, and their outputs are cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.batches import Batch, Batches, batch_length, require_stream
from quantlab.data.facts import DerivedBatches
from quantlab.errors import DataError, GraphError, Notice, in_batch
from quantlab.onnx_model import TensorSpec


@dataclass(frozen=True, slots=True)
class BatchSize:
    """How many samples a network takes at once.

    Attributes:
        first: The input whose first dimension counts the samples.
        fixed: The batch size the network was exported with; None if it takes any (or has no batch dimension).
        axes: Inputs whose first dimension does not count the samples -> the one that does, None where none does: a
            state, a scalar, a weight that is fed. They are fed whole, the same for every batch.
    """

    first: str
    fixed: int | None
    axes: Mapping[str, int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Sequence[TensorSpec]) -> BatchSize:
        """The batch size of a network with these inputs; GraphError if there are none."""
        if not inputs:
            raise GraphError("the model has no inputs, so no data can be fed to it", hint="is this the right model?")
        arrays = [spec for spec in inputs if spec.shape]
        dynamic = [spec for spec in arrays if not isinstance(spec.shape[0], int)]
        lead = next(iter(dynamic or arrays or inputs))
        size = lead.shape[0] if lead.shape else None
        axes = {spec.name: _batch_axis(spec, size) for spec in inputs}
        fixed = size if isinstance(size, int) else None
        return cls(lead.name, fixed, {name: axis for name, axis in axes.items() if axis != 0})

    def count(self, batch: Batch) -> int:
        """The samples of a batch; DataError if it is no mapping of arrays."""
        return batch_length(batch, self.first)

    def takes(self, batch: Batch) -> bool:
        """Whether the network takes a batch of this many samples as it is."""
        return self.fixed is None or self.count(batch) == self.fixed

    def whole(self, batches: Batches) -> Batches:
        """The batches that the network takes: a short last one is left out, see `WholeBatches`."""
        require_stream(batches)
        return batches if self.fixed is None else WholeBatches(batches, self.count, self.fixed)

    def filled(self, batch: Batch) -> Batch:
        """The batch itself, or a short one filled up with copies of its last sample; `cut` takes their outputs off."""
        missing = 0 if self.fixed is None else self.fixed - self.count(batch)
        if missing <= 0 or missing == self.fixed:  # an empty batch is for the checks to refuse
            return batch
        return {name: _extended(x, missing, self.axes.get(name, 0)) for name, x in batch.items()}

    def cut(self, output: NDArray[Any], samples: int) -> NDArray[Any]:
        """Take off what belongs to the copies of `filled`.

        Args:
            output: An output of the network for a filled batch.
            samples: How many samples were in the batch before it was filled.

        Returns:
            The first `samples` rows; an output without batch dimension stays whole.
        """
        return output[:samples] if output.ndim and output.shape[0] == self.fixed else output


def _batch_axis(spec: TensorSpec, size: int | str | None) -> int | None:
    """The axis of an input that counts the samples, where the network takes so many at once."""
    if not spec.shape:
        return None
    if spec.shape[0] == size or not isinstance(spec.shape[0], int):
        return 0  # exporters name the batch of every input differently
    return spec.shape.index(size) if isinstance(size, str) and size in spec.shape else None


def _extended(x: NDArray[Any], missing: int, axis: int | None) -> NDArray[Any]:
    if not isinstance(x, np.ndarray) or x.ndim == 0 or axis is None:  # no array is for the checks
        return x
    return np.concatenate([x, np.repeat(np.take(x, [-1], axis), missing, axis)], axis)


class WholeBatches(DerivedBatches):
    """The batches of a stream, without a last one that is shorter than the others.

    Args:
        source: The stream.
        count: The number of samples of a batch.
        size: How many every batch has to have; None: as many as the first.

    Attributes:
        left_out: The samples that the last pass left out at the end.

    Raises:
        DataError: While it is read: a short batch that is not the last, or a first one that is short.
    """

    def __init__(self, source: Batches, count: Callable[[Batch], int], size: int | None = None) -> None:
        super().__init__(source)
        self._count, self._size = count, size
        self.left_out = 0
        self._wanted = size

    def __iter__(self) -> Iterator[Batch]:
        self.left_out, self._wanted = 0, self._size
        for number, batch in enumerate(self.source):
            if self.left_out:
                self._refuse(number - 1, self.left_out, "make batches of one size; only the last may be shorter")
            with in_batch(number):
                samples = self._count(batch)
            if self._wanted is None:
                self._wanted = samples
            if number == 0 and 0 < samples < self._wanted:
                self._refuse(0, samples, f"give at least {self._wanted} samples, or export the model for another batch")
            if 0 < samples < self._wanted:
                self.left_out = samples
                continue
            if self._size is None and samples > self._wanted:
                self._refuse(number, samples, "make batches of one size")
            yield batch

    def _refuse(self, number: int, samples: int, hint: str) -> None:
        other = "the ones before" if self._size is None else "the network takes"
        raise DataError(f"it has {samples} samples, {other} {self._wanted}", hint=hint, batch=number)

    def notices(self) -> tuple[Notice, ...]:
        """What the last pass left out, as a reader of its numbers must know it."""
        if not self.left_out:
            return ()
        text = f"the last {self.left_out} samples do not fill a batch of {self._wanted} and were left out"
        return (Notice(text, "short_batch"),)


def notices_of(batches: Batches) -> tuple[Notice, ...]:
    """What the last pass over a stream of `BatchSize.whole` left out."""
    return batches.notices() if isinstance(batches, WholeBatches) else ()
