"""FP32 against any number of backends: one pass over the batches, every backend on every batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import Progress
from quantlab.comparison.backend import Backend, OrtBackend, Outputs, check_interface, ort_backend
from quantlab.comparison.feed import check_range, with_labels
from quantlab.comparison.judge import judge_fp32, scores_output
from quantlab.comparison.metrics import ClassificationCounts
from quantlab.comparison.result import Comparison, ModelResult
from quantlab.comparison.statistics import MeanDifference, accuracy_difference, mean_difference
from quantlab.comparison.tally import BatchRow, Tally, Truth
from quantlab.comparison.task import Metric, TaskMetric
from quantlab.data import Batch, Batches, BatchSize, Labels, stream_facts
from quantlab.errors import DataError, GraphError, QuantlabError, in_batch
from quantlab.onnx_model import input_specs, model_hash, output_specs, require_float

FP32 = "fp32"
UNLABELED = -1
"""Stands for the label of a sample that has none, in a stream that labels others."""
FP32_OPTIMISED_DB = 60.0
"""Optimised against unoptimised, for a model that equals FP32: fused float kernels round differently, by 2^-24 per
operation; 60 dB is far from that and far above any INT8 model. A quantized model is held to its own error."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A quantized model under a name."""

    name: str
    proto: onnx.ModelProto


def compare_models(
    fp32: onnx.ModelProto,
    candidates: Sequence[Candidate | Backend],
    batches: Batches,
    labels: NDArray[np.int64] | None = None,
    on_batch: Progress | None = None,
    metric: Metric | None = None,
) -> Comparison:
    """Run FP32 and all candidates on the same batches. Models run on ONNX Runtime as they are written.

    Args:
        fp32: The reference.
        candidates: What is compared with it.
        batches: The data. A short last batch is filled up for a model with a fixed batch size, and cut again.
        labels: int64 (N,) for all samples in order; without them a `LabeledBatches` stream brings its own. They are
            used first to check FP32: a top-1 no better than guessing on 100 samples or more means a wrong preprocess,
            model or labels.
        on_batch: Called after every batch with the number of samples so far.
        metric: The user's own, see `quantlab.comparison.task`.

    Returns:
        The comparison. A backend that fails is kept, with the reason; after a KeyboardInterrupt it is partial and
        consists of whole batches.

    Raises:
        DataError: There are no batches, labels do not fit, or FP32 guesses.
        GraphError: The FP32 model is quantized, two models have one name, or one has other inputs and outputs.
    """
    require_float(fp32, "a comparison")
    backends = [_as_backend(fp32, candidate) for candidate in candidates]
    if len({b.name for b in backends} | {FP32}) != len(backends) + 1:
        raise GraphError("two models of the comparison have the same name", hint="give every model its own name")
    run = _Run(fp32, [ort_backend(FP32, fp32), *backends], metric)
    partial = False
    try:
        run.over(batches, labels, on_batch)
    except KeyboardInterrupt:
        if not run.samples:
            raise
        partial = True
    if run.samples == 0:
        raise DataError("there are no batches to compare on", hint="the stream is empty: check the data")
    if labels is not None and len(labels) != run.samples and not partial:
        raise DataError(
            f"there are {len(labels)} labels for {run.samples} samples", hint="one label per sample, in order"
        )
    facts = stream_facts(batches)
    return run.comparison(list(facts.notices()), facts.preprocess, partial)


def _as_backend(fp32: onnx.ModelProto, candidate: Candidate | Backend) -> Backend:
    if isinstance(candidate, Backend):
        return candidate
    check_interface(fp32, candidate.name, candidate.proto)
    return ort_backend(candidate.name, candidate.proto)


@dataclass(frozen=True, slots=True)
class _Kept:
    """One batch of the comparison: what is known of every backend that has not failed."""

    size: int
    labels: Labels | None
    rows: Mapping[str, BatchRow]


class _Run:
    """The state of one comparison."""

    def __init__(self, fp32: onnx.ModelProto, backends: list[Backend], metric: Metric | None) -> None:
        self._proto, self._backends = fp32, backends
        self._size = BatchSize.of(input_specs(fp32))
        self._scores = scores_output(fp32)
        names = [o.name for o in output_specs(fp32)]
        self._tallies = {b.name: Tally(b.name, names, TaskMetric(metric) if metric else None) for b in backends}
        self._kept: list[_Kept] = []

    @property
    def samples(self) -> int:
        """How many have been compared."""
        return sum(kept.size for kept in self._kept)

    def over(self, batches: Batches, labels: NDArray[np.int64] | None, on_batch: Progress | None) -> None:
        """Compare on all batches."""
        for number, (batch, own) in enumerate(with_labels(batches, labels, self._size)):
            with in_batch(number):
                kept = self._compared(batch, own)
            self._kept.append(kept)  # in one step: an interrupted comparison has whole batches
            if on_batch:
                on_batch(self.samples)

    def _compared(self, batch: Batch, labels: Labels | None) -> _Kept:
        size = self._size.count(batch)
        outputs = self._outputs(batch, size)
        if self._scores and len(outputs[FP32][self._scores]) != size:
            self._scores = None  # rows of something else, such as detections
        if self._scores and labels is not None:
            check_range(labels, outputs[FP32][self._scores].shape[1])
        truth = Truth(outputs[FP32], labels, size, self._scores)
        rows = {}
        for backend in self._backends:
            found = outputs.get(backend.name)
            if found is None:
                continue
            tally = self._tallies[backend.name]
            try:
                rows[backend.name] = tally.row(truth, found, outputs.get(backend.twin) if backend.twin else None)
            except QuantlabError as error:
                self._fail(tally, error)
        return _Kept(size, labels, rows)

    def _outputs(self, batch: Batch, size: int) -> dict[str, Outputs]:
        """What every backend makes of a batch; one that fails is left out from here on."""
        fed = self._size.filled(batch)
        outputs: dict[str, Outputs] = {}
        for backend in self._backends:
            tally = self._tallies[backend.name]
            if tally.failed:
                continue
            try:
                found = backend.run(fed)
            except QuantlabError as error:
                self._fail(tally, error)
                continue
            outputs[backend.name] = found if fed is batch else {n: self._size.cut(y, size) for n, y in found.items()}
        return outputs

    def _fail(self, tally: Tally, error: QuantlabError) -> None:
        """Without FP32 there is nothing to compare with; any other backend may fail alone."""
        if tally.name == FP32:
            raise error
        error.batch = len(self._kept) if error.batch is None else error.batch
        tally.failed = error.message

    def comparison(self, warnings: list[str], preprocess: Mapping[str, Any] | None, partial: bool) -> Comparison:
        """The result of all batches that were kept."""
        for tally in self._tallies.values():
            tally.rows = [kept.rows[tally.name] for kept in self._kept if tally.name in kept.rows]
        counts = {n: t.counts if self._scores else ClassificationCounts() for n, t in self._tallies.items()}
        labels: Labels | None = np.concatenate(
            [np.full(k.size, UNLABELED, np.int64) if k.labels is None else k.labels for k in self._kept]
        )
        if labels is not None and (labels == UNLABELED).all():
            labels = None
        used = labels is not None and self._scores is not None
        warnings = [*warnings, *_notes(self._backends[1:]), *self._judgements()]
        if used and self._scores:
            warnings += judge_fp32(counts[FP32], self._proto, self._scores)
        elif labels is not None and self._tallies[FP32].metric is None:
            warnings.append("there are labels, but no output of shape (N, classes): they were not used")
        if partial:
            warnings.append(f"interrupted after {self.samples} samples: the rest was not measured")
        # before the warnings: it notes what fails in a metric
        results = tuple(self._result(backend, counts, labels, used) for backend in self._backends)
        for tally in self._tallies.values():
            if tally.failed:
                warnings.append(f"'{tally.name}' failed and is out of the comparison: {tally.failed}")
            if tally.metric_failed:
                reason = tally.metric_failed.strip().splitlines()[-1]
                warnings.append(f"the metric failed on '{tally.name}': {reason}")
        digest = model_hash(self._proto)
        return Comparison(results, self.samples, used, self._scores, digest, preprocess, tuple(warnings), partial)

    def _result(
        self, backend: Backend, counts: Mapping[str, ClassificationCounts], labels: Labels | None, labeled: bool
    ) -> ModelResult:
        tally, reference, mine = self._tallies[backend.name], self._tallies[FP32], counts[backend.name]
        scored = self._scores is not None and not tally.failed
        other = backend.name != FP32 and not tally.failed
        value, change = _metric_of(tally, reference if other else None)
        runtime = tally.runtime
        return ModelResult(
            name=backend.name,
            errors=tally.results(),
            top1=mine.top1 if scored else None,
            top5=mine.top5 if scored else None,
            agreement=mine.agreement if scored else None,
            size_bytes=backend.size_bytes,
            difference=accuracy_difference(counts[FP32].right, mine.right) if labeled and other else None,
            metric=value,
            metric_difference=change,
            runtime_sqnr_db=runtime.sqnr_db if runtime.count and other else None,
            worst=tally.worst(mine, labels) if other else (),
            classes=mine.by_class() if scored and other else {},
            failed=tally.failed,
            metric_failed=tally.metric_failed,
            int8=backend.int8,
            facts=dict(backend.facts),
        )

    def _judgements(self) -> list[str]:
        """Models whose numbers ONNX Runtime's optimizer changes by more than quantization does."""
        lines = []
        for backend in self._backends:
            tally = self._tallies[backend.name]
            if not isinstance(backend.run, OrtBackend) or tally.failed:
                continue
            moved = backend.run.optimised_sqnr_db()
            own = min(error.sqnr_db for error in tally.results().values())
            bound = FP32_OPTIMISED_DB if own == math.inf else own
            if not moved >= bound:
                lines.append(
                    f"ONNX Runtime's optimizer changes the outputs of '{backend.name}' (SQNR {moved:.1f} dB against "
                    f"the graph as it is written, at least {bound:.1f} dB wanted): the figures here are those of the "
                    "unoptimised run"
                )
        return lines


def _metric_of(tally: Tally, reference: Tally | None) -> tuple[float | None, MeanDifference | None]:
    """The user's metric and its difference to FP32's. What goes wrong in it is noted in the tally."""
    if tally.metric is None or tally.failed or tally.metric_failed:
        return None, None
    values = tally.metric_values()
    try:
        value = float(values.mean()) if values is not None else tally.metric.of_set(len(tally.rows))
        if not math.isfinite(value):
            raise DataError(f"the metric is {value}", hint="it has to be a number")
    except Exception as error:  # the user's own code
        tally.metric_failed = f"{type(error).__name__}: {error}"
        return None, None
    if reference is None or reference.metric_failed:
        return value, None
    base = reference.metric_values()
    return value, None if values is None or base is None else mean_difference(base, values)


def _notes(backends: Sequence[Backend]) -> list[str]:
    """What is said of backends, each once with the names of all it is said of."""
    said: dict[str, list[str]] = {}
    for backend in backends:
        for note in backend.notes:
            said.setdefault(note, []).append(backend.name)
    return [", ".join(f"'{name}'" for name in dict.fromkeys(names)) + f": {note}" for note, names in said.items()]
