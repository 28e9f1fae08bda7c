"""PASS or FAIL: whether a quantized model is close enough to FP32, by the best measure that the data allow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from quantlab.comparison import Comparison, ModelResult
from quantlab.comparison.judge import MLPERF, reaches
from quantlab.comparison.statistics import share_interval

AGREEMENT = (0.99, 0.97, 0.9)
SQNR_DB = (30.0, 20.0, 10.0)
"""From which share of equal classes, or which SQNR, a model is in which of the `BANDS`; the second is the bar."""
BANDS = ("safe", "likely good", "doubtful", "bad")
_AGREEMENT_MEANS = (
    "whatever the labels are",
    "and mostly less: a sample that changes its class was often wrong before",
    "and labels would tell how much it is",
    "every tenth answer is another one",
)
_SQNR_MEANS = (
    "the error is 3 % of the outputs or less",
    "the error is between 3 and 10 % of the outputs",
    "the error is between 10 and 32 % of the outputs",
    "the error is a third of the outputs or more",
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of one model.

    Attributes:
        passed: Whether it reaches the bar.
        measure: What it was judged by: 'accuracy' (top-1), 'metric' (the user's), 'agreement' or 'sqnr'.
        value: Of that measure: a share 0..1, or dB.
        bar: The least that passes.
        text: All of it in a sentence.
    """

    passed: bool
    measure: str
    value: float
    bar: float
    text: str


def judge(comparison: Comparison, model: ModelResult, bar: float = MLPERF) -> Judgement:
    """Judge one model of a comparison.

    With labels or a metric, by the share of FP32's accuracy that it keeps. Without, by the share of samples whose class
    stays FP32's, or by the SQNR of an output beside the class scores that is worse off; where there are no classes, by
    the SQNR of its worst output.

    Args:
        comparison: With the model in it.
        model: One that did not fail.
        bar: The least share of FP32's accuracy that passes, 0..1.

    Returns:
        The judgement.
    """
    kept = model.retained(comparison.fp32)
    if kept is not None:
        measure = "accuracy" if comparison.fp32.metric is None else "metric"
        text = f"keeps {kept:.2%} of FP32's {comparison.measure}, the bar is {100 * bar:g}%"
        return Judgement(reaches(kept, bar), measure, kept, bar, text)
    scores = None if model.agreement is None else comparison.scores
    others = [error.sqnr_db for name, error in model.errors.items() if name != scores]
    worst = model.worst_sqnr_db if scores is None else min(others, default=math.inf)
    band = _band(worst, SQNR_DB)
    if model.agreement is not None and (kept_band := _band(model.agreement, AGREEMENT)) >= band:
        text = _agreement_text(model.agreement, comparison.samples, kept_band)
        return Judgement(kept_band <= 1, "agreement", model.agreement, AGREEMENT[1], text)
    what = "has SQNR" if scores is None else f"an output beside the class scores ('{scores}') has SQNR"
    text = f"{what} {worst:.1f} dB, the bar without classes is {SQNR_DB[1]:.0f} dB; {BANDS[band]}: {_SQNR_MEANS[band]}"
    return Judgement(band <= 1, "sqnr", worst, SQNR_DB[1], text)


def _agreement_text(agreement: float, samples: int, band: int) -> str:
    """What a share of equal classes means: top-1 loses no more than the share of others, which so many samples tell
    within an interval."""
    low, _ = share_interval(round(agreement * samples), samples)
    start = (
        f"keeps FP32's class on {agreement:.2%} of {samples} samples, the bar without accuracy is {AGREEMENT[1]:.0%}; "
    )
    most = f"top-1 loses {100 * (1 - low):.1f} points at most (95 %)"
    if band <= 1 and low < AGREEMENT[1]:
        return f"{start}{BANDS[1]}, but so few samples cannot show it: {most}"
    return f"{start}{BANDS[band]}: {most}, {_AGREEMENT_MEANS[band]}"


def _band(value: float, limits: tuple[float, ...]) -> int:
    return next((k for k, limit in enumerate(limits) if reaches(value, limit)), len(limits))
