"""One pass over the batches: every backend on every batch, and what is kept of each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import Progress
from quantlab.comparison.backend import Backend, Outputs
from quantlab.comparison.feed import check_range, with_labels
from quantlab.comparison.judge import scores_output
from quantlab.comparison.tally import BatchRow, Tally, Truth
from quantlab.comparison.task import Metric, TaskMetric, metric_hash, metric_name
from quantlab.data import Batch, Batches, BatchSize, Labels
from quantlab.data.hash import SamplesHash
from quantlab.errors import DataError, QuantlabError, first_line, in_batch
from quantlab.onnx_model import input_specs, output_specs

FP32 = "fp32"
"""The name of the reference."""
UNLABELED = -1
"""Stands for the label of a sample that has none, in a stream that labels others."""


@dataclass(frozen=True, slots=True)
class KeptBatch:
    """One batch of a comparison.

    Attributes:
        size: How many samples it has.
        labels: int64 (size,), or None.
        rows: What is known of every backend that has not failed, by name.
    """

    size: int
    labels: Labels | None
    rows: Mapping[str, BatchRow]


class ComparisonRun:
    """The state of one comparison. Whatever interrupts it, what it has kept consists of whole batches.

    Args:
        fp32: The reference.
        backends: It first, then what is compared with it.
        metric: Of the user, or None.

    Attributes:
        proto: The reference.
        backends: As given.
        tallies: One per backend, by name.
        scores: The output that is read as class scores, if any.
        kept: The batches so far.
        metric_hash: Of the user's metric, None where it is not known.
        metric_name: What it is called, None without one.
        hash: Of their samples; not to be trusted after an interruption.
    """

    def __init__(self, fp32: onnx.ModelProto, backends: Sequence[Backend], metric: Metric | None) -> None:
        self.proto, self.backends = fp32, tuple(backends)
        self.scores = scores_output(fp32)
        self.kept: list[KeptBatch] = []
        judged = judged_outputs(fp32)
        self.tallies = {b.name: Tally(b.name, judged, None if metric is None else TaskMetric(metric)) for b in backends}
        specs = input_specs(fp32)
        self._size = BatchSize.of(specs)
        self.metric_hash, self.metric_name = metric_hash(metric), metric_name(metric)
        self.hash = SamplesHash([spec.name for spec in specs], self._size)

    @property
    def samples(self) -> int:
        """How many have been compared."""
        return sum(kept.size for kept in self.kept)

    @property
    def labels(self) -> Labels | None:
        """int64 (samples,), UNLABELED for a sample without one; None if no sample has one."""
        parts = [np.full(k.size, UNLABELED, np.int64) if k.labels is None else k.labels for k in self.kept]
        labels: Labels = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        return None if (labels == UNLABELED).all() else labels

    def over(self, batches: Batches, labels: NDArray[np.int64] | None, on_batch: Progress | None) -> None:
        """Compare on all batches.

        Args:
            batches: The data.
            labels: int64 (N,) for all samples in order; None to take those of the stream, if it has any.
            on_batch: Called after every batch with the number of samples so far.

        Raises:
            DataError: The batches or the labels do not fit.
            GraphError: FP32 cannot be run.
        """
        for number, (batch, known) in enumerate(with_labels(batches, labels, self._size)):
            with in_batch(number):
                kept = self._compared(batch, known)
                self.hash.add(batch, known)
            self.kept.append(kept)  # in one step: an interruption loses a batch or keeps it
            if on_batch:
                on_batch(self.samples)

    def _compared(self, batch: Batch, labels: Labels | None) -> KeptBatch:
        size = self._size.count(batch)
        outputs = self._outputs(batch, size)
        if self.scores and len(outputs[FP32][self.scores]) != size:
            self.scores = None  # rows of something else, such as detections
        if self.scores and labels is not None:
            check_range(labels, outputs[FP32][self.scores].shape[1])
        truth = Truth(outputs[FP32], labels, size, self.scores)
        rows = {}
        for backend in self.backends:
            if backend.name not in outputs:
                continue
            found = outputs[backend.name]
            tally = self.tallies[backend.name]
            try:
                rows[backend.name] = tally.row(truth, found, outputs.get(backend.twin) if backend.twin else None)
            except QuantlabError as error:
                self._fail(tally, error)
        return KeptBatch(size, labels, rows)

    def _outputs(self, batch: Batch, size: int) -> dict[str, Outputs]:
        """What every backend makes of a batch; one that fails is left out from here on."""
        fed = self._size.filled(batch)
        outputs: dict[str, Outputs] = {}
        for backend in self.backends:
            tally = self.tallies[backend.name]
            if tally.failed:
                continue
            try:
                found = _run(backend, fed)
            except QuantlabError as error:
                self._fail(tally, error)
                continue
            outputs[backend.name] = found if fed is batch else {n: self._size.cut(y, size) for n, y in found.items()}
        return outputs

    def _fail(self, tally: Tally, error: QuantlabError) -> None:
        """Without FP32 there is nothing to compare with; any other backend may fail alone."""
        if tally.name == FP32:
            raise error
        error.batch = len(self.kept) if error.batch is None else error.batch
        tally.failed = error.message

    def finish(self) -> None:
        """Hand every tally its rows of the batches that were kept."""
        for tally in self.tallies.values():
            tally.rows = [kept.rows[tally.name] for kept in self.kept if tally.name in kept.rows]


def judged_outputs(fp32: onnx.ModelProto) -> list[str]:
    """The outputs whose error is measured: those of floating point type; all of a model that has none. How far one
    class number is from another says nothing."""
    specs = output_specs(fp32)
    floats = [spec.name for spec in specs if np.issubdtype(spec.dtype, np.floating)]
    return floats or [spec.name for spec in specs]


def _run(backend: Backend, batch: Batch) -> Outputs:
    """The outputs of a backend, which may be a function of the user: DataError if it raises or gives something else."""
    try:
        found: object = backend.run(batch)
    except QuantlabError:
        raise
    except Exception as error:  # of the user's code, which may raise anything
        raise DataError(
            f"backend '{backend.name}' raised {type(error).__name__}: {first_line(error)}",
            hint="call it on one batch to see where",
        ) from error
    if not isinstance(found, Mapping):
        raise DataError(
            f"backend '{backend.name}' gave a {type(found).__name__}, expected a mapping of output name to array",
            hint="return {'logits': array}",
        )
    wrong = [name for name, values in found.items() if not isinstance(values, np.ndarray)]
    if wrong:
        raise DataError(
            f"backend '{backend.name}' gave a {type(found[wrong[0]]).__name__} for output '{wrong[0]}', expected an "
            "array",
            hint="convert it with numpy.asarray",
        )
    return found
