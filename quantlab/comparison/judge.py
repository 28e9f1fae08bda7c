"""Is the comparison itself sound? FP32 against its labels, and what is read as class scores."""

from __future__ import annotations

import math

import numpy as np
import onnx

from quantlab.comparison.metrics import ClassificationCounts
from quantlab.errors import DataError
from quantlab.model import output_specs

ENOUGH = 100
"""Labelled samples from which FP32 is judged; fewer say too little to refuse anything."""


def scores_output(proto: onnx.ModelProto) -> str | None:
    """The first output that may be class scores, (N, classes) with at least two classes. Exporters name the batch of
    inputs and outputs differently: whether it has a row per sample shows when the model has run."""
    for spec in output_specs(proto):
        if len(spec.shape) == 2 and np.issubdtype(spec.dtype, np.floating) and spec.shape[1] != 1:
            return spec.name
    return None


def judge_fp32(counts: ClassificationCounts, proto: onnx.ModelProto, scores: str) -> list[str]:
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
