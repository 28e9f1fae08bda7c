"""FP32 against any number of quantized models: one pass over the batches, every model on every batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration.offline import Progress, batch_length
from quantlab.comparison.metrics import ClassificationCounts, ErrorSums, OutputError
from quantlab.data.batches import Batch, Batches, LabeledBatches
from quantlab.data.preprocess import recorded
from quantlab.errors import DataError, GraphError
from quantlab.model import fixed_batch, input_specs, model_hash, output_specs
from quantlab.ort import Session

FP32 = "fp32"


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model. errors: per output, against FP32. top1, top5, agreement: 0..1, None where not classification."""

    name: str
    errors: Mapping[str, OutputError]
    top1: float | None
    top5: float | None
    agreement: float | None
    size_bytes: int

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
    first to check FP32: a top-1 no better than guessing means a wrong preprocess, model or labels, and raises
    DataError. All models run with graph optimisation off (see `Session`), so that only quantization differs.
    """
    _check_interfaces(fp32, candidates)
    protos = {FP32: fp32} | {c.name: c.proto for c in candidates}
    models = {name: Session(proto, optimize=False) for name, proto in protos.items()}
    names = [o.name for o in output_specs(fp32)]
    scores = _scores_output(fp32)
    sums = {model: {name: ErrorSums() for name in names} for model in models}
    counts = {model: ClassificationCounts() for model in models}
    samples = 0
    used_labels = False
    for number, (batch, own) in enumerate(_with_labels(batches, labels)):
        size = batch_length(batch)
        used_labels = used_labels or own is not None
        fed = _padded(batch, fixed_batch(fp32))
        outputs = {model: session.run(fed, names, number) for model, session in models.items()}
        outputs = {m: {n: y[:size] if y.ndim else y for n, y in out.items()} for m, out in outputs.items()}
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
    warnings = _fp32_warnings(counts[FP32], fp32, scores) if scores and used_labels else ()
    results = tuple(
        ModelResult(
            model,
            {name: total.result() for name, total in sums[model].items()},
            counts[model].top1 if scores else None,
            counts[model].top5 if scores else None,
            counts[model].agreement if scores else None,
            protos[model].ByteSize(),
        )
        for model in models
    )
    return Comparison(results, samples, used_labels, scores, model_hash(fp32), recorded(batches), warnings)


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
    batches: Batches, labels: NDArray[np.int64] | None
) -> Iterator[tuple[Batch, NDArray[np.int64] | None]]:
    if labels is None and isinstance(batches, LabeledBatches):
        yield from batches.labeled()
        return
    start = 0
    for batch in batches:
        rows = None if labels is None else labels[start : start + batch_length(batch)]
        start += batch_length(batch)
        if rows is not None and len(rows) != batch_length(batch):
            raise DataError(
                f"labels end at sample {len(labels if labels is not None else ())}, the data go on",
                hint="one label per sample, in order",
            )
        yield batch, rows


def _padded(batch: Batch, fixed: int | None) -> Batch:
    """A short batch filled up with copies of its last sample for a fixed-batch model; the copies' outputs are cut."""
    size = batch_length(batch)
    if fixed is None or not 0 < size < fixed:
        return batch
    return {name: np.concatenate([x, np.repeat(x[-1:], fixed - size, axis=0)]) for name, x in batch.items()}


def _scores_output(proto: onnx.ModelProto) -> str | None:
    """The first output of shape (N, classes) with at least two classes."""
    for spec in output_specs(proto):
        if len(spec.shape) == 2 and np.issubdtype(spec.dtype, np.floating) and spec.shape[1] != 1:
            return spec.name
    return None


def _check_range(labels: NDArray[np.int64], classes: int, number: int) -> None:
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise DataError(
            f"batch {number} has label {int(labels.max())}, the model has classes 0 to {classes - 1}",
            hint="are these labels of this model's data set?",
        )


def _fp32_warnings(counts: ClassificationCounts, proto: onnx.ModelProto, scores: str) -> tuple[str, ...]:
    """Nothing below is right if FP32 is not: DataError if it guesses, a warning if it is poor."""
    top1, total = counts.top1, counts.labeled
    if top1 is None:
        return ()
    width = next(s.shape[1] for s in output_specs(proto) if s.name == scores)
    classes = width if isinstance(width, int) else 1000
    chance = 1 / classes
    # guessing stays below this 999 times in 1000 (normal approximation of the binomial)
    bound = chance + 3.1 * math.sqrt(chance * (1 - chance) / total)
    if top1 <= min(bound, 0.999):
        raise DataError(
            f"FP32 itself is right on {top1:.1%} of {total} samples, no better than guessing among {classes} classes",
            hint="check the preprocess (quantlab presets), the label order and that the labels belong to these images",
        )
    if top1 < 0.5:
        return (
            f"FP32 itself is right on only {top1:.1%} of the samples: is the preprocess the one it was trained with?",
        )
    return ()
