"""The report as plain data. Everything the pages show is in this document; nothing else is.

Keys: format, version, title, verdict, comparison (samples, scores, models[]), calibration (tensors[] with amax per
algorithm and a histogram of 128 bins), placement (quantized tensors, weights, skipped nodes by reason), warnings,
provenance. Ratios are 0..1. sqnr_db is a number, "inf" where the outputs are equal, "-inf" where FP32 is all zero.
"""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

import quantlab
from quantlab.calibration import CalibrationRun, CalibrationTable
from quantlab.comparison import Comparison, ModelResult
from quantlab.observers import Histogram
from quantlab.qdq import Placement

FORMAT = "quantlab.report"
VERSION = 1
_BINS = 128


def build_document(
    title: str,
    comparison: Comparison,
    run: CalibrationRun | None = None,
    placement: Placement | None = None,
    command: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The JSON document of one comparison, with what is known of its calibration and placement."""
    tables = run.tables if run else {}
    provenance = next(iter(tables.values())).provenance if tables else None
    table_warnings = [w for table in tables.values() for w in table.warnings]
    return {
        "format": FORMAT,
        "version": VERSION,
        "title": title,
        "verdict": verdict(comparison),
        "comparison": {
            "samples": comparison.samples,
            "labeled": comparison.labeled,
            "scores": comparison.scores,
            "models": [_model(r) for r in comparison.results],
        },
        "calibration": {"tensors": [_tensor(name, tables, run.histograms[name]) for name in run.histograms]}
        if run
        else None,
        "placement": _placement(placement) if placement else None,
        "warnings": list(dict.fromkeys([*comparison.warnings, *table_warnings, *warnings])),
        "provenance": {
            "model_hash": comparison.model_hash,
            "preprocess": comparison.preprocess,
            "calibration": {k: v for k, v in asdict(provenance).items() if k != "algorithm"}
            if provenance and provenance.samples
            else None,
            "judge": "Judged on ONNX Runtime on the CPU with graph optimisation off; its speed says nothing "
            "about TensorRT and is not reported.",
            "quantlab": quantlab.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "command": " ".join(command),
        },
    }


def verdict(comparison: Comparison) -> str:
    """One sentence for someone who reads nothing else."""
    best, fp32 = comparison.best, comparison.fp32
    if best is None:
        return "There is no quantized model in this comparison."
    start = f"Best of {len(comparison.results) - 1} INT8 models: {best.name}"
    quality = f"SQNR {_db(best.worst_sqnr_db)}"
    if best.top1 is not None and fp32.top1 is not None and best.difference is not None:
        change = best.difference
        judged = "which can well be chance" if change.is_noise else "which is more than chance"
        return (
            f"{start}, top-1 {best.top1:.2%} against {fp32.top1:.2%} in FP32: {change.points:+.2f} points on "
            f"{comparison.samples} samples (95 %: {change.low:+.2f} to {change.high:+.2f}), {judged}; {quality}."
        )
    return f"{start}, {quality} on {comparison.samples} samples."


def _db(value: float) -> str:
    return "infinite (equal outputs)" if math.isinf(value) and value > 0 else f"{value:.1f} dB"


def _number(value: float) -> float | str:
    return float(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def _model(result: ModelResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "top1": result.top1,
        "top5": result.top5,
        "agreement": result.agreement,
        "top1_difference": asdict(result.difference) if result.difference else None,
        "sqnr_db": _number(result.worst_sqnr_db),
        "size_bytes": result.size_bytes,
        "outputs": {name: {k: _number(v) for k, v in asdict(e).items()} for name, e in result.errors.items()},
    }


def _tensor(name: str, tables: Mapping[str, CalibrationTable], histogram: Histogram) -> dict[str, Any]:
    return {
        "name": name,
        "amax": {key: float(str(np.float32(table.amax[name]))) for key, table in tables.items()},
        "range": float(histogram.range),
        "counts": [int(c) for c in histogram.counts.reshape(_BINS, -1).sum(axis=1)],
    }


def _placement(placement: Placement) -> dict[str, Any]:
    reasons = Counter((s.op, s.reason) for s in placement.skipped)
    return {
        "tensors": list(placement.tensors),
        "weights": [asdict(w) for w in placement.weights],
        "skipped": [{"op": op, "reason": reason, "count": n} for (op, reason), n in reasons.most_common()],
    }
