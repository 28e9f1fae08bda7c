"""The report as plain data. Everything the pages show is in this document; nothing else is.

Described by `schema.json` beside this file. Ratios are 0..1. An SQNR is a number, "inf" where the outputs are equal,
"-inf" where FP32 is all zero, "nan" where a value was no number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from graphlib import TopologicalSorter
from typing import Any

import numpy as np

from quantlab.calibration import CalibrationRun, CalibrationTable
from quantlab.comparison import Comparison, ErrorTrace, ModelResult
from quantlab.comparison.judge import MLPERF, reaches
from quantlab.observers import Histogram
from quantlab.plain_text import printable, without_folders
from quantlab.qdq import Placement, WeightError
from quantlab.report.baseline import changes_since
from quantlab.report.format import FORMAT, VERSION, number
from quantlab.report.hint import Hint
from quantlab.report.judgement import judge
from quantlab.report.provenance import provenance_of
from quantlab.report.verdict import chosen, verdict

_BINS = 128


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known beside the comparison.

    Attributes:
        run: A calibration, with histograms.
        placement: Of the best model.
        traces: Model -> where its error comes from.
        baseline: An earlier document to compare with.
        hint: What to do about the best model, if it is far from FP32.
        bar: The least share of FP32's accuracy that passes, 0..1.
    """

    run: CalibrationRun | None = None
    placement: Placement | None = None
    traces: Mapping[str, ErrorTrace] = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None
    hint: Hint | None = None
    bar: float = MLPERF


def build_document(
    title: str,
    comparison: Comparison,
    evidence: Evidence | None = None,
    command: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Put a comparison into the JSON document that all pages are made of.

    Args:
        title: Of the report.
        comparison: What was measured.
        evidence: What is known beside it.
        command: The command line that made it.
        warnings: Facts that a reader must know, beside those of the comparison.

    Returns:
        Plain values, as `schema.json` describes them.
    """
    evidence = evidence or Evidence()
    run = evidence.run
    tables = run.tables if run else {}
    table_warnings = [w for table in tables.values() for w in table.warnings]
    models = [_model(r, comparison.fp32, evidence.bar) for r in comparison.results]
    shown = chosen(comparison, evidence.bar)
    judgement = judge(comparison, shown, evidence.bar) if shown else None
    return {
        "format": FORMAT,
        "version": VERSION,
        "title": title,
        "verdict": verdict(comparison, evidence.bar),
        "judgement": asdict(judgement) | {"value": number(judgement.value)} if judgement else None,
        "partial": comparison.partial,
        "comparison": {
            "samples": comparison.samples,
            "labeled": comparison.labeled,
            "scores": comparison.scores,
            "best": shown.name if shown else None,
            "threshold": evidence.bar,
            "models": models,
            "class_names": {str(c): printable(name) for c, name in sorted(comparison.class_names.items())},
        },
        "calibration": {"tensors": [_tensor(name, tables, run.histograms[name]) for name in run.histograms]}
        if run
        else None,
        "placement": _placement(evidence.placement) if evidence.placement else None,
        "error_trace": _error_trace(evidence.traces, shown) if evidence.traces else None,
        "hint": evidence.hint.document() if evidence.hint else None,
        "baseline": changes_since(evidence.baseline, models) if evidence.baseline else None,
        "warnings": list(dict.fromkeys(map(without_folders, [*comparison.warnings, *table_warnings, *warnings]))),
        "provenance": provenance_of(comparison, tables, shown, command),
    }


def _model(result: ModelResult, fp32: ModelResult, bar: float) -> dict[str, Any]:
    retained = result.retained(fp32)
    return {
        "name": result.name,
        "failed": without_folders(result.failed) or None,
        "top1": result.top1,
        "top5": result.top5,
        "agreement": result.agreement,
        "top1_difference": asdict(result.difference) if result.difference else None,
        "metric": result.metric,
        "metric_difference": asdict(result.metric_difference) if result.metric_difference else None,
        "metric_failed": without_folders(result.metric_failed) or None,
        "retained": retained,
        "passes": None if retained is None else reaches(retained, bar),
        "sqnr_db": number(result.worst_sqnr_db),
        "runtime_sqnr_db": None if result.runtime_sqnr_db is None else number(result.runtime_sqnr_db),
        "size_bytes": result.size_bytes,
        "outputs": {name: {k: number(v) for k, v in asdict(e).items()} for name, e in result.errors.items()},
        "worst": [asdict(w) | {"sqnr_db": number(w.sqnr_db)} for w in result.worst],
        "classes": [{"class": c, "samples": n, "agreed": same} for c, (n, same) in result.classes.items()],
        "int8": result.int8,
        "facts": {key: float(value) for key, value in result.facts.items() if math.isfinite(value)},
    }


def _error_trace(traces: Mapping[str, ErrorTrace], best: ModelResult | None) -> dict[str, Any]:
    names = _in_order([list(trace.tensors) for trace in traces.values()])
    chosen = best.name if best is not None and best.name in traces else next(iter(traces))
    return {
        "tensors": [
            {"name": name, "sqnr_db": {m: number(t.tensors[name]) for m, t in traces.items() if name in t.tensors}}
            for name in names
        ],
        "model": chosen,
        "models": list(traces),
        "weights": [_weight(error) for error in traces[chosen].weights],
        "unmatched": traces[chosen].unmatched,
    }


def _in_order(chains: Sequence[Sequence[str]]) -> list[str]:
    """All names, each chain's order kept: they are parts of one network order."""
    before: dict[str, dict[str, None]] = {}  # dicts, not sets: the same names give the same order
    for chain in chains:
        for k, name in enumerate(chain):
            before.setdefault(name, {}).update(dict.fromkeys(chain[k - 1 : k] if k else ()))
    return list(TopologicalSorter(before).static_order())


def _weight(error: WeightError) -> dict[str, Any]:
    finite = error.sqnr_db[np.isfinite(error.sqnr_db)]
    low, median, high = np.percentile(finite, [0, 50, 100]) if finite.size else (np.inf, np.inf, np.inf)
    return {
        "node": error.node,
        "tensor": error.tensor,
        "channels": int(error.sqnr_db.size),
        "dead": error.dead,
        "worst_channel": error.worst_channel,
        "sqnr_db": {"min": number(low), "median": number(median), "max": number(high)},
        "scale": {
            "min": float(error.scale.min()), "median": float(np.median(error.scale)), "max": float(error.scale.max())
        },
    }  # fmt: skip


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
