"""Calibration without TensorRT: batches through ONNX Runtime, activations into observers, one batch at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration.table import CalibrationTable, Provenance
from quantlab.data.batches import Batch, Batches, batch_length
from quantlab.data.check import check_batch
from quantlab.data.hash import hash_batch
from quantlab.data.preprocess import recorded
from quantlab.errors import DataError
from quantlab.model import fixed_batch, input_specs
from quantlab.observers import Histogram, Observer, ObserverGroup
from quantlab.observers.binning import expect
from quantlab.ort import ActivationReader
from quantlab.ort.session import VERSION as ORT_VERSION

Progress = Callable[[int], None]
"""Called after every batch with the number of samples so far."""


SATURATED = 0.01
"""Share of a tensor's values above its amax from which a table warns: ten times what percentile-99.9 gives up."""


@dataclass(frozen=True, slots=True)
class CalibrationRun:
    """One pass over the data. tables: one per observer, by name. histograms: per tensor, for reports. provenance: of
    the pass, without an algorithm."""

    tables: Mapping[str, CalibrationTable]
    histograms: Mapping[str, Histogram]
    provenance: Provenance = field(default_factory=Provenance)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """keep_histograms: fill them even where min-max is all that is wanted. order_independent: histograms that depend on
    the values alone, not on batches and their order, and are not TensorRT's to the last bin. after_batch: called with
    the number of samples so far and the observers of every tensor."""

    keep_histograms: bool = True
    order_independent: bool = False
    after_batch: Callable[[int, Mapping[str, ObserverGroup]], None] | None = None


def run_calibration(
    proto: onnx.ModelProto,
    batches: Batches,
    observers: Mapping[str, Observer],
    tensors: Sequence[str] | None = None,
    on_batch: Progress | None = None,
    options: RunOptions | None = None,
) -> CalibrationRun:
    """Every observer's table from one forward pass.

    tensors: what to calibrate, None for every floating point tensor, in network order. A batch goes through the network
    in parts of at most PART_BYTES of activations, where shapes and observers allow it, with the result of the whole
    batch; one part is in memory, whatever the number of batches.
    DataError names batch and tensor of NaN or infinity.
    """
    options = options or RunOptions()
    reader = ActivationReader(proto, tensors)
    groups = {
        name: ObserverGroup(observers, options.keep_histograms, options.order_independent) for name in reader.tensors
    }
    feed, specs = _Feed(proto, batches), input_specs(proto)
    part: int | None = None
    with _Counting(groups) as counting:
        for number, batch in enumerate(feed):
            check_batch(batch, specs, number)  # as a whole, before any part of it is run
            if number == 0:
                part = _part_size(proto, reader, groups, batch, feed.last_size)
                if part is not None and (count := _count_of(batches, feed.last_size)):
                    expect(count * sum(groups[t].has_histogram * n for t, n in reader.sizes.items()))
            if part is None or feed.last_size <= part:
                read = reader.read_one if part is None else reader.read_part
                counting.observe(number, read(batch, number))
            else:
                _observe_in_parts(counting, reader, batch, number, _rows(feed.last_size, part))
            if options.after_batch:
                options.after_batch(feed.samples, groups)
            if on_batch:
                on_batch(feed.samples)
    if feed.samples == 0:
        raise DataError("there are no calibration batches", hint="the stream is empty: check the data")
    amax = {name: group.compute_amax() for name, group in groups.items()}
    skipped = getattr(batches, "skipped", ())
    left_out = [f"{len(skipped)} images could not be read and were left out"] if skipped else []
    zero = [name for name, group in groups.items() if _is_zero(group, amax[name])]
    jumped = [
        f"the range of tensor '{name}' grew a million times within one batch: TensorRT's scale for such data is another"
        for name, group in groups.items()
        if group.histogram.jumped
    ]
    warnings = (*feed.warnings, *left_out, *jumped)
    provenance = feed.provenance(batches)
    if options.order_independent:
        provenance = replace(provenance, source=f"{provenance.source}, order-independent")
    histograms = {name: group.histogram for name, group in groups.items() if group.has_histogram}
    tables = {}
    for key in observers:
        kept = {name: np.float32(amax[name][key]) for name in groups}
        saturated = saturation_warnings(key, kept, histograms)
        told = (*warnings, *map(all_zero_warning, zero), *saturated)
        tables[key] = CalibrationTable(kept, replace(provenance, algorithm=key), told)
    return CalibrationRun(tables, histograms, provenance, warnings)


def _is_zero(group: ObserverGroup, amax: Mapping[str, NDArray[np.float32]]) -> bool:
    """Whether a tensor has had no value but zero."""
    return bool(group.histogram.range == 0) if group.has_histogram else not any(map(np.any, amax.values()))


PART_BYTES = 40 * 2**20  # more wins 3 % of the time at most, and costs its size in memory


def _count_of(batches: Batches, first: int) -> int:
    """Samples that a stream is going to have, as far as it says; 0 if it does not."""
    known = getattr(batches, "count", None)
    if isinstance(known, int):
        return known
    return first * len(batches) if isinstance(batches, Sized) else 0


def _part_size(
    proto: onnx.ModelProto, reader: ActivationReader, groups: Mapping[str, ObserverGroup], batch: Batch, count: int
) -> int | None:
    """Samples per part, or None for whole batches: a fixed batch, samples that depend on each other, observers that
    want whole batches."""
    if fixed_batch(proto) is not None or count < 2 or not all(group.takes_parts for group in groups.values()):
        return None
    size = reader.bytes_per_sample(batch)
    return None if not size else max(1, PART_BYTES // size)


def _rows(count: int, part: int) -> list[slice]:
    return [slice(start, start + part) for start in range(0, count, part)]


def _observe_in_parts(
    counting: _Counting, reader: ActivationReader, batch: Batch, number: int, parts: Sequence[slice]
) -> None:
    """One batch, part by part. While a tensor has seen nothing but zeros its range is to start at the amax of this
    whole batch, so the batch is run once more beforehand."""
    pieces = [{name: x[rows] for name, x in batch.items()} for rows in parts]
    unknown = counting.without_range()
    if unknown:
        amax = dict.fromkeys(unknown, np.float32(0))
        for piece in pieces:
            values = reader.read_part(piece, number)
            for name in unknown:
                largest = np.float32(np.max(np.abs(values[name]), initial=0))  # NaN is found when it is counted
                amax[name] = max(amax[name], largest)
        counting.start_batch(amax)
    for piece in pieces:
        counting.observe_part(number, reader.read_part(piece, number))
    counting.end_batch()


def all_zero_warning(tensor: str) -> str:
    """What a table says of a tensor that had no value but zero."""
    return f"tensor '{tensor}' is all zero in the calibration data"


def saturation_warnings(
    algorithm: str, amax: Mapping[str, np.float32], histograms: Mapping[str, Histogram]
) -> list[str]:
    """Tensors of which an algorithm cuts off more than SATURATED: it may be right to, but its user should know."""
    shares = {name: histogram.share_above(float(amax[name])) for name, histogram in histograms.items()}
    return [
        f"{algorithm} saturates {share:.1%} of the values of tensor '{name}' (keeps {float(amax[name]):.4g} of "
        f"{float(histograms[name].range):.4g})"
        for name, share in shares.items()
        if share > SATURATED
    ]


class _Counting:
    """Feeds the observers, the tensors of a batch in several threads. The network does not run meanwhile: both want all
    cores, and ONNX Runtime's threads, which wait for each other, lose more by sharing them than is won."""

    def __init__(self, groups: Mapping[str, ObserverGroup]) -> None:
        self._groups = groups
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="quantlab-count")

    def observe(self, number: int, values: Mapping[str, NDArray[np.float32]]) -> None:
        """One whole batch."""
        self._feed(number, values, ObserverGroup.observe)

    def observe_part(self, number: int, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Some samples of a batch."""
        self._feed(number, values, ObserverGroup.observe_part)

    def _feed(
        self,
        number: int,
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
                raise DataError(f"batch {number}, tensor '{name}': {error.message}", hint=error.hint) from error

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
    """The batches of one pass with what provenance needs: counts and a hash. A short last batch is left out, and
    said, where the model has a fixed batch size: padding it would count samples twice."""

    def __init__(self, proto: onnx.ModelProto, batches: Batches) -> None:
        self._source, self._fixed = batches, fixed_batch(proto)
        self._first = input_specs(proto)[0].name
        self._digest = hashlib.sha256()
        self.samples = self.count = self.batch_size = self.last_size = 0
        self.warnings: tuple[str, ...] = ()

    def __iter__(self) -> Any:
        short = 0
        for number, batch in enumerate(self._source):
            if short:
                raise DataError(
                    f"batch {number - 1} has {short} samples, fewer than the model's fixed batch size",
                    hint=f"make batches of {self._fixed} samples; only the last may be shorter",
                )
            size = batch_length(batch, self._first, number)
            if self._fixed is not None and 0 < size < self._fixed and number:
                short = size
                continue
            self._count(batch, size)
            self.last_size = size
            yield batch
        if short:
            self.warnings = (f"the last {short} samples do not fill the model's fixed batch and were left out",)

    def _count(self, batch: Batch, size: int) -> None:
        self.samples += size
        self.count += 1
        self.batch_size = max(self.batch_size, size)
        hash_batch(self._digest, batch)

    def provenance(self, batches: Batches) -> Provenance:
        return Provenance(
            data_hash=self._digest.hexdigest(),
            preprocess=recorded(batches),
            batches=self.count,
            samples=self.samples,
            batch_size=self.batch_size,
            source="quantlab offline calibration",
            versions={"numpy": np.__version__, "onnx": onnx.__version__, "onnxruntime": ORT_VERSION},
        )
