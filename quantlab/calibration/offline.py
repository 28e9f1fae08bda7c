"""Calibration without TensorRT: batches through ONNX Runtime, activations into observers, one batch at a time."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from quantlab.calibration.notices import all_zero_notice, jumped_notice, left_out_notice, saturation_notices
from quantlab.calibration.parts import Counting
from quantlab.calibration.table import CalibrationTable, Provenance
from quantlab.data import Batch, Batches, BatchSize, check_batch, notices_of, stream_facts
from quantlab.data.hash import SamplesHash, hash_batch
from quantlab.errors import DataError, Notice, in_batch
from quantlab.observers import Histogram, Observer, ObserverGroup
from quantlab.observers.binning import expect
from quantlab.observers.histogram import LARGEST
from quantlab.onnx_model import TensorSpec, all_nodes, input_specs
from quantlab.ort import ActivationReader
from quantlab.ort.session import VERSION as ORT_VERSION
from quantlab.version import __version__

Progress = Callable[[int], None]
"""Called after every batch with the number of samples so far."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CalibrationTarget:
    """What is calibrated.

    Attributes:
        network: The FP32 network with its constants computed.
        tensors: Names, in the order wanted; None for every floating point tensor, in network order.
        model_hash: Names the model that the network was made from.
        needed: Of these, those without which the result is of no use; None for all. Another one is left out where its
            values are not finite, with a notice.
        notices: What a reader of its numbers must know of the model.
    """

    network: onnx.ModelProto
    tensors: tuple[str, ...] | None = None
    model_hash: str = ""
    needed: frozenset[str] | None = None
    notices: tuple[Notice, ...] = ()


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

    A batch goes through the network in parts of at most PIECE_BYTES of activations, where shapes and observers allow,
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
    expects_nan = any(node.op_type == "IsNaN" for node in all_nodes(proto.graph))
    with Counting(reader, groups, target.needed, expects_nan) as counting:
        for number, batch in enumerate(feed):
            with in_batch(number):
                if number == 0 and feed.last_size > 1:
                    part = counting.part_size(batch)
                    if part is not None and (count := feed.expected_samples()):
                        expect(count * counting.values_per_sample())
                counting.observe(batch, feed.last_size, part)
            if options.after_batch:
                options.after_batch(feed.samples, counting.groups)
            if on_batch:
                on_batch(feed.samples)
    _LOG.info("%d tensors calibrated by %s: %d samples in %d batches", len(groups), ", ".join(observers) or "none",
              feed.samples, feed.count)  # fmt: skip
    if feed.samples == 0:
        raise DataError("there are no calibration batches", hint="the stream is empty: check the data")
    return _finished(target, feed, counting, list(observers), options)


def _finished(
    target: CalibrationTarget,
    feed: _Feed,
    counting: Counting,
    algorithms: Sequence[str],
    options: RunOptions,
) -> CalibrationRun:
    """The tables of all observers, with what their readers must know."""
    amax = {}
    for name, group in list(counting.groups.items()):
        try:
            amax[name] = _amax_of(group, name in counting.needed)
        except DataError as error:
            counting.leave_out(name, error)
    groups = counting.groups
    jumped = [jumped_notice(name) for name, group in groups.items() if group.histogram.jumped]
    left_out = [left_out_notice(name, why) for name, why in counting.left_out.items()]
    warnings = (*feed.notices(), *target.notices, *counting.notices, *left_out, *jumped)
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


def _amax_of(group: ObserverGroup, is_needed: bool) -> dict[str, np.float32]:
    """What every algorithm found; DataError for values that no scale makes sense of, if there is a choice."""
    amax = group.compute_amax()
    largest = max(amax.values(), default=np.float32(0))
    if largest > LARGEST and not is_needed:
        raise DataError(f"values reach {largest:.3g}", hint="such a tensor cannot be INT8")
    return amax


def _is_zero(group: ObserverGroup, amax: Mapping[str, np.float32]) -> bool:
    """Whether a tensor has had no value but zero."""
    return bool(group.histogram.range == 0) if group.has_histogram else not any(amax.values())


class _Feed:
    """The batches of one pass, whole ones, checked, with what provenance needs: counts and a hash."""

    def __init__(self, inputs: Sequence[TensorSpec], batches: Batches) -> None:
        self._size = BatchSize.of(inputs)
        self._inputs, self._source, self._whole = inputs, batches, self._size.whole(batches)
        self._digest, self._named = hashlib.sha256(), SamplesHash([spec.name for spec in inputs], self._size)
        self.samples = self.count = self.batch_size = self.last_size = 0

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self._whole):
            with in_batch(number):
                self.last_size = self._size.count(batch)
                check_batch(batch, self._inputs)  # as a whole, before any part of it is run
            self.samples += self.last_size
            self.count += 1
            self.batch_size = max(self.batch_size, self.last_size)
            hash_batch(self._digest, batch)
            self._named.add(batch, None)
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
            versions={
                "quantlab": __version__,
                "numpy": np.__version__,
                "onnx": onnx.__version__,
                "onnxruntime": ORT_VERSION,
            },
            samples_hash=self._named.data() if self.count else "",
        )
