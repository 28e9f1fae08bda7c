"""Classes side by side, with how far so few samples can tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from quantlab.report.class_rows import ClassRow
from quantlab.report.plots.style import INK, Look, drawing
from quantlab.report.plots.svg import Marks, legend_label, short, svg_text

SHOWN = 30
"""Classes that can still be read."""


def plot_classes(rows: Sequence[ClassRow], model: str, look: Look) -> str:
    """Draw the share that is right of every class (without labels: that keeps its class), with 95 % intervals.

    Args:
        rows: The classes that change most first.
        model: The name of the model.
        look: Its look.

    Returns:
        SVG text; empty where none is shown.
    """
    shown = shown_classes(rows)[::-1]
    if not shown:
        return ""
    labelled = shown[0].fp32 is not None
    marks = Marks()
    with drawing():
        figure = Figure(figsize=(9, 0.9 + 0.26 * len(shown)), layout="constrained")
        axes = figure.subplots()
        y = np.arange(len(shown))
        best = [row.best for row in shown]
        above = y + 0.15 if labelled else y
        axes.hlines(above, [100 * s.low for s in best], [100 * s.high for s in best], color=look.color, linewidth=1.4)
        drawn = axes.scatter(
            [100 * s.value for s in best], above, color=look.color, marker=look.marker, s=26, zorder=3,
            label=legend_label(model),
        )  # fmt: skip
        marks.points(drawn, [(f"{row.name}: {row.best.hits} of {row.samples}", _row(row)) for row in shown])
        if labelled:
            fp32 = [row.fp32 for row in shown if row.fp32 is not None]
            below = y - 0.15
            axes.hlines(below, [100 * s.low for s in fp32], [100 * s.high for s in fp32], color=INK, linewidth=0.9)
            drawn = axes.scatter(
                [100 * s.value for s in fp32], below, facecolors="none", edgecolors=INK, s=22, zorder=3, label="fp32"
            )
            named = zip(shown, fp32, strict=True)
            marks.points(drawn, [(f"{row.name}: FP32 {s.hits} of {row.samples}", _row(row)) for row, s in named])
            figure.legend(loc="outside upper center", frameon=False, ncols=2, fontsize=8)
        axes.set_yticks(y, [short(row.name, 30) for row in shown], fontsize=8)
        for label, row in zip(axes.get_yticklabels(), shown, strict=True):
            marks.one(label, f"{row.name}, class {row.number}", _row(row))
        lowest = min(s.low for row in shown for s in (row.best, *([row.fp32] if row.fp32 else [])))
        axes.set_xlim(100 * lowest - 2, 101)
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.grid(axis="x", color=INK, alpha=0.12)
        what = "right" if labelled else "that keep the class that FP32 gives"
        axes.set_xlabel(f"samples of the class {what}, % (lines: 95 %)")
        return svg_text(figure, "classes", "Accuracy by class" if labelled else "Agreement with FP32 by class", marks)


def shown_classes(rows: Sequence[ClassRow]) -> list[ClassRow]:
    """The classes that are drawn: all of a few, of many those in which something changes."""
    return list(rows) if len(rows) <= SHOWN else [row for row in rows if row.changed][:SHOWN]


def _row(row: ClassRow) -> str:
    return f"class-{row.number}"
