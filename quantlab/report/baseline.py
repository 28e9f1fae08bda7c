"""What changed since an earlier report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quantlab.errors import DataError
from quantlab.files import read_text
from quantlab.report.format import FORMAT, READABLE, VERSION


def load_document(path: Path) -> dict[str, Any]:
    """A report.json of this version or the one before. DataError for anything else."""
    try:
        document = json.loads(read_text(path, "report"))
        if document["format"] != FORMAT or document["version"] not in READABLE:
            raise ValueError(f"format {document['format']!r} version {document['version']!r}, expected {VERSION}")
        for model in document["comparison"]["models"]:
            _ = model["name"], model["top1"], model["metric"], model["sqnr_db"], model["facts"]
        _ = document["title"], document["provenance"]["model_hash"], document["comparison"]["samples"]
        return dict(document)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a report of this version: {error}", hint="give a report.json") from error


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
    return float(new) - float(old) if both else None  # type: ignore[arg-type]


def _ratio(old: Mapping[str, float], new: Mapping[str, float]) -> float | None:
    key = "latency_p50_ms"
    return new[key] / old[key] if key in old and key in new and old[key] else None
