"""What a comparison says, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quantlab.comparison.classes import ClassAccuracy, ClassChange
from quantlab.comparison.statistics import AccuracyDifference, MeanDifference
from quantlab.comparison.tally import WorstSample
from quantlab.data.shown import ShownSample
from quantlab.errors import DataError
from quantlab.numerics import OutputError
from quantlab.tabular import Rows, Tabular


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One backend.

    Attributes:
        name: The backend's.
        errors: Per output of floating point (of any type, where none is), against FP32; empty if it failed.
        top1: Share of the labelled samples that it gets right, 0..1; None where not classification.
        top5: Share with the label among the five best.
        agreement: Share of the samples whose best class is FP32's.
        size_bytes: Of the model or engine file, None if unknown.
        difference: Of top-1 to FP32's, None without labels.
        metric: The value of the user's metric, None without one.
        metric_difference: Of the user's metric to FP32's, None for a metric of the whole set.
        runtime_sqnr_db: Against the same Q/DQ model on ONNX Runtime.
        worst: The samples that moved furthest.
        classes: Class that FP32 gives -> (samples, those with the same class here).
        labels: The right class -> how many of its samples are right, where there are labels.
        changes: The samples to which it gives another class than FP32, by the two classes.
        failed: Why it is out of the comparison, or empty.
        metric_failed: What went wrong in the user's metric, or empty.
        int8: Whether it is quantized, None if that is not known.
        facts: See `Backend`.
        hash: See `Backend`.
        made_from: See `Backend`.
    """

    name: str
    errors: Mapping[str, OutputError]
    top1: float | None
    top5: float | None
    agreement: float | None
    size_bytes: int | None
    difference: AccuracyDifference | None = None
    metric: float | None = None
    metric_difference: MeanDifference | None = None
    runtime_sqnr_db: float | None = None
    worst: tuple[WorstSample, ...] = ()
    classes: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    labels: Mapping[int, ClassAccuracy] = field(default_factory=dict)
    changes: tuple[ClassChange, ...] = ()
    failed: str = ""
    metric_failed: str = ""
    int8: bool | None = None
    facts: Mapping[str, float] = field(default_factory=dict)
    hash: str = ""
    made_from: Mapping[str, Any] = field(default_factory=dict)

    @property
    def worst_sqnr_db(self) -> float:
        """The smallest SQNR of the outputs; minus infinity for a backend that failed."""
        return min((error.sqnr_db for error in self.errors.values()), default=-math.inf)

    def retained(self, fp32: ModelResult) -> float | None:
        """Share of FP32's accuracy that is kept: of the user's metric if there is one, else of top-1."""
        mine, base = (self.metric, fp32.metric) if fp32.metric is not None else (self.top1, fp32.top1)
        return None if mine is None or base is None or base <= 0 else mine / base


@dataclass(frozen=True, slots=True)
class Comparison(Tabular):
    """FP32 and others on the same samples.

    Attributes:
        results: FP32 first, then the backends in the order given.
        samples: How many there were.
        labeled: Whether labels were used.
        scores: The output that was read as class scores, if any.
        model_hash: Names the FP32 model.
        preprocess: Of the data, None if it is not known.
        warnings: Facts that a reader must know.
        partial: Whether it was interrupted, after `samples`.
        data_hash: Names the samples, however they were cut into batches; None if it was interrupted.
        labels_hash: Names their labels; None without, or if it was interrupted.
        metric_hash: Names the user's metric; None without one, or where its text is not known.
        class_names: Class -> its name, where known.
        metric_name: What the user's metric is called; None without one.
        shown: What can be shown of the samples that moved furthest, by their place in the data.
    """

    results: tuple[ModelResult, ...]
    samples: int
    labeled: bool
    scores: str | None
    model_hash: str
    preprocess: Mapping[str, Any] | None
    warnings: tuple[str, ...]
    partial: bool = False
    data_hash: str | None = None
    labels_hash: str | None = None
    metric_hash: str | None = None
    class_names: Mapping[int, str] = field(default_factory=dict)
    metric_name: str | None = None
    shown: Mapping[int, ShownSample] = field(default_factory=dict)

    def to_rows(self) -> Rows:
        """One row per model, FP32 first."""
        columns = ("model", "top1", "top5", "metric", "agreement", "sqnr_db", "size_bytes", "failed")
        rows = (
            (r.name, r.top1, r.top5, r.metric, r.agreement, None if r.failed else r.worst_sqnr_db, r.size_bytes,
             r.failed or None)
            for r in self.results
        )  # fmt: skip
        facts = tuple(dict.fromkeys(name for r in self.results for name in r.facts))
        with_facts = ((*row, *(r.facts.get(n) for n in facts)) for row, r in zip(rows, self.results, strict=True))
        return Rows.of(
            (*columns, *facts), with_facts, f"{self.samples} samples{', interrupted' if self.partial else ''}"
        )

    @property
    def fp32(self) -> ModelResult:
        """The reference."""
        return self.results[0]

    @property
    def measure(self) -> str:
        """What `ModelResult.retained` is a share of: the user's metric by its name, or accuracy."""
        return self.metric_name or "metric" if self.fp32.metric is not None else "accuracy"

    @property
    def quantized(self) -> tuple[ModelResult, ...]:
        """The quantized backends that did not fail, the one closest to FP32 by SQNR first.

        Not by top-1: a few samples more or less are noise, and choosing by them would fit the choice to the test set.
        """
        sound = [r for r in self.results[1:] if not r.failed and r.int8 is not False]
        return tuple(sorted(sound, key=lambda r: -r.worst_sqnr_db))

    @property
    def best(self) -> ModelResult:
        """The first of `quantized`; DataError if there is none."""
        if not self.quantized:
            raise DataError("no quantized model of this comparison is sound", hint="comparison.warnings has the reason")
        return self.quantized[0]
