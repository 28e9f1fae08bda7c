"""The report as plain data. Everything the pages show is in this document; nothing else is.

Described by `schema.json` beside this file. Ratios are 0..1. An SQNR is a number, "inf" where the outputs are equal,
"-inf" where FP32 is all zero, "nan" where a value was no number.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from quantlab.calibration import CalibrationRun, CalibrationTable
from quantlab.comparison import Comparison, ErrorTrace, ModelResult
from quantlab.comparison.judge import MLPERF, reaches
from quantlab.comparison.tally import WorstSample
from quantlab.data.shown import ShownSample
from quantlab.observers import Histogram
from quantlab.plain_text import printable, without_folders
from quantlab.qdq import Layer
from quantlab.report.baseline import changes_since
from quantlab.report.format import FORMAT, VERSION, number, short_float
from quantlab.report.hint import Hint
from quantlab.report.judgement import judge
from quantlab.report.layers import layer_documents, weight_document
from quantlab.report.next_steps import next_steps
from quantlab.report.provenance import provenance_of
from quantlab.report.verdict import chosen, verdict

_BINS = 128
PICTURE = "data:image/jpeg;base64,"
"""How the text of a picture begins."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known beside the comparison.

    Attributes:
        run: A calibration, with histograms.
        histograms_of: Which data the histograms show.
        graph: The Q/DQ model behind what the verdict names, None where it is not known: an engine has another name.
        layers: The nodes of that.
        traces: Model -> where its error comes from.
        baseline: An earlier document to compare with.
        hint: What to do about the best model, if it is far from FP32.
        bar: The least share of FP32's accuracy that passes, 0..1.
        file: Of the model that the verdict names, without folder; '' if it is in none.
        build_options: What `quantlab trtexec` has to be told of that beside its file.
    """

    run: CalibrationRun | None = None
    histograms_of: str = "the calibration data"
    graph: str | None = None
    layers: Sequence[Layer] = ()
    traces: Mapping[str, ErrorTrace] = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None
    hint: Hint | None = None
    bar: float = MLPERF
    file: str = ""
    build_options: str = ""


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
    models = [_model(r, comparison, evidence.bar) for r in comparison.results]
    shown = chosen(comparison, evidence.bar)
    judgement = judge(comparison, shown, evidence.bar) if shown else None
    return {
        "format": FORMAT,
        "version": VERSION,
        "title": title,
        "verdict": verdict(comparison, evidence.bar),
        "judgement": asdict(judgement) | {"value": number(judgement.value)} if judgement else None,
        "next": next_steps(comparison, shown, judgement, evidence.hint, (evidence.file, evidence.build_options)),
        "partial": comparison.partial,
        "comparison": {
            "samples": comparison.samples,
            "labeled": comparison.labeled,
            "scores": comparison.scores,
            "best": shown.name if shown else None,
            "threshold": evidence.bar,
            "models": models,
            "metric_name": None if comparison.metric_name is None else printable(comparison.metric_name),
            "class_names": {str(c): printable(name) for c, name in sorted(comparison.class_names.items())},
            "pictures": _pictures(comparison, shown),
        },
        "calibration": _calibration(run, evidence.histograms_of) if run else None,
        "layers": _layers(evidence) if evidence.layers else None,
        "error_trace": _error_trace(evidence.traces, evidence.graph) if evidence.traces else None,
        "hint": evidence.hint.document() if evidence.hint else None,
        "baseline": changes_since(evidence.baseline, models) if evidence.baseline else None,
        "warnings": list(dict.fromkeys(map(without_folders, [*comparison.warnings, *table_warnings, *warnings]))),
        "provenance": provenance_of(comparison, tables, shown, command),
    }


def _model(result: ModelResult, comparison: Comparison, bar: float) -> dict[str, Any]:
    retained = result.retained(comparison.fp32)
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
        "worst": [_worst(w, comparison.shown.get(w.index)) for w in result.worst],
        "classes": [{"class": c, "samples": n, "agreed": same} for c, (n, same) in result.classes.items()],
        "labels": [{"class": c} | asdict(of) for c, of in result.labels.items()],
        "changes": [asdict(change) for change in result.changes],
        "int8": result.int8,
        "facts": {key: float(value) for key, value in result.facts.items() if math.isfinite(value)},
    }


def _worst(sample: WorstSample, shown: ShownSample | None) -> dict[str, Any]:
    file = printable(shown.file) if shown is not None and shown.file else None
    return asdict(sample) | {"sqnr_db": number(sample.sqnr_db), "file": file}


def _pictures(comparison: Comparison, shown: ModelResult | None) -> dict[str, str]:
    """Of the samples that suffer most under the model that the verdict names."""
    worst = [(w.index, comparison.shown.get(w.index)) for w in (shown.worst if shown else ())]
    return {
        str(index): f"{PICTURE}{base64.b64encode(sample.picture).decode()}"
        for index, sample in worst
        if sample is not None and sample.picture
    }


def _error_trace(traces: Mapping[str, ErrorTrace], graph: str | None) -> dict[str, Any]:
    names = _in_order([list(trace.tensors) for trace in traces.values()])
    chosen = graph if graph is not None and graph in traces else next(iter(traces))
    return {
        "tensors": [
            {"name": name, "sqnr_db": {m: number(t.tensors[name]) for m, t in traces.items() if name in t.tensors}}
            for name in names
        ],
        "model": chosen,
        "models": list(traces),
        "weights": [weight_document(error) for error in traces[chosen].weights],
        "unmatched": traces[chosen].unmatched,
    }


def _in_order(chains: Sequence[Sequence[str]]) -> list[str]:
    """All names, each chain's order kept: they are parts of one network order."""
    before: dict[str, dict[str, None]] = {}  # dicts, not sets: the same names give the same order
    for chain in chains:
        for k, name in enumerate(chain):
            before.setdefault(name, {}).update(dict.fromkeys(chain[k - 1 : k] if k else ()))
    return list(TopologicalSorter(before).static_order())


def _calibration(run: CalibrationRun, data: str) -> dict[str, Any]:
    return {
        "histograms_of": data,
        "samples": run.provenance.samples,
        "tensors": [_tensor(name, run.tables, histogram) for name, histogram in run.histograms.items()],
    }


def _tensor(name: str, tables: Mapping[str, CalibrationTable], histogram: Histogram) -> dict[str, Any]:
    amax = {key: table.amax[name] for key, table in tables.items() if name in table.amax}
    return {
        "name": name,
        "amax": {key: short_float(value) for key, value in amax.items()},
        "saturated": {key: histogram.share_above(float(value)) for key, value in amax.items()},
        "range": float(histogram.range),
        "counts": [int(c) for c in histogram.counts.reshape(_BINS, -1).sum(axis=1)],
    }


def _layers(evidence: Evidence) -> dict[str, Any]:
    trace = evidence.traces.get(evidence.graph or "")
    histograms = evidence.run.histograms if evidence.run else {}
    return {"model": evidence.graph, "rows": layer_documents(evidence.layers, trace, histograms)}
