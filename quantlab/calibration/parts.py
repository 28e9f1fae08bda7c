"""One batch through the network into the observers of all tensors, in parts where its activations are large."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from quantlab.data import Batch
from quantlab.errors import DataError
from quantlab.observers import ObserverGroup
from quantlab.ort import ActivationReader

PART_BYTES = 40 * 2**20  # more wins 3 % of the time at most, and costs its size in memory


class Counting:
    """Runs batches and feeds the observers, those of different tensors in several threads.

    The network does not run meanwhile: both want all cores, and ONNX Runtime's threads, which wait for each other, lose
    more by sharing them than is won.

    Args:
        reader: The network.
        groups: The observers of every tensor, in network order.
    """

    def __init__(self, reader: ActivationReader, groups: Mapping[str, ObserverGroup]) -> None:
        self._reader, self._groups = reader, groups
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="quantlab-count")

    def part_size(self, batch: Batch) -> int | None:
        """Samples per part, by a first batch of two or more; None where the network takes no parts of a batch, samples
        depend on each other, or an observer wants whole batches."""
        if not all(group.takes_parts for group in self._groups.values()):
            return None
        size = self._reader.bytes_per_sample(batch)
        return None if not size else max(1, PART_BYTES // size)

    def values_per_sample(self) -> int:
        """Values of one sample that go into histograms, once `part_size` has found one."""
        return sum(self._groups[tensor].has_histogram * size for tensor, size in self._reader.sizes.items())

    def observe(self, batch: Batch, samples: int, part: int | None) -> None:
        """Run one batch and count its activations.

        Args:
            batch: Input name -> array, checked.
            samples: How many are in it.
            part: What `part_size` found.

        Raises:
            DataError: A tensor cannot be counted; it is named.
            GraphError: The network fails.
        """
        if part is None:
            self._feed(self._reader.read_one(batch), ObserverGroup.observe)
        elif samples <= part:
            self._feed(self._reader.read_part(batch), ObserverGroup.observe)
        else:
            starts = range(0, samples, part)
            self._observe_in_parts([{name: x[at : at + part] for name, x in batch.items()} for at in starts])

    def _observe_in_parts(self, pieces: Sequence[Batch]) -> None:
        """One batch, part by part. While a tensor has seen nothing but zeros its range is to start at the amax of this
        whole batch, so the batch is run once more beforehand."""
        unknown = [name for name, group in self._groups.items() if group.starts_at_a_batch]
        if unknown:
            amax = dict.fromkeys(unknown, np.float32(0))
            for piece in pieces:
                values = self._reader.read_part(piece)
                for name in unknown:
                    largest = np.float32(np.max(np.abs(values[name]), initial=0))  # NaN is found when it is counted
                    amax[name] = max(amax[name], largest)
            for name, value in amax.items():
                self._groups[name].histogram.start_batch(value)
        for piece in pieces:
            self._feed(self._reader.read_part(piece), ObserverGroup.observe_part)
        for group in self._groups.values():
            if group.has_histogram:
                group.histogram.end_batch()

    def _feed(
        self,
        values: Mapping[str, NDArray[np.float32]],
        observe: Callable[[ObserverGroup, NDArray[np.float32]], None],
    ) -> None:
        """DataError of the first tensor, in network order, that could not be counted."""
        largest_first = sorted(values, key=lambda name: -values[name].size)
        pending: dict[str, Future[None]] = {
            name: self._pool.submit(observe, self._groups[name], values[name]) for name in largest_first
        }
        for name in self._groups:
            try:
                pending[name].result()
            except DataError as error:
                raise DataError(f"tensor '{name}': {error.text}", hint=error.hint) from error

    def __enter__(self) -> Counting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
