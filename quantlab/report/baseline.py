"""What changed since an earlier report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from quantlab.calibration.made_from import preprocess_notices
from quantlab.comparison import Comparison
from quantlab.errors import DataError
from quantlab.files import read_text
from quantlab.report.format import FORMAT, READABLE, VERSION
from quantlab.strict_json import parse_json
from quantlab.typed_json import Check, Positive, Share, typed


def load_document(path: Path) -> dict[str, Any]:
    """A report.json of this version or the one before. DataError for anything else."""
    try:
        document = parse_json(read_text(path, "report"))
        head = {name: document.get(name) for name in ("format", "version")} if isinstance(document, dict) else {}
        if head.get("format") != FORMAT or type(head["version"]) is not int or head["version"] not in READABLE:
            raise ValueError(f"format {head.get('format')!r} version {head.get('version')!r}, expected {VERSION}")
        _check_document(document)
        return dict(document)
    except ValueError as error:
        raise DataError(f"{path} is not a report of this version: {error}", hint="give a report.json") from error


@dataclass(frozen=True, slots=True)
class _Model:
    """What is read of a model."""

    name: str
    top1: Share | None
    metric: float | None
    sqnr_db: float | Annotated[str, Check(("inf", "-inf", "nan").__contains__, "a number of dB, inf, -inf or nan")]
    facts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What is read of the comparison."""

    samples: Positive
    models: tuple[_Model, ...]


@dataclass(frozen=True, slots=True)
class _Provenance:
    """What is read of the provenance."""

    model_hash: str
    data_hash: str | None = None
    labels_hash: str | None = None
    metric_hash: str | None = None


@dataclass(frozen=True, slots=True)
class _Document:
    """What is read of a report."""

    title: str
    provenance: _Provenance
    comparison: _Comparison


def _check_document(document: Mapping[str, Any]) -> None:
    """ValueError unless all that a later report reads of this one is as it should be."""
    comparison = _part(document.get("comparison"), _Comparison)
    if isinstance(comparison, dict) and isinstance(comparison.get("models"), list):
        comparison |= {"models": [_part(model, _Model) for model in comparison["models"]]}
    parts = {"provenance": _part(document.get("provenance"), _Provenance), "comparison": comparison}
    read: _Document = typed(_part(document, _Document) | parts, _Document)
    names = [model.name for model in read.comparison.models]
    if len(set(names)) < len(names):
        raise ValueError("two of its models have the same name")
    if any(model.facts.get("latency_p50_ms", 0.0) < 0 for model in read.comparison.models):
        raise ValueError("a latency is negative")


def _part(value: Any, kind: type) -> Any:
    """Of an object the keys that are read: others may stand in it."""
    return {k: v for k, v in value.items() if k in kind.__annotations__} if isinstance(value, dict) else value


def changes_since(baseline: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare with an earlier report.

    Args:
        baseline: The earlier document.
        models: The models of the new one.

    Returns:
        Per model that both have: new minus old of accuracy (0..1), metric and SQNR (dB), and new over old of the
        latencies, None where one of them is not known; and the names of models that only one has.
    """
    old = {m["name"]: m for m in baseline["comparison"]["models"]}
    new = {m["name"]: m for m in models}
    return {
        "title": baseline["title"],
        "model_hash": baseline["provenance"]["model_hash"],
        "samples": baseline["comparison"]["samples"],
        "models": [
            {
                "name": name,
                "top1": _difference(old[name]["top1"], m["top1"]),
                "metric": _difference(old[name]["metric"], m["metric"]),
                "sqnr_db": _difference(old[name]["sqnr_db"], m["sqnr_db"]),
                "latency_ratio": _ratio(old[name]["facts"], m["facts"]),
            }
            for name, m in new.items()
            if name in old
        ],
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
    }


def _difference(old: object, new: object) -> float | None:
    both = isinstance(old, (int, float)) and isinstance(new, (int, float))
    return _finite(float(new) - float(old)) if both else None  # type: ignore[arg-type]


def _ratio(old: Mapping[str, float], new: Mapping[str, float]) -> float | None:
    key = "latency_p50_ms"
    return _finite(new[key] / old[key]) if key in old and key in new and old[key] > 0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def other_origin(baseline: Mapping[str, Any], comparison: Comparison) -> list[str]:
    """Say what an earlier report was made of that this comparison is not made of.

    Args:
        baseline: The earlier document.
        comparison: The new one.

    Returns:
        A line for another FP32 model, one for another preprocess, one for other samples, one for other labels, one for
        another metric; the last three go by hashes where both reports have them.
    """
    lines = []
    before = baseline["provenance"]
    if before["model_hash"] != comparison.model_hash:
        lines.append(
            f"the baseline is of another FP32 model ({str(before['model_hash'])[:12]}) than this "
            f"({comparison.model_hash[:12]}): the differences are not those of quantization"
        )
    made, now = before.get("preprocess"), comparison.preprocess
    other_preprocess = isinstance(made, dict) and now is not None and made != now
    if other_preprocess:
        lines += preprocess_notices(made, now, "the baseline") or ["the data are made otherwise than the baseline's"]
    samples = baseline["comparison"]["samples"]
    if samples != comparison.samples:
        lines.append(f"the baseline is of other data: {samples} samples, here {comparison.samples}")
    elif not other_preprocess and _differ(before.get("data_hash"), comparison.data_hash):
        lines.append("the baseline is of other data: as many samples, with other values")
    elif _differ(before.get("labels_hash"), comparison.labels_hash):
        lines.append("the baseline is of other labels of the same samples")
    if _differ(before.get("metric_hash"), comparison.metric_hash):
        lines.append("the baseline has another metric, or its file was changed: the difference may be of that")
    return lines


def _differ(old: object, new: object) -> bool:
    """Whether both are known, and are not the same."""
    return bool(old) and bool(new) and old != new
