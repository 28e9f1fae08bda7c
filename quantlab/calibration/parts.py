"""One batch through the network into the observers of all tensors, in parts where its activations are large."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from quantlab.data import Batch
from quantlab.errors import DataError
from quantlab.observers import ObserverGroup
from quantlab.ort import ActivationReader
from quantlab.ort.pieces import piece_size, pieces
from quantlab.threads import thread_count


class Counting:
    """Runs batches and feeds the observers, those of different tensors in several threads.

    The network does not run meanwhile: both want all cores, and ONNX Runtime's threads, which wait for each other, lose
    more by sharing them than is won.

    Args:
        reader: The network.
        groups: The observers of every tensor, in network order.
        needed: Tensors without which the result is of no use; None for all.
        expects_nan: Whether the network itself looks for NaN and replaces it, as exports of masked attention do;
            elsewhere NaN is an error wherever it is.

    Attributes:
        groups: Of the tensors that can be counted: what has NaN, infinity or values beyond float32, and is not needed,
            is left out from there on. Masks of attention are such tensors.
        needed: As given, as a set.
        left_out: Tensor -> why.
        notices: What of the network cannot be run.
    """

    def __init__(
        self,
        reader: ActivationReader,
        groups: Mapping[str, ObserverGroup],
        needed: Collection[str] | None = None,
        expects_nan: bool = False,
    ) -> None:
        self._expects_nan = expects_nan
        self._reader, self.groups = reader, dict(groups)
        self.needed = frozenset(groups if needed is None else needed)
        self.left_out: dict[str, str] = {}
        self.notices = reader.notices
        self._pool = ThreadPoolExecutor(thread_count(), thread_name_prefix="quantlab-count")

    def part_size(self, batch: Batch) -> int | None:
        """Samples per part, by a first batch of two or more; None where the network takes no parts of a batch, samples
        depend on each other, or an observer wants whole batches."""
        if not all(group.takes_parts for group in self.groups.values()):
            return None
        return piece_size([self._reader], batch)

    def leave_out(self, tensor: str, error: DataError) -> None:
        """Count a tensor no more.

        Args:
            tensor: Its name.
            error: Why it cannot be counted.

        Raises:
            DataError: It is needed, or no other is left.
        """
        if tensor in self.needed or len(self.groups) == 1:
            raise DataError(f"tensor '{tensor}': {error.text}", hint=error.hint) from error
        del self.groups[tensor]
        self.left_out[tensor] = error.text

    def values_per_sample(self) -> int:
        """Values of one sample that go into histograms, once `part_size` has found one."""
        return sum(self.groups[tensor].has_histogram * size for tensor, size in self._reader.sizes.items())

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
            self._observe_in_parts(pieces(batch, samples, part))

    def _observe_in_parts(self, pieces: Sequence[Batch]) -> None:
        """One batch, part by part. While a tensor has seen nothing but zeros its range is to start at the amax of this
        whole batch, so the batch is run once more beforehand."""
        unknown = [name for name, group in self.groups.items() if group.starts_at_a_batch]
        if unknown:
            amax = dict.fromkeys(unknown, np.float32(0))
            for piece in pieces:
                values = self._reader.read_part(piece)
                for name in unknown:
                    largest = np.float32(np.max(np.abs(values[name]), initial=0))  # NaN is found when it is counted
                    amax[name] = max(amax[name], largest)
            for name, value in amax.items():
                if np.isfinite(value):  # NaN and infinity are found when it is counted
                    self._start(name, value)
        for piece in pieces:
            self._feed(self._reader.read_part(piece), ObserverGroup.observe_part)
        for group in self.groups.values():
            if group.has_histogram:
                group.histogram.end_batch()

    def _start(self, tensor: str, amax: np.float32) -> None:
        try:
            self.groups[tensor].histogram.start_batch(amax)
        except DataError as error:
            self.leave_out(tensor, error)

    def _feed(
        self,
        values: Mapping[str, NDArray[np.float32]],
        observe: Callable[[ObserverGroup, NDArray[np.float32]], None],
    ) -> None:
        """DataError of the first tensor, in network order, that could not be counted and is needed."""
        largest_first = sorted(self.groups, key=lambda name: -values[name].size)
        pending: dict[str, Future[None]] = {
            name: self._pool.submit(observe, self.groups[name], values[name]) for name in largest_first
        }
        for name in list(self.groups):
            try:
                pending[name].result()
            except DataError as error:
                if np.isnan(values[name]).any() and not self._expects_nan:
                    raise DataError(f"tensor '{name}': {error.text}", hint=error.hint) from error
                self.leave_out(name, error)

    def __enter__(self) -> Counting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
