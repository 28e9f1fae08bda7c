"""What a report was made from: models, data, preprocess, versions, date."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from quantlab.calibration import CalibrationTable, Provenance
from quantlab.comparison import Comparison, ModelResult
from quantlab.dates import now
from quantlab.plain_text import command_text, without_folders
from quantlab.version import __version__

JUDGE = (
    "Models run on ONNX Runtime on the CPU as their graphs are written (optimisation off); its speed says nothing "
    "about TensorRT and is not reported."
)
"""What ran the models, and what that does not say."""


def provenance_of(
    comparison: Comparison,
    tables: Mapping[str, CalibrationTable],
    shown: ModelResult | None,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Say where the figures of a report come from.

    Args:
        comparison: What was measured.
        tables: Of the calibration, where it is part of the report.
        shown: The model that the verdict names, which says of itself what it was calibrated with.
        command: The command line that made the report.

    Returns:
        Plain values, as `schema.json` describes them.
    """
    return {
        "date": now(),
        "model_hash": comparison.model_hash,
        "data_hash": comparison.data_hash,
        "labels_hash": comparison.labels_hash,
        "metric_hash": comparison.metric_hash,
        "preprocess": comparison.preprocess,
        "calibration": _calibration(tables, shown),
        "models": [
            {"name": r.name, "hash": r.hash or None, "made_from": dict(r.made_from)} for r in comparison.results
        ],
        "judge": JUDGE,
        "quantlab": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "command": command_text(command),
    }


def _calibration(tables: Mapping[str, CalibrationTable], shown: ModelResult | None) -> dict[str, Any] | None:
    """Of the tables, else what the model says that it was calibrated with; None where neither is known."""
    calibrated = next((table.provenance for table in tables.values() if table.provenance.samples), Provenance())
    known = asdict(calibrated)
    if not calibrated.samples and shown is not None:
        known |= _readable(shown.made_from)
    if not known["samples"]:
        return None
    return {f.name: known[f.name] for f in fields(Provenance) if f.name != "algorithm"} | {
        "source": without_folders(known["source"])
    }


def _readable(made_from: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a model's metadata, which anyone may have written, that are of the type that they have here."""
    empty = asdict(Provenance())
    kinds = {name: dict if name == "preprocess" else type(value) for name, value in empty.items()}
    found: dict[str, Any] = {
        n: v for n, v in made_from.items() if n in kinds and type(v) is kinds[n] and (v or n == "preprocess")
    }
    versions = found.get("versions", {})
    counts = [found.get(name, 0) for name in ("samples", "batches", "batch_size")]
    is_sound = all(isinstance(value, str) for value in versions.values()) and min(counts) >= 0
    return found if is_sound else {}
