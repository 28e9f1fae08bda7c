"""The report's plots as SVG text. matplotlib is imported here only; no display and no global state is touched.

Text and axes are drawn in one placeholder colour that becomes `currentColor`, so that a plot follows the page's light
or dark theme.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from quantlab.report.plots.style import COLORS, INK, drawing

_SHOWN = 24  # histograms on a page; more would hide what matters
_CLASSES = 30  # bars that can still be read


def colors_of(algorithms: Sequence[str]) -> dict[str, str]:
    """One colour per algorithm, the same in every plot."""
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(algorithms)}


def plot_quality(models: Sequence[Mapping[str, Any]]) -> str:
    """Top-1 (where known) and SQNR per quantized model; FP32's top-1 as a line."""
    colors = colors_of([m["name"] for m in models[1:]])
    fp32, candidates = models[0], [m for m in models[1:] if not m["failed"]]
    with drawing():
        figure = Figure(figsize=(9, 0.7 + 0.34 * len(candidates)), layout="constrained")
        with_top1 = fp32["top1"] is not None and bool(candidates)
        axes = figure.subplots(1, 2 if with_top1 else 1, sharey=True, squeeze=False)[0]
        names = [m["name"] for m in candidates][::-1]
        rows = np.arange(len(names))  # not the names: two that are shortened may look alike
        bars = [colors[n] for n in names]
        if with_top1:
            top1 = [100 * m["top1"] for m in candidates][::-1]
            axes[0].scatter(top1, rows, color=bars, zorder=3, s=45)
            axes[0].axvline(100 * fp32["top1"], color=INK, linewidth=1, linestyle="--")
            axes[0].set_xlabel(f"top-1 % (dashed: FP32, {100 * fp32['top1']:.2f})")
            _annotate(axes[0], top1, [f"{v:.2f}" for v in top1])
            axes[0].margins(x=0.25)
        values = [m["sqnr_db"] for m in candidates][::-1]
        longest = max((v for v in values if isinstance(v, float)), default=1.0)
        sqnr = [v if isinstance(v, float) else (longest if v == "inf" else 0.0) for v in values]
        axes[-1].barh(rows, sqnr, color=bars, height=0.62)
        axes[-1].set_yticks(rows, [short(n) for n in names])
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
    with drawing():
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        axes = figure.subplots()
        x = np.arange(len(tensors))
        for name in algorithms:
            y = np.array([t["amax"][name] for t in tensors], float)
            y[y == 0] = np.nan  # an all-zero tensor has no place on a log axis
            axes.plot(x, y, color=colors[name], label=_label(name), marker="o", markersize=3, linewidth=1)
        _log_scale(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("tensor, in network order")
        axes.set_ylabel("amax (kept magnitude)")
        axes.legend(frameon=False, ncols=_columns(algorithms), fontsize=8)
        return _svg(figure, "amax", "Kept magnitude of every tensor by algorithm")


def plot_histograms(tensors: Sequence[Mapping[str, Any]]) -> str:
    """Histograms of |x| (log counts) with every algorithm's threshold, for the tensors on which they differ most."""
    chosen = most_disputed(tensors)
    algorithms = list(chosen[0]["amax"])
    colors = colors_of(algorithms)
    columns = 3
    rows = -(-len(chosen) // columns)
    with drawing():
        figure = Figure(figsize=(9, 1.65 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, tensor in zip(grid, chosen, strict=False):
            counts = np.array(tensor["counts"], float)
            edges = np.linspace(0, tensor["range"], len(counts) + 1)
            axes.stairs(np.maximum(counts, 0.5), edges, fill=True, color="#888b", baseline=0.5)
            for name in algorithms:
                axes.axvline(tensor["amax"][name], color=colors[name], linewidth=1.2)
            _log_scale(axes)
            axes.set_title(short(tensor["name"]), fontsize=7)
            axes.tick_params(labelsize=6)
        for axes in grid[len(chosen) :]:
            axes.set_axis_off()
        handles = [figure.axes[0].plot([], [], color=colors[n], label=_label(n))[0] for n in algorithms]
        figure.legend(
            handles=handles, loc="outside upper center", frameon=False, ncols=_columns(algorithms), fontsize=8
        )
        return _svg(figure, "histograms", "Activation histograms with the threshold of every algorithm")


def _log_scale(axes: Axes) -> None:
    """A log y axis with plain numbers: matplotlib's own labels are mathematics, which is switched off for names."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 1000 * low:  # else decades alone leave one or two numbers on the axis
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def most_disputed(tensors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Up to 24 tensors with the largest ratio of the algorithms' thresholds, in network order."""
    nonzero = [t for t in tensors if t["range"] > 0] or list(tensors[:1])
    by_ratio = sorted(nonzero, key=lambda t: -max(t["amax"].values()) / max(min(t["amax"].values()), 1e-30))
    chosen = {t["name"] for t in by_ratio[:_SHOWN]}
    return [t for t in nonzero if t["name"] in chosen]


def short(name: str, limit: int = 40) -> str:
    """The end of a name, which tells layers apart.

    Args:
        name: Of a layer or tensor.
        limit: Letters.

    Returns:
        As many letters at most.
    """
    return name if len(name) <= limit else "…" + name[1 - limit :]


def _columns(names: Sequence[str]) -> int:
    """Columns of a legend that fit into the width of a figure: about 120 letters, 7 of them for each line and gap."""
    longest = max((len(short(name)) for name in names), default=0)
    return max(1, min(len(names), 120 // (longest + 7)))


def _label(name: str) -> str:
    """A name in a legend: matplotlib leaves out those that start with an underscore."""
    return f" {short(name)}" if name.startswith("_") else short(name)


def plot_tradeoff(models: Sequence[Mapping[str, Any]]) -> str:
    """Latency against accuracy (SQNR without labels) of every engine that was measured; empty if none was."""
    measured = [m for m in models[1:] if "latency_p50_ms" in m["facts"] and not m["failed"]]
    if not measured:
        return ""
    colors = colors_of([m["name"] for m in models[1:]])
    by_top1 = all(m["top1"] is not None for m in measured)
    with drawing():
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots()
        for k, m in enumerate(sorted(measured, key=lambda m: m["facts"]["latency_p50_ms"])):
            x = m["facts"]["latency_p50_ms"]
            y = 100 * m["top1"] if by_top1 else _finite(m["sqnr_db"])
            axes.scatter([x], [y], color=colors[m["name"]], s=55, zorder=3)
            axes.annotate(
                short(m["name"]), (x, y), xytext=(7, 4 if k % 2 == 0 else -11), textcoords="offset points", fontsize=8
            )
        if by_top1 and models[0]["top1"] is not None:
            axes.axhline(100 * models[0]["top1"], color=INK, linewidth=1, linestyle="--")
        axes.set_xlabel("median latency per batch, ms (left is faster)")
        axes.set_ylabel("top-1 %" if by_top1 else "SQNR dB")
        axes.margins(x=0.2, y=0.2)
        return _svg(figure, "tradeoff", "Latency and accuracy of every engine")


def plot_latency(models: Sequence[Mapping[str, Any]]) -> str:
    """The median of every measuring round per engine: the noise of the measurement; empty if none was measured."""
    measured = [m for m in models[1:] if "latency_p50_ms" in m["facts"]]
    if not measured:
        return ""
    colors = colors_of([m["name"] for m in models[1:]])
    with drawing():
        figure = Figure(figsize=(9, 0.8 + 0.34 * len(measured)), layout="constrained")
        axes = figure.subplots()
        for row, m in enumerate(reversed(measured)):
            facts = m["facts"]
            rounds = [v for k, v in facts.items() if k.startswith("round_")]
            p50 = facts["latency_p50_ms"]
            axes.plot([p50, facts.get("latency_p99_ms", p50)], [row, row], color=colors[m["name"]])
            axes.scatter(rounds, [row] * len(rounds), color=colors[m["name"]], s=14, zorder=3)
        axes.set_yticks(range(len(measured)), [short(m["name"]) for m in reversed(measured)])
        axes.set_ylim(-0.6, len(measured) - 0.4)
        axes.set_xlabel("ms per batch: medians of the rounds, and a line from p50 to p99")
        return _svg(figure, "latency", "Spread of the latency of every engine")


def plot_error_trace(trace: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> str:
    """Draw the SQNR of every tensor along the network, one line per model.

    Args:
        trace: The error trace of a document.
        models: Its models, FP32 first: they have the same colours as in the other plots.

    Returns:
        SVG text.
    """
    tensors = trace["tensors"]
    names = list(dict.fromkeys(name for t in tensors for name in t["sqnr_db"]))
    colors = colors_of([m["name"] for m in models[1:]] or names)
    with drawing():
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        axes = figure.subplots()
        for name in names:
            y = [_finite(t["sqnr_db"].get(name, "nan")) for t in tensors]
            axes.plot(
                range(len(y)),
                y,
                color=colors.get(name, INK),
                label=_label(name),
                marker="o",
                markersize=3,
                linewidth=1,
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("tensor, in network order")
        axes.set_ylabel("SQNR against FP32, dB")
        figure.legend(loc="outside upper center", frameon=False, ncols=_columns(names), fontsize=8)
        return _svg(figure, "error-trace", "How the error grows along the network")


def plot_weights(trace: Mapping[str, Any]) -> str:
    """What quantization leaves of every weight (worst to best channel), and how far its channels' scales differ."""
    weights = trace["weights"]
    x = np.arange(len(weights))
    with drawing():
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        for axes, key in ((above, "sqnr_db"), (below, "scale")):
            low, median, high = (np.array([_finite(w[key][k]) for w in weights]) for k in ("min", "median", "max"))
            axes.vlines(x, low, high, color=COLORS[0], linewidth=2)
            axes.scatter(x, median, color=COLORS[1], s=16, zorder=3)
        above.set_ylabel("SQNR, dB")
        below.set_ylabel("scale")
        _log_scale(below)
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        below.set_xlabel("weight, in network order: all channels (line) and their median (dot)")
        return _svg(figure, "weights", "Error and scales of the channels of every weight")


def plot_classes(model: Mapping[str, Any]) -> str:
    """Share of the samples of each FP32 class that keep it, the classes with the most changes first; empty without."""
    changed = sorted(model["classes"], key=lambda c: c["agreed"] - c["samples"])[:_CLASSES]
    if not changed:
        return ""
    with drawing():
        figure = Figure(figsize=(9, 2.6), layout="constrained")
        axes = figure.subplots()
        shares = [100 * c["agreed"] / c["samples"] for c in changed]
        names = [str(c["class"]) for c in changed]
        axes.bar(names, shares, color=COLORS[2], width=0.7)
        for k, c in enumerate(changed):
            text = f"{c['agreed']}/{c['samples']}"
            axes.annotate(text, (k, shares[k]), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=6.5)
        axes.set_ylim(min(90.0, min(shares)) - 1, 101.5)
        axes.set_xlabel("class that FP32 gives")
        axes.set_ylabel("same class, %")
        return _svg(figure, "classes", "Agreement with FP32 by class")


def _finite(value: float | str) -> float:
    """A number for an axis; infinite and unknown values leave a gap."""
    return float("nan") if isinstance(value, str) else value


def _svg(figure: Figure, name: str, description: str) -> str:
    buffer = io.StringIO()
    with drawing(f"quantlab-{name}"):
        metadata = {"Date": None, "Creator": None, "Title": description}
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # ids must be unique on a page that holds several plots
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)
