"""Models side by side: how close to FP32, how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from quantlab.report.plots.style import INK, Look, drawing
from quantlab.report.plots.svg import Marks, Row, finite, short, svg_text


def plot_quality(models: Sequence[Row], looks: Mapping[str, Look], metric: str | None) -> str:
    """The user's metric and top-1 (where known) and SQNR per quantized model; FP32's as a line.

    Args:
        models: Of a document, FP32 first.
        looks: Of the models.
        metric: What the user's metric is called, None for none.

    Returns:
        SVG text.
    """
    fp32, shown = models[0], [m for m in models[1:] if not m["failed"]][::-1]
    rows = {m["name"]: f"model-{k}" for k, m in enumerate(models)}
    panels = [key for key in ("metric", "top1") if fp32[key] is not None and shown]
    marks = Marks()
    with drawing():
        figure = Figure(figsize=(9, 0.8 + 0.36 * len(shown)), layout=ConstrainedLayoutEngine(wspace=0.08))
        grid = figure.subplots(1, len(panels) + 1, sharey=True, squeeze=False)[0]
        for axes, key in zip(grid, panels, strict=False):
            _accuracy(axes, key, fp32, shown)
            called = "top-1 %" if key == "top1" else short(metric or "metric", 16)
            axes.set_xlabel(f"{called} (dashed: FP32)")
        _sqnr(grid[-1], shown, looks)
        for axes in grid[1:]:
            axes.tick_params(left=False)
        # not the names as places: two that are shortened may look alike
        grid[-1].set_yticks(np.arange(len(shown)), [short(m["name"]) for m in shown])
        for axes, key in zip(grid, panels, strict=False):
            for k, m in enumerate(shown):
                if m[key] is not None:
                    look, x = looks[m["name"]], _of(key, m[key])
                    drawn = axes.scatter([x], [k], color=look.color, marker=look.marker, zorder=3, s=45)
                    marks.points(drawn, [(_title(m, metric), rows[m["name"]])])
                    text = f"{x:.2f}" if key == "top1" else f"{x:.4g}"
                    axes.annotate(
                        text, (1, k), xycoords=axes.get_yaxis_transform(), xytext=(3, 0), textcoords="offset points",
                        va="center", fontsize=8,
                    )  # fmt: skip
            axes.margins(x=0.12, y=0.12)
        return svg_text(figure, "quality", "Accuracy and SQNR of every quantized model", marks)


def _of(key: str, value: float) -> float:
    return 100 * value if key == "top1" else value


def _accuracy(axes: Axes, key: str, fp32: Row, shown: Sequence[Row]) -> None:
    """FP32's value, and around it the interval of every model's difference to it."""
    base = _of(key, fp32[key])
    axes.axvline(base, color=INK, linewidth=1, linestyle="--")
    for k, m in enumerate(shown):
        if (change := m[f"{key}_difference"]) is not None:
            axes.plot([base + change["low"], base + change["high"]], [k, k], color=INK, alpha=0.55, linewidth=1.4)


def _sqnr(axes: Axes, shown: Sequence[Row], looks: Mapping[str, Look]) -> None:
    values = [m["sqnr_db"] for m in shown]
    longest = max((v for v in values if isinstance(v, float)), default=1.0)
    drawn = [v if isinstance(v, float) else (longest if v == "inf" else 0.0) for v in values]
    axes.barh(np.arange(len(shown)), drawn, color=[looks[m["name"]].color for m in shown], height=0.55)
    axes.set_xlabel("SQNR of the output, dB")
    for k, (x, value) in enumerate(zip(drawn, values, strict=True)):
        text = f"{value:.1f}" if isinstance(value, float) else value.replace("inf", "∞")
        axes.annotate(text, (x, k), xytext=(7, 0), textcoords="offset points", va="center")
    axes.margins(x=0.14)


def _title(model: Row, metric: str | None) -> str:
    parts = [model["name"]]
    if model["metric"] is not None:
        parts.append(f"{metric or 'metric'} {model['metric']:.4g}")
    if model["top1"] is not None:
        parts.append(f"top-1 {100 * model['top1']:.2f} %")
    if "latency_p50_ms" in model["facts"]:
        parts.append(f"{model['facts']['latency_p50_ms']:.4g} ms")
    return ", ".join(parts)


def plot_tradeoff(models: Sequence[Row], looks: Mapping[str, Look], metric: str | None) -> str:
    """Latency against what models are judged by (SQNR without labels and metric) of every engine that was measured.

    Args:
        models: Of a document, FP32 first.
        looks: Of the models.
        metric: What the user's metric is called, None for none.

    Returns:
        SVG text; empty if none was measured.
    """
    measured = [m for m in models[1:] if "latency_p50_ms" in m["facts"] and not m["failed"]]
    if not measured:
        return ""
    rows = {m["name"]: f"engine-{k}" for k, m in enumerate(m for m in models if "latency_p50_ms" in m["facts"])}
    fp32 = models[0]
    known = [key for key in ("metric", "top1") if all(m[key] is not None for m in (fp32, *measured))]
    key = known[0] if known else "sqnr_db"
    marks = Marks()
    with drawing():
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots()
        for k, m in enumerate(sorted(measured, key=lambda m: m["facts"]["latency_p50_ms"])):
            x, look = m["facts"]["latency_p50_ms"], looks[m["name"]]
            y = _of(key, finite(m[key]))
            change = m.get(f"{key}_difference")
            if change is not None:
                base = _of(key, fp32[key])
                axes.plot([x, x], [base + change["low"], base + change["high"]], color=look.color, linewidth=1.2)
            drawn = axes.scatter([x], [y], color=look.color, marker=look.marker, s=55, zorder=3)
            marks.points(drawn, [(_title(m, metric), rows[m["name"]])])
            at = (7, 4 if k % 2 == 0 else -11)
            axes.annotate(short(m["name"]), (x, y), xytext=at, textcoords="offset points", fontsize=8)
        if key != "sqnr_db":
            axes.axhline(_of(key, fp32[key]), color=INK, linewidth=1, linestyle="--")
        axes.set_xlabel("median latency per batch, ms (left is faster)")
        called = {"sqnr_db": "SQNR dB", "top1": "top-1 %, with 95 %", "metric": short(metric or "metric", 24)}
        axes.set_ylabel(called[key])
        axes.margins(x=0.2, y=0.2)
        return svg_text(figure, "tradeoff", "Latency and accuracy of every engine", marks)


def plot_latency(models: Sequence[Row], looks: Mapping[str, Look]) -> str:
    """The median of every measuring round per engine: the noise of the measurement.

    Args:
        models: Of a document, FP32 first.
        looks: Of the models.

    Returns:
        SVG text; empty if none was measured.
    """
    measured = [m for m in models if "latency_p50_ms" in m["facts"]]
    if not measured:
        return ""
    marks = Marks()
    with drawing():
        figure = Figure(figsize=(9, 0.8 + 0.34 * len(measured)), layout="constrained")
        axes = figure.subplots()
        for k, m in enumerate(measured):
            row, facts, look = len(measured) - 1 - k, m["facts"], looks[m["name"]]
            rounds = [v for name, v in facts.items() if name.startswith("round_")]
            p50 = facts["latency_p50_ms"]
            axes.plot([p50, facts.get("latency_p99_ms", p50)], [row, row], color=look.color)
            drawn = axes.scatter(rounds, [row] * len(rounds), color=look.color, marker=look.marker, s=14, zorder=3)
            marks.points(drawn, [(f"{m['name']}: {v:.4g} ms", f"engine-{k}") for v in rounds])
        axes.set_yticks(range(len(measured)), [short(m["name"]) for m in reversed(measured)])
        axes.set_ylim(-0.6, len(measured) - 0.4)
        axes.set_xlabel("ms per batch: medians of the rounds, and a line from p50 to p99")
        return svg_text(figure, "latency", "Spread of the latency of every engine", marks)
