"""Is the comparison itself sound? FP32 against its labels, and what is read as class scores."""

from __future__ import annotations

import math

import numpy as np
import onnx

from quantlab.comparison.metrics import ClassificationCounts
from quantlab.comparison.result import Comparison, ModelResult
from quantlab.errors import ConfigError, DataError
from quantlab.nearest import nearest
from quantlab.onnx_model import output_specs

MLPERF = 0.99
"""MLPerf inference asks of a quantized model 99 % of FP32's accuracy (the harder class of its rules: 99.9 %)."""
THRESHOLDS = {"mlperf-99": MLPERF, "mlperf-99.9": 0.999}
"""Shares of FP32's accuracy by name."""
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
    """Judge FP32 by its labels: no figure of a comparison is right if it is not.

    Args:
        counts: Of FP32, with one labelled sample at least.
        proto: The FP32 model.
        scores: Its output of class scores.

    Returns:
        A warning if it is poor.

    Raises:
        DataError: It is no better than guessing, on ENOUGH samples or more.
    """
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
            hint="check the preprocess (quantlab presets; check-data --try-presets ranks them), the label order and "
            "that the labels belong to these images",
        )
    return (
        [f"{text} only: is the preprocess the one it was trained with (quantlab check-data --try-presets)?"]
        if top1 < 0.5
        else []
    )


def parse_threshold(text: str) -> float:
    """A share of FP32's accuracy, 0..1, from one of THRESHOLDS or a percentage; ConfigError for anything else."""
    if text in THRESHOLDS:
        return THRESHOLDS[text]
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        question = nearest(text, THRESHOLDS)
        raise ConfigError(
            f"--fail-under {text} is no threshold", hint=f"{question}{', '.join(THRESHOLDS)} or a percentage"
        )
    return value


def reaches(share: float, threshold: float) -> bool:
    """Whether a share of an accuracy is a threshold or more.

    Args:
        share: The quotient of two accuracies, each a rounded quotient itself.
        threshold: What is wanted.

    Returns:
        Whether it is reached; three roundings of 2^-53 and that of the threshold do not decide.
    """
    return share >= threshold * (1 - 2**-50)


def require_accuracy(comparison: Comparison, model: ModelResult) -> None:
    """Refuse to judge by a share of FP32's accuracy where there is none.

    Args:
        comparison: With the model in it.
        model: The one that is judged.

    Raises:
        ConfigError: There is no accuracy, or FP32's is 0 or less.
    """
    fp32 = comparison.fp32
    accuracy = fp32.metric if fp32.metric is not None else fp32.top1
    if accuracy is not None and accuracy <= 0:
        raise ConfigError(
            f"FP32's {comparison.measure} is {accuracy:g}: no share of it can be kept", hint="check the labels"
        )
    if model.retained(fp32) is None:
        raise ConfigError("--fail-under needs an accuracy", hint="give --labels, class folders or --metric")
