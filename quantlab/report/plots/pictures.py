"""Pictures as files of their own."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from quantlab.report.noise_bar import NoiseBar
from quantlab.report.plots.style import COLORS, INK, drawing
from quantlab.report.plots.svg import short


def draw_noise_bars(groups: Mapping[str, Sequence[NoiseBar]], total_db: float | None, kind: str) -> bytes:
    """Draw a bar per place, the worst above, and the estimate as a dot.

    Args:
        groups: Heading -> bars, one group at least.
        total_db: SQNR with INT8 everywhere, drawn as a line; None for none.
        kind: 'png' or 'svg'.

    Returns:
        The content of a file.
    """
    heights = [len(bars) + 1.5 for bars in groups.values()]
    with drawing("quantlab-sensitivity"):
        figure = Figure(figsize=(9, 0.8 + 0.24 * sum(heights)), layout="constrained")
        grid = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=heights).ravel()
        for axes, (heading, bars) in zip(grid, groups.items(), strict=True):
            rows = np.arange(len(bars))[::-1]
            axes.barh(rows, [_shown(bar.truth_db) for bar in bars], color=COLORS[0], height=0.62)
            axes.scatter([_shown(bar.estimate_db) for bar in bars], rows, color=COLORS[1], s=22, zorder=3)
            axes.set_yticks(rows, [short(bar.name) for bar in bars])
            axes.set_title(heading, fontsize=9, loc="left")
            if total_db is not None and np.isfinite(total_db):
                axes.axvline(total_db, color=INK, linewidth=1, linestyle="--")
        line = "" if total_db is None else "; dashed: INT8 everywhere"
        grid[-1].set_xlabel(f"SQNR of the outputs with INT8 there alone, dB\nbar: measured, dot: estimated{line}")
        buffer = io.BytesIO()
        metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()


def _shown(value: float | None) -> float:
    """A number for an axis; what is infinite or was not measured leaves a gap."""
    return value if value is not None and np.isfinite(value) else float("nan")


def draw_png(inches: tuple[float, float], draw: Callable[[Axes], object]) -> bytes:
    """Draw a picture that stands for itself, on white.

    Args:
        inches: Width and height.
        draw: What is drawn, on axes that fill all of it.

    Returns:
        PNG.
    """
    with drawing():
        figure = Figure(figsize=inches, dpi=160, facecolor="white")
        draw(figure.add_axes((0, 0, 1, 1)))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()
