"""The trade-off of a search as a static picture: the same drawing as on the page, on white."""

from __future__ import annotations

from typing import Any

from quantlab.report.front import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Mark
from quantlab.report.plots.pictures import draw_png

LEGEND = (
    ("front", "on the front, measured", 80),
    ("front hollow", "on the front, estimated", 280),
    ("", "not on it", 484),
    ("line", "the front", 596),
    ("front best", "chosen", 712),
)
"""(kind of mark, its meaning, its place)."""
_INK, _SOFT, _LINE, _ACCENT, _BEST = "#1c2024", "#60666d", "#d9dde1", "#1f5fbf", "#8a4b00"


def plot_front(chart: Chart) -> bytes:
    """Draw a chart as PNG."""
    return draw_png((WIDTH / 100, HEIGHT / 100), lambda axes: _draw(axes, chart))


def _draw(axes: Any, chart: Chart) -> None:
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.set_axis_off()
    _axes(axes, chart)
    if chart.line:
        axes.plot(*zip(*chart.line, strict=True), color=_ACCENT, linewidth=1.3, zorder=2)
    for label in chart.labels:
        if label.leader:
            axes.plot(*zip(*label.leader, strict=True), color=_SOFT, linewidth=0.8, linestyle=":", zorder=2)
        _text(axes, label.text_x, label.y, label.text, {"start": "left", "end": "right"}.get(label.anchor, "center"))
    for level, mark in enumerate(chart.marks, 5):
        _dot(axes, mark, level)
    for kind, meaning, x in LEGEND:
        if kind == "line":
            axes.plot([x - 8, x + 8], [20, 20], color=_ACCENT, linewidth=1.3)
        else:
            flags = ("hollow" not in kind, "front" in kind, "best" in kind)
            _dot(axes, Mark(x, 20, "", "", *flags, False), 5)
        _text(axes, x + 16, 20, meaning, "left")


def _axes(axes: Any, chart: Chart) -> None:
    for y, text in chart.y_ticks:
        axes.plot([LEFT, RIGHT], [y, y], color=_LINE, linewidth=0.8, zorder=0)
        _text(axes, LEFT - 10, y, text, "right")
    axes.plot([LEFT, LEFT, RIGHT], [TOP, BOTTOM, BOTTOM], color=_SOFT, linewidth=0.8, zorder=1)
    for y in chart.breaks:
        axes.plot([LEFT, LEFT], [y - 4, y + 4], color="white", linewidth=3, zorder=1)
        for offset in (-1, 7):
            axes.plot([LEFT - 6, LEFT + 6], [y + offset, y + offset - 6], color=_SOFT, linewidth=0.8, zorder=1)
    for x, text in chart.x_ticks:
        axes.plot([x, x], [BOTTOM, BOTTOM + 5], color=_SOFT, linewidth=0.8, zorder=1)
        _text(axes, x, BOTTOM + 17, text, "center")
    _text(axes, (LEFT + RIGHT) / 2, HEIGHT - 16, "latency per batch, ms (left is faster)", "center")
    about = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 9, "color": _INK}
    axes.text(18, (TOP + BOTTOM) / 2, "SQNR of the output, dB (higher is closer to FP32)", **about)


def _text(axes: Any, x: float, y: float, text: str, align: str) -> None:
    axes.text(x, y, text, ha=align, va="center_baseline", fontsize=9, color=_INK, zorder=4)


def _dot(axes: Any, mark: Mark, level: int) -> None:
    color = _BEST if mark.is_best else _ACCENT if mark.on_front else _SOFT
    fill = color if mark.measured else "white"
    axes.scatter([mark.x], [mark.y], s=70, facecolor=fill, edgecolor=color, linewidth=1.4, zorder=level)
    if mark.is_best:
        axes.scatter([mark.x], [mark.y], s=215, facecolor="none", edgecolor=color, linewidth=1.4, zorder=level)
    if mark.is_beyond:
        x, y = mark.x, mark.y
        axes.plot([x + 10, x + 15, x + 10], [y - 4, y, y + 4], color=_SOFT, linewidth=0.9, zorder=level)
