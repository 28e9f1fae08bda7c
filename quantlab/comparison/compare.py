"""FP32 against any number of quantized models: one pass over the batches, every model on every batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration.offline import Progress
from quantlab.comparison.metrics import ClassificationCounts, ErrorSums, OutputError
from quantlab.comparison.statistics import AccuracyDifference, accuracy_difference
from quantlab.data.batches import Batch, Batches, LabeledBatches, batch_length
from quantlab.data.labels import as_labels
from quantlab.data.preprocess import recorded
from quantlab.errors import DataError, GraphError
from quantlab.large import model_bytes
from quantlab.model import QDQ_OPS, fixed_batch, input_specs, model_hash, output_specs, require_float
from quantlab.ort import Session

FP32 = "fp32"


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model. errors: per output, against FP32. top1, top5, agreement: 0..1, None where not classification.
    difference: of top-1 to FP32's, None without labels."""

    name: str
    errors: Mapping[str, OutputError]
    top1: float | None
    top5: float | None
    agreement: float | None
    size_bytes: int
    difference: AccuracyDifference | None = None

    @property
    def worst_sqnr_db(self) -> float:
        """The smallest SQNR of the outputs."""
        return min(error.sqnr_db for error in self.errors.values())


@dataclass(frozen=True, slots=True)
class Comparison:
    """results: FP32 first, then the candidates in the order given. scores: the output read as class scores, if any."""

    results: tuple[ModelResult, ...]
    samples: int
    labeled: bool
    scores: str | None
    model_hash: str
    preprocess: Mapping[str, Any] | None
    warnings: tuple[str, ...]

    @property
    def fp32(self) -> ModelResult:
        """The reference."""
        return self.results[0]

    @property
    def best(self) -> ModelResult | None:
        """The candidate closest to FP32 by SQNR. Not by top-1: a few samples more or less are noise, and choosing by
        them would fit the choice to the test set."""
        return max(self.results[1:], key=lambda r: r.worst_sqnr_db, default=None)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A quantized model under a name."""

    name: str
    proto: onnx.ModelProto


def compare_models(
    fp32: onnx.ModelProto,
    candidates: list[Candidate],
    batches: Batches,
    labels: NDArray[np.int64] | None = None,
    on_batch: Progress | None = None,
) -> Comparison:
    """Run all models on ONNX Runtime; see `Comparison`.

    labels: int (N,) for all samples in order; without them a `LabeledBatches` stream brings its own. They are used
    first to check FP32: a top-1 no better than guessing on 100 samples or more means a wrong preprocess, model or
    labels, and raises DataError in place of a result. All models run with graph optimisation off (see `Session`), so
    that only quantization differs.
    """
    require_float(fp32, "a comparison")
    _check_interfaces(fp32, candidates)
    protos = {FP32: fp32} | {c.name: c.proto for c in candidates}
    models = {name: Session(proto, optimize=False) for name, proto in protos.items()}
    names = [o.name for o in output_specs(fp32)]
    scores = _scores_output(fp32)
    sums = {model: {name: ErrorSums() for name in names} for model in models}
    counts = {model: ClassificationCounts() for model in models}
    samples = 0
    had_labels = False
    first, fixed = input_specs(fp32)[0].name, fixed_batch(fp32)
    for number, (batch, own) in enumerate(_with_labels(batches, labels, first)):
        size = batch_length(batch, first, number)
        had_labels = had_labels or own is not None
        fed = _padded(batch, size, fixed)
        outputs = {model: session.run(fed, names, number) for model, session in models.items()}
        if fed is not batch:
            outputs = {m: {n: _cut(y, size, fixed) for n, y in out.items()} for m, out in outputs.items()}
        if scores and own is not None:
            _check_range(own, outputs[FP32][scores].shape[1], number)
        for model, out in outputs.items():
            for name in names:
                sums[model][name].add(outputs[FP32][name], out[name], f"{model}/{name}")
            if scores:
                counts[model].add(outputs[FP32][scores], out[scores], own)
        samples += size
        if on_batch:
            on_batch(samples)
    if samples == 0:
        raise DataError("there are no batches to compare on", hint="the stream is empty: check the data")
    if labels is not None and len(labels) != samples:
        raise DataError(f"there are {len(labels)} labels for {samples} samples", hint="one label per sample, in order")
    warnings = [*_skipped(batches), *_not_quantized(candidates)]
    used_labels = had_labels and scores is not None
    if used_labels and scores:
        warnings += _judge_fp32(counts[FP32], fp32, scores)
    elif had_labels:
        warnings.append("there are labels, but no output of shape (N, classes): they were not used")
    results = tuple(
        ModelResult(
            model,
            {name: total.result() for name, total in sums[model].items()},
            counts[model].top1 if scores else None,
            counts[model].top5 if scores else None,
            counts[model].agreement if scores else None,
            model_bytes(protos[model]),
            accuracy_difference(counts[FP32].right, counts[model].right) if used_labels and model != FP32 else None,
        )
        for model in models
    )
    return Comparison(results, samples, used_labels, scores, model_hash(fp32), recorded(batches), tuple(warnings))


def _check_interfaces(fp32: onnx.ModelProto, candidates: list[Candidate]) -> None:
    if len({c.name for c in candidates} | {FP32}) != len(candidates) + 1:
        raise GraphError("two models of the comparison have the same name", hint="give every model its own name")
    wanted = [str(s.name) for s in (*input_specs(fp32), *output_specs(fp32))]
    for candidate in candidates:
        got = [str(s.name) for s in (*input_specs(candidate.proto), *output_specs(candidate.proto))]
        if got != wanted:
            raise GraphError(
                f"model '{candidate.name}' has inputs and outputs {', '.join(got)}, FP32 has {', '.join(wanted)}",
                hint="compare a model with one quantized from it",
            )


def _with_labels(
    batches: Batches, labels: NDArray[np.int64] | None, first: str
) -> Iterator[tuple[Batch, NDArray[np.int64] | None]]:
    """Every batch with the labels of its samples, int64 (N,), from the stream itself or from `labels`."""
    if labels is None:
        own = batches.labeled() if isinstance(batches, LabeledBatches) else ((batch, None) for batch in batches)
        for number, (batch, rows) in enumerate(own):
            size = batch_length(batch, first, number)
            if rows is not None and np.shape(rows) != (size,):
                raise DataError(
                    f"batch {number} has labels of shape {np.shape(rows)}, expected ({size},)",
                    hint="one class number per sample",
                )
            yield batch, rows
        return
    labels = as_labels(np.asarray(labels), "given")
    start = 0
    for number, batch in enumerate(batches):
        end = start + batch_length(batch, first, number)
        if end > len(labels):
            raise DataError(
                f"labels end at sample {len(labels)}, the data go on", hint="one label per sample, in order"
            )
        yield batch, labels[start:end]
        start = end


def _padded(batch: Batch, size: int, fixed: int | None) -> Batch:
    """A short batch filled up with copies of its last sample for a fixed-batch model; the copies' outputs are cut."""
    if fixed is None or not 0 < size < fixed:
        return batch
    return {name: np.concatenate([x, np.repeat(x[-1:], fixed - size, axis=0)]) for name, x in batch.items()}


def _cut(output: NDArray[Any], size: int, fixed: int | None) -> NDArray[Any]:
    """The rows of the real samples of a padded batch; an output without batch dimension stays whole."""
    return output[:size] if output.ndim and output.shape[0] == fixed else output


def _skipped(batches: Batches) -> list[str]:
    skipped = getattr(batches, "skipped", ())
    return [f"{len(skipped)} images could not be read and were left out"] if skipped else []


def _not_quantized(candidates: list[Candidate]) -> list[str]:
    return [
        f"model '{c.name}' has no Q/DQ nodes: it is compared, but it is not an INT8 model"
        for c in candidates
        if not QDQ_OPS & {n.op_type for n in c.proto.graph.node}
    ]


def _scores_output(proto: onnx.ModelProto) -> str | None:
    """The first output of shape (N, classes) with at least two classes."""
    for spec in output_specs(proto):
        if len(spec.shape) == 2 and np.issubdtype(spec.dtype, np.floating) and spec.shape[1] != 1:
            return spec.name
    return None


def _check_range(labels: NDArray[np.int64], classes: int, number: int) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise DataError(
            f"batch {number} has label {int(wrong[0])}, the model has classes 0 to {classes - 1}",
            hint="are these labels of this model's data set?",
        )


ENOUGH = 100
"""Labelled samples from which FP32 is judged; fewer say too little to refuse anything."""


def _judge_fp32(counts: ClassificationCounts, proto: onnx.ModelProto, scores: str) -> list[str]:
    """Nothing below is right if FP32 is not: DataError if it guesses, a warning if it is poor."""
    top1, total = counts.top1, counts.labeled
    width = next(s.shape[1] for s in output_specs(proto) if s.name == scores)
    classes = width if isinstance(width, int) else 1000
    chance = 1 / classes
    # guessing stays below this 999 times in 1000 (normal approximation of the binomial)
    bound = chance + 3.1 * math.sqrt(chance * (1 - chance) / total)
    if top1 is None or top1 > max(bound, 0.5):
        return []
    text = f"FP32 itself is right on {top1:.1%} of {total} samples"
    if top1 <= bound and total >= ENOUGH:
        raise DataError(
            f"{text}, no better than guessing among {classes} classes",
            hint="check the preprocess (quantlab presets), the label order and that the labels belong to these images",
        )
    return [f"{text} only: is the preprocess the one it was trained with?"] if top1 < 0.5 else []
