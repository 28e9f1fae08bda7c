"""Calibration without TensorRT: batches through ONNX Runtime, activations into observers, one batch at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import TracebackType

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration.table import CalibrationTable, Provenance
from quantlab.data import Batch, Batches, BatchSize, check_batch, notices_of, stream_facts
from quantlab.data.hash import hash_batch
from quantlab.errors import DataError, Notice, in_batch
from quantlab.observers import Histogram, Observer, ObserverGroup
from quantlab.observers.binning import expect
from quantlab.onnx_model import TensorSpec, input_specs
from quantlab.ort import ActivationReader
from quantlab.ort.session import VERSION as ORT_VERSION

Progress = Callable[[int], None]
"""Called after every batch with the number of samples so far."""


SATURATED = 0.01
"""Share of a tensor's values above its amax from which a table warns: ten times what percentile-99.9 gives up."""


@dataclass(frozen=True, slots=True)
class CalibrationTarget:
    """What is calibrated.

    Attributes:
        network: The FP32 network with its constants computed.
        tensors: Names, in the order wanted; None for every floating point tensor, in network order.
        model_hash: Names the model that the network was made from.
    """

    network: onnx.ModelProto
    tensors: tuple[str, ...] | None = None
    model_hash: str = ""


@dataclass(frozen=True, slots=True)
class CalibrationRun:
    """One pass over the data.

    Attributes:
        tables: One per observer, by name.
        histograms: Per tensor, for reports and for merging.
        provenance: Of the pass, without an algorithm.
        warnings: About the data, whatever the algorithm.
    """

    tables: Mapping[str, CalibrationTable]
    histograms: Mapping[str, Histogram]
    provenance: Provenance = field(default_factory=Provenance)
    warnings: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a pass goes.

    Attributes:
        keep_histograms: Fill them even where min-max is all that is wanted.
        order_independent: Histograms that depend on the values alone, not on batches and their order; they are not
            TensorRT's to the last bin.
        after_batch: Called with the number of samples so far and the observers of every tensor.
    """

    keep_histograms: bool = True
    order_independent: bool = False
    after_batch: Callable[[int, Mapping[str, ObserverGroup]], None] | None = None


def run_calibration(
    target: CalibrationTarget,
    batches: Batches,
    observers: Mapping[str, Observer],
    options: RunOptions | None = None,
    on_batch: Progress | None = None,
) -> CalibrationRun:
    """Every observer's table from one forward pass.

    A batch goes through the network in parts of at most PART_BYTES of activations, where shapes and observers allow it,
    with the result of the whole batch; one part is in memory, whatever the number of batches.

    Args:
        target: The network and its tensors.
        batches: Re-iterable. A last batch too short for a network with a fixed batch size is left out, with a notice.
        observers: Name -> prototype; every tensor gets a fresh copy.
        options: How the pass goes.
        on_batch: Called after every batch.

    Returns:
        The tables and what is known of the pass.

    Raises:
        DataError: The data do not fit or are not finite, with batch and tensor; or there are none.
        GraphError: The network cannot be run.
    """
    options = options or RunOptions()
    proto = target.network
    reader = ActivationReader(proto, target.tensors)
    groups = {
        name: ObserverGroup(observers, options.keep_histograms, options.order_independent) for name in reader.tensors
    }
    feed, part = _Feed(input_specs(proto), batches), None
    with _Counting(groups) as counting:
        for number, batch in enumerate(feed):
            with in_batch(number):
                if number == 0:
                    part = _part_size(feed, reader, groups, batch)
                    if part is not None and (count := feed.expected_samples()):
                        expect(count * sum(groups[t].has_histogram * n for t, n in reader.sizes.items()))
                if part is None or feed.last_size <= part:
                    read = reader.read_one if part is None else reader.read_part
                    counting.observe(read(batch))
                else:
                    _observe_in_parts(counting, reader, batch, _rows(feed.last_size, part))
            if options.after_batch:
                options.after_batch(feed.samples, groups)
            if on_batch:
                on_batch(feed.samples)
    if feed.samples == 0:
        raise DataError("there are no calibration batches", hint="the stream is empty: check the data")
    return _finished(target, feed, groups, list(observers), options)


def _finished(
    target: CalibrationTarget,
    feed: _Feed,
    groups: Mapping[str, ObserverGroup],
    algorithms: Sequence[str],
    options: RunOptions,
) -> CalibrationRun:
    """The tables of all observers, with what their readers must know."""
    amax = {name: _amax_of(name, group) for name, group in groups.items()}
    jumped = [
        Notice(
            f"the range of tensor '{name}' grew a million times within one batch: TensorRT's scale for such data is "
            "another",
            "jumped",
            name,
        )
        for name, group in groups.items()
        if group.histogram.jumped
    ]
    warnings = (*feed.notices(), *jumped)
    provenance = replace(feed.provenance(), model_hash=target.model_hash)
    if options.order_independent:
        provenance = replace(provenance, source=f"{provenance.source}, order-independent")
    histograms = {name: group.histogram for name, group in groups.items() if group.has_histogram}
    zero = tuple(all_zero_notice(name) for name, group in groups.items() if _is_zero(group, amax[name]))
    tables = {}
    for key in algorithms:
        kept = {name: amax[name][key] for name in groups}
        saturated = saturation_notices(key, kept, histograms)
        tables[key] = CalibrationTable(kept, replace(provenance, algorithm=key), (*warnings, *zero, *saturated))
    return CalibrationRun(tables, histograms, provenance, warnings)


def _amax_of(tensor: str, group: ObserverGroup) -> dict[str, np.float32]:
    try:
        return group.compute_amax()
    except DataError as error:
        raise DataError(f"tensor '{tensor}': {error.text}", hint=error.hint) from error


def _is_zero(group: ObserverGroup, amax: Mapping[str, np.float32]) -> bool:
    """Whether a tensor has had no value but zero."""
    return bool(group.histogram.range == 0) if group.has_histogram else not any(amax.values())


PART_BYTES = 40 * 2**20  # more wins 3 % of the time at most, and costs its size in memory


def _part_size(feed: _Feed, reader: ActivationReader, groups: Mapping[str, ObserverGroup], batch: Batch) -> int | None:
    """Samples per part, or None for whole batches: a fixed batch, samples that depend on each other, observers that
    want whole batches."""
    if feed.size.fixed is not None or feed.last_size < 2 or not all(group.takes_parts for group in groups.values()):
        return None
    size = reader.bytes_per_sample(batch)
    return None if not size else max(1, PART_BYTES // size)


def _rows(count: int, part: int) -> list[slice]:
    return [slice(start, start + part) for start in range(0, count, part)]


def _observe_in_parts(counting: _Counting, reader: ActivationReader, batch: Batch, parts: Sequence[slice]) -> None:
    """One batch, part by part. While a tensor has seen nothing but zeros its range is to start at the amax of this
    whole batch, so the batch is run once more beforehand."""
    pieces = [{name: x[rows] for name, x in batch.items()} for rows in parts]
    unknown = counting.without_range()
    if unknown:
        amax = dict.fromkeys(unknown, np.float32(0))
        for piece in pieces:
            values = reader.read_part(piece)
            for name in unknown:
                largest = np.float32(np.max(np.abs(values[name]), initial=0))  # NaN is found when it is counted
                amax[name] = max(amax[name], largest)
        counting.start_batch(amax)
    for piece in pieces:
        counting.observe_part(reader.read_part(piece))
    counting.end_batch()


def all_zero_notice(tensor: str) -> Notice:
    """What a table says of a tensor that had no value but zero."""
    return Notice(f"tensor '{tensor}' is all zero in the calibration data", "all_zero", tensor)


def saturation_notices(
    algorithm: str, amax: Mapping[str, np.float32], histograms: Mapping[str, Histogram]
) -> list[Notice]:
    """Name the tensors of which an algorithm cuts off a lot: it may be right to, but its user should know.

    Args:
        algorithm: Its name.
        amax: What it keeps of every tensor.
        histograms: What there was.

    Returns:
        A notice per tensor of whose values more than SATURATED are cut off.
    """
    shares = {name: histogram.share_above(float(amax[name])) for name, histogram in histograms.items()}
    return [
        Notice(
            f"{algorithm} saturates {share:.1%} of the values of tensor '{name}' (keeps {float(amax[name]):.4g} of "
            f"{float(histograms[name].range):.4g})",
            "saturated",
            name,
        )
        for name, share in shares.items()
        if share > SATURATED
    ]


class _Counting:
    """Feeds the observers, the tensors of a batch in several threads. The network does not run meanwhile: both want all
    cores, and ONNX Runtime's threads, which wait for each other, lose more by sharing them than is won."""

    def __init__(self, groups: Mapping[str, ObserverGroup]) -> None:
        self._groups = groups
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="quantlab-count")

    def observe(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """One whole batch."""
        self._feed(values, ObserverGroup.observe)

    def observe_part(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """A part of a batch."""
        self._feed(values, ObserverGroup.observe_part)

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

    def without_range(self) -> list[str]:
        """Tensors that have had no value but zero so far and whose range starts at the amax of a whole batch."""
        return [name for name, group in self._groups.items() if group.starts_at_a_batch]

    def start_batch(self, amax: Mapping[str, np.float32]) -> None:
        for name, value in amax.items():
            self._groups[name].histogram.start_batch(value)

    def end_batch(self) -> None:
        for group in self._groups.values():
            if group.has_histogram:
                group.histogram.end_batch()

    def __enter__(self) -> _Counting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class _Feed:
    """The batches of one pass, whole ones, checked, with what provenance needs: counts and a hash."""

    def __init__(self, inputs: Sequence[TensorSpec], batches: Batches) -> None:
        self.size = BatchSize.of(inputs)
        self._inputs, self._source, self._whole = inputs, batches, self.size.whole(batches)
        self._digest = hashlib.sha256()
        self.samples = self.count = self.batch_size = self.last_size = 0

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self._whole):
            with in_batch(number):
                self.last_size = self.size.count(batch)
                check_batch(batch, self._inputs)  # as a whole, before any part of it is run
            self.samples += self.last_size
            self.count += 1
            self.batch_size = max(self.batch_size, self.last_size)
            hash_batch(self._digest, batch)
            yield batch

    def expected_samples(self) -> int:
        """Samples that the stream is going to have, as far as it says; 0 if it does not."""
        facts = stream_facts(self._source)
        return facts.count if facts.count is not None else self.last_size * (facts.batches or 0)

    def notices(self) -> tuple[Notice, ...]:
        """What was left out of the data."""
        return (*notices_of(self._whole), *stream_facts(self._source).notices())

    def provenance(self) -> Provenance:
        """Of this pass."""
        return Provenance(
            data_hash=self._digest.hexdigest(),
            preprocess=stream_facts(self._source).preprocess,
            batches=self.count,
            samples=self.samples,
            batch_size=self.batch_size,
            source="quantlab offline calibration",
            versions={"numpy": np.__version__, "onnx": onnx.__version__, "onnxruntime": ORT_VERSION},
        )
