"""What a comparison says, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quantlab.comparison.metrics import OutputError
from quantlab.comparison.statistics import AccuracyDifference, MeanDifference
from quantlab.comparison.tally import WorstSample


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One backend. errors: per output, against FP32; empty if it failed. top1, top5, agreement: 0..1, None where not
    classification. difference: of top-1 to FP32's, None without labels. metric: the user's own. runtime_sqnr_db:
    against the same Q/DQ model on ONNX Runtime. classes: class that FP32 gives -> (samples, same here). failed,
    metric_failed: why, or empty. facts: see `Backend`."""

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
    failed: str = ""
    metric_failed: str = ""
    int8: bool | None = None
    facts: Mapping[str, float] = field(default_factory=dict)

    @property
    def worst_sqnr_db(self) -> float:
        """The smallest SQNR of the outputs; minus infinity for a backend that failed."""
        return min((error.sqnr_db for error in self.errors.values()), default=-math.inf)

    def retained(self, fp32: ModelResult) -> float | None:
        """Share of FP32's accuracy that is kept: of the user's metric if there is one, else of top-1."""
        mine, base = (self.metric, fp32.metric) if fp32.metric is not None else (self.top1, fp32.top1)
        return None if mine is None or base is None or base <= 0 else mine / base


@dataclass(frozen=True, slots=True)
class Comparison:
    """results: FP32 first, then the backends in the order given. scores: the output read as class scores, if any.
    partial: interrupted, after `samples`."""

    results: tuple[ModelResult, ...]
    samples: int
    labeled: bool
    scores: str | None
    model_hash: str
    preprocess: Mapping[str, Any] | None
    warnings: tuple[str, ...]
    partial: bool = False

    @property
    def fp32(self) -> ModelResult:
        """The reference."""
        return self.results[0]

    @property
    def best(self) -> ModelResult | None:
        """The quantized backend closest to FP32 by SQNR. Not by top-1: a few samples more or less are noise, and
        choosing by them would fit the choice to the test set."""
        sound = [r for r in self.results[1:] if not r.failed and r.int8 is not False]
        return max(sound, key=lambda r: r.worst_sqnr_db, default=None)
