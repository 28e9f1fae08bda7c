"""Tensors and weights along the network: what is kept of each, and how the error grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from quantlab.report.plots.style import COLORS, Look, drawing
from quantlab.report.plots.svg import (
    Marks,
    Row,
    decibel,
    finite,
    legend_columns,
    legend_label,
    log_scale,
    short,
    svg_text,
)

SHOWN = 24
"""Histograms on a page; more would hide what matters."""
HIGH_DB = 80.0
"""From here on a tensor is FP32's but for rounding, and how far from here hides the others."""
Rows = Mapping[str, str]
"""Tensor or node -> the id of its row in the table of layers."""


def algorithms_of(tensors: Sequence[Row]) -> list[str]:
    """The algorithms or models that keep something of any of the tensors."""
    return list(dict.fromkeys(name for tensor in tensors for name in tensor["amax"]))


def plot_amax(tensors: Sequence[Row], looks: Mapping[str, Look], rows: Rows) -> str:
    """amax of every tensor in network order, one kind of point per algorithm, log scale.

    Args:
        tensors: The calibrated tensors of a document.
        looks: Of the algorithms.
        rows: Where the tensors are explained.

    Returns:
        SVG text.
    """
    algorithms, marks = algorithms_of(tensors), Marks()
    with drawing():
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots()
        for name in algorithms:
            # an all-zero tensor has no place on a log axis
            kept = [(x, t, t["amax"][name]) for x, t in enumerate(tensors) if t["amax"].get(name)]
            look = looks[name]
            drawn = axes.scatter(
                [x for x, _, _ in kept], [y for _, _, y in kept], color=look.color, label=legend_label(name),
                marker=look.marker, s=22, alpha=0.85, linewidth=0,
            )  # fmt: skip
            marks.points(drawn, [(f"{t['name']}: {name} keeps {y:.4g}", rows.get(t["name"])) for _, t, y in kept])
        log_scale(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("tensor, in network order")
        axes.set_ylabel("amax (kept magnitude)")
        figure.legend(loc="outside upper center", frameon=False, ncols=legend_columns(algorithms), fontsize=8)
        return svg_text(figure, "amax", "Kept magnitude of every tensor by algorithm", marks)


def plot_histograms(tensors: Sequence[Row], looks: Mapping[str, Look], rows: Rows) -> str:
    """Histograms of |x| (log counts) with every algorithm's threshold, for the tensors on which they differ most.

    Args:
        tensors: The calibrated tensors of a document.
        looks: Of the algorithms.
        rows: Where the tensors are explained.

    Returns:
        SVG text.
    """
    chosen = most_disputed(tensors)
    algorithms, marks = algorithms_of(chosen), Marks()
    columns = 3
    lines = -(-len(chosen) // columns)
    with drawing():
        figure = Figure(figsize=(9, 1.65 * lines + 0.5), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, tensor in zip(grid, chosen, strict=False):
            counts = np.array(tensor["counts"], float)
            edges = np.linspace(0, tensor["range"], len(counts) + 1)
            drawn = axes.stairs(np.maximum(counts, 0.5), edges, fill=True, color="#888b", baseline=0.5)
            marks.one(drawn, tensor["name"], rows.get(tensor["name"]))
            for name, amax in tensor["amax"].items():
                axes.axvline(amax, color=looks[name].color, linewidth=1.2)
                top = axes.get_xaxis_transform()
                point = axes.scatter(
                    [amax], [1.0], transform=top, color=looks[name].color, marker=looks[name].marker, s=14,
                    clip_on=False, zorder=4,
                )  # fmt: skip
                share = 100 * tensor["saturated"][name]
                title = f"{tensor['name']}: {name} keeps {amax:.4g}, {share:.3g} % saturate"
                marks.points(point, [(title, rows.get(tensor["name"]))])
            log_scale(axes)
            marks.one(axes.set_title(short(tensor["name"]), fontsize=7), tensor["name"], rows.get(tensor["name"]))
            axes.tick_params(labelsize=6)
        for axes in grid[len(chosen) :]:
            axes.set_axis_off()
        handles = [
            figure.axes[0].plot([], [], color=looks[n].color, marker=looks[n].marker, markersize=4,
                                label=legend_label(n))[0]
            for n in algorithms
        ]  # fmt: skip
        figure.legend(
            handles=handles, loc="outside upper center", frameon=False, ncols=legend_columns(algorithms), fontsize=8
        )
        return svg_text(figure, "histograms", "Activation histograms with the threshold of every algorithm", marks)


def most_disputed(tensors: Sequence[Row]) -> list[Row]:
    """Up to SHOWN tensors with the largest ratio of the algorithms' thresholds, in network order."""
    nonzero = [t for t in tensors if t["range"] > 0] or list(tensors[:1])
    by_ratio = sorted(nonzero, key=lambda t: -max(t["amax"].values()) / max(min(t["amax"].values()), 1e-30))
    chosen = {t["name"] for t in by_ratio[:SHOWN]}
    return [t for t in nonzero if t["name"] in chosen]


def plot_error_trace(trace: Row, looks: Mapping[str, Look], rows: Rows) -> str:
    """Draw the SQNR of every tensor along the network, one kind of point per model.

    Args:
        trace: The error trace of a document.
        looks: Of its models.
        rows: Where the tensors are explained.

    Returns:
        SVG text.
    """
    tensors, marks = trace["tensors"], Marks()
    names = list(dict.fromkeys(name for t in tensors for name in t["sqnr_db"]))
    with drawing():
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots()
        for name in names:
            look = looks[name]
            known = [(x, t, finite(t["sqnr_db"].get(name))) for x, t in enumerate(tensors)]
            height = [min(y, HIGH_DB) if np.isfinite(y) else y for _, _, y in known]
            axes.plot([x for x, _, _ in known], height, color=look.color, alpha=0.35, linewidth=1)
            points = [(x, t, y) for x, t, y in known if np.isfinite(y)]
            drawn = axes.scatter(
                [x for x, _, _ in points], [min(y, HIGH_DB) for _, _, y in points], color=look.color,
                label=legend_label(name), marker=look.marker, s=16, linewidth=0, zorder=3,
            )  # fmt: skip
            marks.points(drawn, [(f"{t['name']}: {name} {y:.1f} dB", rows.get(t["name"])) for _, t, y in points])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("tensor, in network order")
        highest = max((y for t in tensors for y in t["sqnr_db"].values() if isinstance(y, float)), default=0.0)
        axes.set_ylabel("SQNR against FP32, dB" + (f" ({HIGH_DB:.0f}: or more)" if highest > HIGH_DB else ""))
        figure.legend(loc="outside upper center", frameon=False, ncols=legend_columns(names), fontsize=8)
        return svg_text(figure, "error-trace", "How the error grows along the network", marks)


def plot_weights(trace: Row, rows: Rows) -> str:
    """What quantization leaves of every weight (worst to best channel), how far the scales of its channels differ, and
    how many channels are dead or faint, whose scales say nothing.

    Args:
        trace: The error trace of a document.
        rows: Where the nodes are explained.

    Returns:
        SVG text.
    """
    weights, marks = trace["weights"], Marks()
    x = np.arange(len(weights))
    silent = {key: np.array([w[key] for w in weights]) for key in ("dead", "faint")}
    parts = ("sqnr_db", "scale", *(["silent"] if any(count.any() for count in silent.values()) else []))
    with drawing():
        figure = Figure(figsize=(9, 1.9 * len(parts) + 0.3), layout="constrained")
        grid = figure.subplots(len(parts), 1, sharex=True)
        for axes, key in zip(grid, parts[:2], strict=False):
            low, median, high = (np.array([finite(w[key][k]) for w in weights]) for k in ("min", "median", "max"))
            axes.vlines(x, low, high, color=COLORS[0], linewidth=2)
            known = np.flatnonzero(np.isfinite(median))
            drawn = axes.scatter(x[known], median[known], color=COLORS[1], s=16, zorder=3)
            marks.points(drawn, [(_of_weight(weights[k]), rows.get(weights[k]["node"])) for k in known])
        for key, color, marker in (("dead", COLORS[4], "X"), ("faint", COLORS[5], "o")):
            known = np.flatnonzero(silent[key])
            if known.size:
                count = silent[key][known]
                grid[2].vlines(x[known], 0, count, color=color, linewidth=1)
                drawn = grid[2].scatter(x[known], count, color=color, marker=marker, s=26, zorder=3, label=key)
                marks.points(drawn, [(_of_weight(weights[k]), rows.get(weights[k]["node"])) for k in known])
        if len(parts) == 3:
            grid[2].set_ylim(bottom=0)
            grid[2].yaxis.set_major_locator(MaxNLocator(integer=True))
            grid[2].legend(frameon=False, fontsize=8)
        for axes, label in zip(grid, ("SQNR, dB", "scale", "channels"), strict=False):
            axes.set_ylabel(label)
        log_scale(grid[1])
        grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        grid[-1].set_xlabel("weight, in network order: the channels (line) and their median (dot)")
        return svg_text(figure, "weights", "Error and scales of the channels of every weight", marks)


def _of_weight(weight: Row) -> str:
    dead = "".join(f", {weight[key]} {key}" for key in ("dead", "faint") if weight[key])
    sqnr = weight["sqnr_db"]
    return f"{weight['node']}: {decibel(sqnr['min'])} to {decibel(sqnr['max'])} dB, {weight['channels']} channels{dead}"


def tensor_rows(document: Row) -> tuple[dict[str, str], dict[str, str]]:
    """Where the tables of a page explain a tensor.

    Args:
        document: The document.

    Returns:
        (tensor or node -> the row of the layer that reads it or is it, the same by the layer that makes it).
    """
    layers = document["layers"]["rows"] if document["layers"] else []
    readers: dict[str, str] = {}
    makers: dict[str, str] = {}
    for number, layer in enumerate(layers):
        for read in layer["reads"]:
            readers.setdefault(read["tensor"], f"layer-{number}")
        makers.setdefault(layer["result"], f"layer-{number}")
    nodes = {layer["node"]: f"layer-{number}" for number, layer in enumerate(layers)}
    return nodes | makers | readers, nodes | readers | makers
