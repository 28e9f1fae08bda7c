"""The sentence of a report, and the model it names."""

from __future__ import annotations

import math

from quantlab.comparison import Comparison, ModelResult
from quantlab.comparison.judge import MLPERF, reaches

FASTER = 1.02
"""An engine that wins less time than this ratio is not called faster: measurements differ by that much."""


def verdict(comparison: Comparison, bar: float = MLPERF) -> str:
    """One sentence for someone who reads nothing else.

    Args:
        comparison: What was measured.
        bar: The least share of FP32's accuracy that passes, 0..1.

    Returns:
        The sentence.
    """
    fp32 = comparison.fp32
    quantized = [r for r in comparison.results[1:] if r.int8 is not False]
    if not comparison.quantized:
        return "Every quantized model failed." if quantized else "There is no quantized model in this comparison."
    fastest = _fastest(comparison, bar)
    if fastest is not None:
        return _verdict_of_speed(comparison, *fastest)
    best, count = comparison.best, len(comparison.quantized)
    start = f"Best of {count} INT8 models: {best.name}" if count > 1 else f"INT8 model {best.name}"
    return f"{start}, {_accuracy(best, fp32, comparison)}."


def _fastest(comparison: Comparison, bar: float) -> tuple[ModelResult, ModelResult] | None:
    """(the fastest engine that keeps enough accuracy, the fastest float engine), where both were measured."""
    measured = [r for r in comparison.results[1:] if not r.failed and "latency_p50_ms" in r.facts]
    floats = [r for r in measured if r.int8 is False]
    enough = [r for r in measured if r.int8 and _keeps_enough(r, comparison.fp32, bar)]
    if not floats or not enough:
        return None
    return min(enough, key=_latency), min(floats, key=_latency)


def chosen(comparison: Comparison, bar: float = MLPERF) -> ModelResult | None:
    """The model that the verdict names.

    Args:
        comparison: What was measured.
        bar: As `verdict`.

    Returns:
        It; None if no quantized model is sound.
    """
    fastest = _fastest(comparison, bar)
    return fastest[0] if fastest else next(iter(comparison.quantized), None)


def _keeps_enough(result: ModelResult, fp32: ModelResult, bar: float) -> bool:
    kept = result.retained(fp32)
    return not result.metric_failed and (kept is None or reaches(kept, bar))


def _latency(result: ModelResult) -> float:
    return result.facts["latency_p50_ms"]


def _verdict_of_speed(comparison: Comparison, engine: ModelResult, base: ModelResult) -> str:
    ratio = _latency(base) / _latency(engine)
    accuracy = _accuracy(engine, comparison.fp32, comparison)
    if ratio < FASTER:
        return (
            f"INT8 is not faster here: {engine.name} takes {_latency(engine):.3f} ms, {base.name} "
            f"{_latency(base):.3f} ms; {accuracy}."
        )
    speed = f"{_latency(engine):.3f} ms per batch, {ratio:.2f} times as fast as {base.name}"
    judged = engine.retained(comparison.fp32) is not None
    return f"{'Ship' if judged else 'Fastest is'} {engine.name}: {speed}; {accuracy}."


def _accuracy(result: ModelResult, fp32: ModelResult, comparison: Comparison) -> str:
    quality = f"SQNR {_db(result.worst_sqnr_db)}"
    samples = f"on {comparison.samples} samples"
    if result.metric is not None and fp32.metric is not None:
        against = f"{comparison.measure} {result.metric:.4g} against {fp32.metric:.4g} in FP32"
        mean = result.metric_difference
        if mean is None:
            return f"{against} {samples}; {quality}"
        interval = f"{mean.value:+.4g} {samples} (95 %: {mean.low:+.4g} to {mean.high:+.4g}), {_judged(mean.is_noise)}"
        return f"{against}: {interval}; {quality}"
    if result.top1 is not None and fp32.top1 is not None and result.difference is not None:
        change = result.difference
        return (
            f"top-1 {result.top1:.2%} against {fp32.top1:.2%} in FP32: {change.points:+.2f} points {samples} "
            f"(95 %: {change.low:+.2f} to {change.high:+.2f}), {_judged(change.is_noise)}; {quality}"
        )
    return f"{quality} {samples}"


def _judged(is_noise: bool) -> str:
    return "which can well be chance" if is_noise else "which is more than chance"


def _db(value: float) -> str:
    return "infinite (equal outputs)" if math.isinf(value) and value > 0 else f"{value:.1f} dB"
