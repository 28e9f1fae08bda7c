"""FP32 against any number of backends: one pass over the batches, every backend on every batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration.offline import Progress
from quantlab.comparison.backend import Backend, OrtBackend, Outputs, check_interface, ort_backend
from quantlab.comparison.feed import check_range, cut, padded, uninterrupted, with_labels
from quantlab.comparison.judge import judge_fp32, scores_output
from quantlab.comparison.metrics import sqnr_db
from quantlab.comparison.result import Comparison, ModelResult
from quantlab.comparison.statistics import MeanDifference, accuracy_difference, mean_difference
from quantlab.comparison.tally import Tally, agreement_by_class
from quantlab.comparison.task import Metric, TaskMetric
from quantlab.data.batches import Batches, batch_length
from quantlab.data.preprocess import recorded
from quantlab.errors import DataError, GraphError, QuantlabError
from quantlab.model import fixed_batch, input_specs, model_hash, output_specs, require_float

FP32 = "fp32"
UNLABELED = -1
"""Stands for the label of a sample that has none, in a stream that labels others."""


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
    """Run FP32 and all candidates; see `Comparison`. Models run on ONNX Runtime as they are written.

    labels: int (N,) for all samples in order; without them a `LabeledBatches` stream brings its own. They are used
    first to check FP32: a top-1 no better than guessing on 100 samples or more means a wrong preprocess, model or
    labels, and raises DataError in place of a result. metric: see `quantlab.comparison.task`. A backend that fails is
    kept, with the reason; after a KeyboardInterrupt what was measured is returned as partial.
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
    return run.comparison(_skipped(batches), recorded(batches), partial)


def _as_backend(fp32: onnx.ModelProto, candidate: Candidate | Backend) -> Backend:
    if isinstance(candidate, Backend):
        return candidate
    check_interface(fp32, candidate.name, candidate.proto)
    return ort_backend(candidate.name, candidate.proto)


class _Run:
    """The state of one comparison."""

    def __init__(self, fp32: onnx.ModelProto, backends: list[Backend], metric: Metric | None) -> None:
        self._proto, self._backends = fp32, backends
        self._names = [o.name for o in output_specs(fp32)]
        self._scores = scores_output(fp32)
        self._tallies = {
            b.name: Tally(b.name, self._names, self._scores, TaskMetric(metric) if metric else None) for b in backends
        }
        self._labels: list[NDArray[np.int64]] = []
        self.samples = 0

    def over(self, batches: Batches, labels: NDArray[np.int64] | None, on_batch: Progress | None) -> None:
        first, fixed = input_specs(self._proto)[0].name, fixed_batch(self._proto)
        for number, (batch, own) in enumerate(with_labels(batches, labels, first)):
            size = batch_length(batch, first, number)
            fed = padded(batch, size, fixed)
            outputs: dict[str, Outputs] = {}
            for backend in self._backends:
                tally = self._tallies[backend.name]
                if tally.failed:
                    continue
                try:
                    found = backend.run(fed)
                except QuantlabError as error:  # a backend does not know the number of its batch
                    reason = error.message.removeprefix("batch 0, ")
                    if backend.name == FP32:
                        raise type(error)(f"batch {number}, {reason}", hint=error.hint) from error
                    tally.failed = f"batch {number}: {reason}"
                    continue
                outputs[backend.name] = found if fed is batch else {n: cut(y, size, fixed) for n, y in found.items()}
            if self._scores and len(outputs[FP32][self._scores]) != size:
                self._without_scores()  # rows of something else, such as detections
            if self._scores and own is not None:
                check_range(own, outputs[FP32][self._scores].shape[1], number)
            with uninterrupted():  # what is kept of an interrupted comparison is whole batches
                self._add(outputs, own, size, number)
            if on_batch:
                on_batch(self.samples)

    def _add(self, outputs: Mapping[str, Outputs], own: NDArray[np.int64] | None, size: int, number: int) -> None:
        for backend in self._backends:
            tally, found = self._tallies[backend.name], outputs.get(backend.name)
            if found is None:
                continue
            try:
                twin = outputs.get(backend.twin) if backend.twin else None
                tally.add(outputs[FP32], found, own, twin, size)
            except QuantlabError as error:
                if backend.name == FP32:
                    raise
                tally.failed = f"batch {number}: {error.message}"
        self._labels.append(own if own is not None else np.full(size, UNLABELED, np.int64))
        self.samples += size

    def _without_scores(self) -> None:
        self._scores = None
        for tally in self._tallies.values():
            tally.drop_scores()

    def comparison(self, warnings: list[str], preprocess: Mapping[str, Any] | None, partial: bool) -> Comparison:
        labels: NDArray[np.int64] | None = np.concatenate(self._labels)
        if labels is not None and (labels == UNLABELED).all():
            labels = None
        reference = self._tallies[FP32]
        used = labels is not None and self._scores is not None
        warnings = [*warnings, *_notes(self._backends[1:]), *self._judgements()]
        if used and self._scores:
            warnings += judge_fp32(reference.counts, self._proto, self._scores)
        elif labels is not None and reference.metric is None:
            warnings.append("there are labels, but no output of shape (N, classes): they were not used")
        if partial:
            warnings.append(f"interrupted after {self.samples} samples: the rest was not measured")
        # before the warnings: it notes what fails in a metric
        results = tuple(self._result(backend, labels, used) for backend in self._backends)
        for tally in self._tallies.values():
            if tally.failed:
                warnings.append(f"'{tally.name}' failed and is out of the comparison: {tally.failed}")
            if tally.metric_failed:
                reason = tally.metric_failed.strip().splitlines()[-1]
                warnings.append(f"the metric failed on '{tally.name}': {reason}")
        digest = model_hash(self._proto)
        return Comparison(results, self.samples, used, self._scores, digest, preprocess, tuple(warnings), partial)

    def _result(self, backend: Backend, labels: NDArray[np.int64] | None, labeled: bool) -> ModelResult:
        tally, reference = self._tallies[backend.name], self._tallies[FP32]
        scored = self._scores is not None and not tally.failed
        other = backend.name != FP32 and not tally.failed
        value, change = _metric_of(tally, reference if other else None)
        return ModelResult(
            name=backend.name,
            errors=tally.results(),
            top1=tally.counts.top1 if scored else None,
            top5=tally.counts.top5 if scored else None,
            agreement=tally.counts.agreement if scored else None,
            size_bytes=backend.size_bytes,
            difference=accuracy_difference(reference.counts.right, tally.counts.right) if labeled and other else None,
            metric=value,
            metric_difference=change,
            runtime_sqnr_db=sqnr_db(tally.runtime) if tally.runtime.count and other else None,
            worst=tally.worst(labels) if other else (),
            classes=agreement_by_class(tally.counts) if scored and other else {},
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


FP32_OPTIMISED_DB = 60.0
"""Optimised against unoptimised, for a model that equals FP32: fused float kernels round differently, by 2^-24 per
operation; 60 dB is far from that and far above any INT8 model. A quantized model is held to its own error."""


def _metric_of(tally: Tally, reference: Tally | None) -> tuple[float | None, MeanDifference | None]:
    """The user's metric and its difference to FP32's. What goes wrong in it is noted in the tally."""
    if tally.metric is None or tally.failed or tally.metric_failed:
        return None, None
    try:
        value = tally.metric.value()
        if not math.isfinite(value):
            raise DataError(f"the metric is {value}", hint="it has to be a number")
    except Exception as error:  # the user's own code
        tally.metric_failed = f"{type(error).__name__}: {error}"
        return None, None
    if reference is None or reference.metric is None or reference.metric_failed:
        return value, None
    mine, base = tally.metric.samples, reference.metric.samples
    return value, None if mine is None or base is None else mean_difference(base, mine)


def _skipped(batches: Batches) -> list[str]:
    skipped = getattr(batches, "skipped", ())
    return [f"{len(skipped)} images could not be read and were left out"] if skipped else []


def _notes(backends: Sequence[Backend]) -> list[str]:
    """What is said of backends, each once with the names of all it is said of."""
    said: dict[str, list[str]] = {}
    for backend in backends:
        for note in backend.notes:
            said.setdefault(note, []).append(backend.name)
    return [", ".join(f"'{name}'" for name in dict.fromkeys(names)) + f": {note}" for note, names in said.items()]
