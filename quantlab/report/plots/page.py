"""All plots of a report's page, as SVG text. matplotlib is imported in this folder only; no display is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quantlab.report.class_rows import ClassRow
from quantlab.report.plots.classes import plot_classes
from quantlab.report.plots.models import plot_latency, plot_quality, plot_tradeoff
from quantlab.report.plots.style import Look, looks_of
from quantlab.report.plots.tensors import (
    algorithms_of,
    most_disputed,
    plot_amax,
    plot_error_trace,
    plot_histograms,
    plot_weights,
    tensor_rows,
)


def draw(document: Mapping[str, Any], best: Mapping[str, Any] | None, classes: Sequence[ClassRow]) -> dict[str, str]:
    """Draw what a document has.

    Args:
        document: The document.
        best: The model that the verdict names, None if there is none.
        classes: Its classes, in the order of the page.

    Returns:
        Name -> SVG text, '' for what the document does not have.
    """
    comparison, calibration, trace = document["comparison"], document["calibration"], document["error_trace"]
    models, metric = comparison["models"], comparison["metric_name"]
    tensors = calibration["tensors"] if calibration else []
    look_of = looks(document)
    readers, makers = tensor_rows(document)
    return {
        "quality": plot_quality(models, look_of, metric),
        "tradeoff": plot_tradeoff(models, look_of, metric),
        "latency": plot_latency(models, look_of),
        "error_trace": plot_error_trace(trace, look_of, makers) if trace and trace["tensors"] else "",
        "weights": plot_weights(trace, readers) if trace and trace["weights"] else "",
        "classes": plot_classes(classes, best["name"], look_of[best["name"]]) if best and classes else "",
        "amax": plot_amax(tensors, look_of, readers) if tensors else "",
        "histograms": plot_histograms(tensors, look_of, readers) if tensors else "",
    }


def looks(document: Mapping[str, Any]) -> dict[str, Look]:
    """The look of every model and algorithm of a document, the same in all of its plots."""
    calibration, trace = document["calibration"], document["error_trace"]
    names = [m["name"] for m in document["comparison"]["models"]]
    names += trace["models"] if trace else []
    names += algorithms_of(calibration["tensors"]) if calibration else []
    return looks_of(list(dict.fromkeys(names)))


def algorithms(document: Mapping[str, Any]) -> list[str]:
    """The algorithms or models whose thresholds are drawn."""
    return algorithms_of(document["calibration"]["tensors"]) if document["calibration"] else []


def disputed(document: Mapping[str, Any]) -> int:
    """How many histograms are drawn."""
    return len(most_disputed(document["calibration"]["tensors"])) if document["calibration"] else 0
