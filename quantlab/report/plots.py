"""The report's plots as SVG text. matplotlib is imported here only; no display and no global state is touched.

Text and axes are drawn in one placeholder colour that becomes `currentColor`, so that a plot follows the page's light
or dark theme.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

_INK = "#010203"
_COLORS = ("#3b7dd8", "#d9730d", "#2a9d5c", "#b04ac1", "#c43d3d", "#8a8d18", "#1aa6a6", "#7d6b5d")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of models and tensors may hold a $
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_SHOWN = 24  # histograms on a page; more would hide what matters


def colors_of(algorithms: Sequence[str]) -> dict[str, str]:
    """One colour per algorithm, the same in every plot."""
    return {name: _COLORS[i % len(_COLORS)] for i, name in enumerate(algorithms)}


def plot_quality(models: Sequence[Mapping[str, Any]]) -> str:
    """Top-1 (where known) and SQNR per quantized model; FP32's top-1 as a line."""
    fp32, candidates = models[0], list(models[1:])
    colors = colors_of([m["name"] for m in candidates])
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 0.7 + 0.34 * len(candidates)), layout="constrained")
        with_top1 = fp32["top1"] is not None
        axes = figure.subplots(1, 2 if with_top1 else 1, sharey=True, squeeze=False)[0]
        names = [m["name"] for m in candidates][::-1]
        bars = [colors[n] for n in names]
        if with_top1:
            top1 = [100 * m["top1"] for m in candidates][::-1]
            axes[0].scatter(top1, names, color=bars, zorder=3, s=45)
            axes[0].axvline(100 * fp32["top1"], color=_INK, linewidth=1, linestyle="--")
            axes[0].set_xlabel(f"top-1 % (dashed: FP32, {100 * fp32['top1']:.2f})")
            _annotate(axes[0], top1, [f"{v:.2f}" for v in top1])
            axes[0].margins(x=0.25)
        values = [m["sqnr_db"] for m in candidates][::-1]
        longest = max((v for v in values if isinstance(v, float)), default=1.0)
        sqnr = [v if isinstance(v, float) else (longest if v == "inf" else 0.0) for v in values]
        axes[-1].barh(names, sqnr, color=bars, height=0.62)
        axes[-1].set_xlabel("SQNR of the output, dB (higher is closer to FP32)")
        _annotate(axes[-1], sqnr, [f"{v:.1f}" if isinstance(v, float) else v.replace("inf", "∞") for v in values])
        axes[-1].margins(x=0.12)
        return _svg(figure, "quality", "Top-1 accuracy and SQNR of every quantized model")


def _annotate(axes: Axes, values: Sequence[float], texts: Sequence[str]) -> None:
    for row, (value, text) in enumerate(zip(values, texts, strict=True)):
        axes.annotate(text, (value, row), xytext=(7, 0), textcoords="offset points", va="center")


def plot_amax(tensors: Sequence[Mapping[str, Any]]) -> str:
    """amax of every tensor along the network, one line per algorithm, log scale."""
    algorithms = list(tensors[0]["amax"])
    colors = colors_of(algorithms)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        axes = figure.subplots()
        x = np.arange(len(tensors))
        for name in algorithms:
            y = np.array([t["amax"][name] for t in tensors], float)
            y[y == 0] = np.nan  # an all-zero tensor has no place on a log axis
            axes.plot(x, y, color=colors[name], label=name, marker="o", markersize=3, linewidth=1)
        _log_scale(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("tensor, in network order")
        axes.set_ylabel("amax (kept magnitude)")
        axes.legend(frameon=False, ncols=min(4, len(algorithms)), fontsize=8)
        return _svg(figure, "amax", "Kept magnitude of every tensor by algorithm")


def plot_histograms(tensors: Sequence[Mapping[str, Any]]) -> str:
    """Histograms of |x| (log counts) with every algorithm's threshold, for the tensors on which they differ most."""
    chosen = most_disputed(tensors)
    algorithms = list(chosen[0]["amax"])
    colors = colors_of(algorithms)
    columns = 3
    rows = -(-len(chosen) // columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 1.65 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, tensor in zip(grid, chosen, strict=False):
            counts = np.array(tensor["counts"], float)
            edges = np.linspace(0, tensor["range"], len(counts) + 1)
            axes.stairs(np.maximum(counts, 0.5), edges, fill=True, color="#8886", baseline=0.5)
            for name in algorithms:
                axes.axvline(tensor["amax"][name], color=colors[name], linewidth=1.2)
            _log_scale(axes)
            axes.set_title(_short(tensor["name"]), fontsize=7)
            axes.tick_params(labelsize=6)
        for axes in grid[len(chosen) :]:
            axes.set_axis_off()
        handles = [figure.axes[0].plot([], [], color=colors[n], label=n)[0] for n in algorithms]
        columns = min(6, len(algorithms))
        figure.legend(handles=handles, loc="outside upper center", frameon=False, ncols=columns, fontsize=8)
        return _svg(figure, "histograms", "Activation histograms with the threshold of every algorithm")


def _log_scale(axes: Axes) -> None:
    """A log y axis with plain numbers: matplotlib's own labels are mathematics, which is switched off for names."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def most_disputed(tensors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Up to 24 tensors with the largest ratio of the algorithms' thresholds, in network order."""
    nonzero = [t for t in tensors if t["range"] > 0] or list(tensors[:1])
    by_ratio = sorted(nonzero, key=lambda t: -max(t["amax"].values()) / max(min(t["amax"].values()), 1e-30))
    chosen = {t["name"] for t in by_ratio[:_SHOWN]}
    return [t for t in nonzero if t["name"] in chosen]


def _short(name: str, limit: int = 40) -> str:
    return name if len(name) <= limit else "…" + name[1 - limit :]


def _svg(figure: Figure, name: str, description: str) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": f"quantlab-{name}"}):
        metadata = {"Date": None, "Creator": None, "Title": description}
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # ids must be unique on a page that holds several plots
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)
