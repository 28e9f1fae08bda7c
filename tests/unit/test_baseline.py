"""What changed since an earlier report, and what is no report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantlab.errors import DataError
from quantlab.report import load_document
from quantlab.report.baseline import changes_since


def row(name: str, top1: Any = None, metric: Any = None, sqnr: Any = "inf", **facts: float) -> dict[str, Any]:
    return {"name": name, "top1": top1, "metric": metric, "sqnr_db": sqnr, "facts": facts}


def earlier(*rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": "old",
        "provenance": {"model_hash": "h"},
        "comparison": {"samples": 7, "models": list(rows)},
    }


def test_changes_are_new_minus_old_and_latency_is_a_ratio() -> None:
    old = earlier(row("fp32", 0.5), row("a", 0.25, 3.0, 30.0, latency_p50_ms=2.0), row("gone", 0.1))
    found = changes_since(old, [row("fp32", 0.5), row("new"), row("a", 0.75, 2.5, 31.5, latency_p50_ms=1.5)])
    assert (found["title"], found["model_hash"], found["samples"]) == ("old", "h", 7)
    assert (found["added"], found["removed"]) == (["new"], ["gone"])
    same = {"name": "fp32", "top1": 0.0, "metric": None, "sqnr_db": None, "latency_ratio": None}
    assert found["models"] == [
        same,
        {"name": "a", "top1": 0.5, "metric": -0.5, "sqnr_db": 1.5, "latency_ratio": 0.75},
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (row("a", None, None, "inf"), row("a", 0.5, 1.0, 30.0, latency_p50_ms=1.0)),
        (row("a", 0.5, 1.0, 30.0, latency_p50_ms=1.0), row("a", None, None, "-inf")),
        (row("a", None, None, "nan", latency_p50_ms=0.0), row("a", None, None, "nan", latency_p50_ms=1.0)),
    ],
)
def test_what_only_one_report_has_or_is_no_number_has_no_difference(old: dict[str, Any], new: dict[str, Any]) -> None:
    (found,) = changes_since(earlier(old), [new])["models"]
    assert found == {"name": "a", "top1": None, "metric": None, "sqnr_db": None, "latency_ratio": None}


def test_report_of_the_version_before_can_be_a_baseline(tmp_path: Path) -> None:
    """Format 3 renamed what a baseline does not need (the error trace, the class of a worst sample)."""
    older = earlier(row("fp32", 0.5), row("a", 0.25)) | {"format": "quantlab.report", "version": 2, "origin": None}
    path = tmp_path / "old.json"
    path.write_text(json.dumps(older))
    assert load_document(path) == older
    changes = changes_since(load_document(path), [row("fp32", 0.5), row("a", 0.5)])
    assert [m["top1"] for m in changes["models"]] == [0.0, 0.25]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"format": "quantlab.report", "version": 1}', "format 'quantlab.report' version 1, expected 4"),
        ('{"format": "quantlab.report", "version": 5}', "format 'quantlab.report' version 5, expected 4"),
        (
            '{"format": "quantlab.report", "version": 3, "comparison": {}}',
            "is not a report of this version: it has no 'title'",
        ),
        ('{"format": "quantlab.calibration_table", "version": 2}', "format 'quantlab.calibration_table' version 2"),
        ('{"version": 2}', "is not a report of this version: format None version 2"),
        ("[1, 2]", "is not a report of this version"),
        ("TRT-8600-EntropyCalibration2", "is not a report of this version: Expecting value"),
        ("", "is not a report of this version: Expecting value"),
    ],
)
def test_file_of_another_format_is_refused_as_a_baseline(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(DataError, match=reason):
        load_document(path)


def test_baseline_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="report .*missing.json cannot be read"):
        load_document(tmp_path / "missing.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="report .*binary.json cannot be read"):
        load_document(tmp_path / "binary.json")
