"""What all kept batches of a comparison say together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from quantlab.comparison.backend import Backend, OrtBackend
from quantlab.comparison.classes import class_changes, right_by_class
from quantlab.comparison.judge import judge_fp32
from quantlab.comparison.metrics import ClassificationCounts
from quantlab.comparison.result import Comparison, ModelResult
from quantlab.comparison.run import FP32, ComparisonRun
from quantlab.comparison.statistics import MeanDifference, accuracy_difference, mean_difference
from quantlab.comparison.tally import Tally
from quantlab.data import Batches, Labels, stream_facts
from quantlab.data.python_file import FAILURES, described
from quantlab.data.shown import show_samples
from quantlab.errors import DataError, QuantlabError

FP32_OPTIMISED_DB = 60.0
"""Optimised against unoptimised, for a model that equals FP32: fused float kernels round differently, by 2^-24 per
operation; 60 dB is far from that and far above any INT8 model. A quantized model is held to its own error."""

SAME_DB, TWICE_DB = 20.0, 6.0
"""An engine that is less than SAME_DB from the model it was built from, and by TWICE_DB less than that is from FP32,
computes something else; 34 dB is what FP16 layers between Q/DQ nodes have been seen to make."""


def summarise(run: ComparisonRun, batches: Batches, partial: bool) -> Comparison:
    """Sum up what a run has kept.

    Args:
        run: With one batch at least.
        batches: The data.
        partial: Whether it was interrupted.

    Returns:
        The comparison.

    Raises:
        DataError: FP32 guesses.
    """
    run.finish()
    facts = stream_facts(batches)
    counts = {n: t.counts if run.scores else ClassificationCounts() for n, t in run.tallies.items()}
    labels = run.labels
    labeled = labels is not None and run.scores is not None
    warnings = [*facts.notices(), *_notes(run.backends[1:]), *_optimizer_warnings(run)]
    if labeled and run.scores:
        warnings += judge_fp32(counts[FP32], run.proto, run.scores)
    elif labels is not None and run.tallies[FP32].metric is None:
        warnings.append("there are labels, but no output of shape (N, classes): they were not used")
    if not partial:
        warnings += _seen_before(run)
    else:
        warnings.append(f"interrupted after {run.samples} samples: the rest was not measured")
    # before the failures are listed: it notes what fails in a metric
    results = tuple(_result(run, backend, counts, labels) for backend in run.backends)
    warnings += [*_runtime_warnings(run, results), *_failures(run.tallies.values())]
    warnings += _unequal(run.tallies.values())
    return Comparison(
        results,
        run.samples,
        labeled,
        run.scores,
        run.backends[0].hash,
        facts.preprocess,
        tuple(warnings),
        partial,
        None if partial else run.hash.data(),
        None if partial else run.hash.labels(),
        run.metric_hash,
        facts.class_names,
        run.metric_name,
        show_samples(batches, sorted({w.index for result in results for w in result.worst})),
    )


def _result(
    run: ComparisonRun, backend: Backend, counts: Mapping[str, ClassificationCounts], labels: Labels | None
) -> ModelResult:
    tally, reference, mine = run.tallies[backend.name], run.tallies[FP32], counts[backend.name]
    scored = run.scores is not None and not tally.failed
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
        difference=accuracy_difference(counts[FP32].right, mine.right) if scored and other and mine.labeled else None,
        metric=value,
        metric_difference=change,
        runtime_sqnr_db=runtime.sqnr_db if runtime.count and other else None,
        worst=tally.worst(mine, labels) if other else (),
        classes=mine.by_class() if scored and other else {},
        labels=right_by_class(counts[FP32], mine, labels) if scored and labels is not None else {},
        changes=class_changes(mine, labels) if scored and other else (),
        failed=tally.failed,
        metric_failed=tally.metric_failed,
        int8=backend.int8,
        facts=dict(backend.facts),
        hash=backend.hash,
        made_from=dict(backend.made_from),
    )


def _seen_before(run: ComparisonRun) -> list[str]:
    """Scales fit the samples that they were found on: figures on these are better than on others."""
    digest = run.hash.data()
    names = [b.name for b in run.backends if b.made_from.get("samples_hash") == digest]
    return [f"'{name}' was calibrated with the samples that it is judged by: others would say more" for name in names]


def _metric_of(tally: Tally, reference: Tally | None) -> tuple[float | None, MeanDifference | None]:
    """The user's metric and its difference to FP32's. What goes wrong in it is noted in the tally."""
    if tally.metric is None or tally.failed or tally.metric_failed:
        return None, None
    values = tally.metric_values()
    try:
        value = float(values.mean()) if values is not None else tally.metric.of_set(len(tally.rows))
        if not math.isfinite(value):
            raise DataError(f"the metric is {value}", hint="it has to be a number")
    except QuantlabError as error:
        tally.metric_failed = error.message
        return None, None
    except FAILURES as error:  # the user's code
        tally.metric_failed = described(error)
        return None, None
    if reference is None or reference.metric_failed:
        return value, None
    base = reference.metric_values()
    return value, None if values is None or base is None else mean_difference(base, values)


def _notes(backends: Iterable[Backend]) -> list[str]:
    """The notes of all backends, each once with the names of those that have it."""
    names: dict[str, list[str]] = {}
    for backend in backends:
        for note in backend.notes:
            names.setdefault(note, []).append(backend.name)
    return [", ".join(f"'{name}'" for name in dict.fromkeys(those)) + f": {note}" for note, those in names.items()]


def _optimizer_warnings(run: ComparisonRun) -> list[str]:
    """Models whose numbers ONNX Runtime's optimizer changes by more than quantization does."""
    lines = []
    for backend in run.backends:
        tally = run.tallies[backend.name]
        if not isinstance(backend.run, OrtBackend) or tally.failed:
            continue
        moved = backend.run.optimised_sqnr_db()
        quantization = min(error.sqnr_db for error in tally.results().values())
        bound = FP32_OPTIMISED_DB if quantization == math.inf else quantization
        if not moved >= bound:
            lines.append(
                f"ONNX Runtime's optimizer changes the outputs of '{backend.name}' (SQNR {moved:.1f} dB against "
                f"the graph as it is written, at least {bound:.1f} dB wanted): the figures here are those of the "
                "unoptimised run"
            )
    return lines


def _runtime_warnings(run: ComparisonRun, results: Iterable[ModelResult]) -> list[str]:
    """Engines that are further from their own Q/DQ model than that is from FP32: the graph became another function."""
    by_name = {result.name: result for result in results}
    lines = []
    for backend in run.backends:
        apart = by_name[backend.name].runtime_sqnr_db
        twin = by_name.get(backend.twin or "")
        if apart is None or twin is None or twin.failed or apart >= min(SAME_DB, twin.worst_sqnr_db - TWICE_DB):
            continue
        lines.append(
            f"'{backend.name}' does not compute what its model does: {apart:.1f} dB from the same model on ONNX "
            f"Runtime, which is {twin.worst_sqnr_db:.1f} dB from FP32; its figures are those of another function "
            "(try another placement)"
        )
    return lines


def _failures(tallies: Iterable[Tally]) -> list[str]:
    lines = []
    for tally in tallies:
        if tally.failed:
            lines.append(f"'{tally.name}' failed and is out of the comparison: {tally.failed}")
        if tally.metric_failed:
            reason = tally.metric_failed.strip().splitlines()[-1]
            lines.append(f"the metric failed on '{tally.name}': {reason}")
    return lines


def _unequal(tallies: Iterable[Tally]) -> list[str]:
    """Outputs of integers have no SQNR and are judged by nothing else: that they differ has to be said."""
    return [
        f"'{tally.name}': {share:.2%} of the values of output '{output}' are not FP32's; the output has no SQNR, and "
        "is not judged"
        for tally in tallies
        for output, share in tally.unequal().items()
    ]
