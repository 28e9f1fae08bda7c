"""Results as tables on the terminal."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as RichTable

from quantlab.cli.say import echo, log
from quantlab.plain_text import printable

if TYPE_CHECKING:
    from quantlab.comparison import Comparison
    from quantlab.qdq import Placement
    from quantlab.tune.tuned import Tuned


class Table(RichTable):
    """A table whose cells are text that a terminal shows as it is."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """A row of texts."""
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def print_comparison(comparison: Comparison) -> None:
    """One row per model."""
    table = Table(title=f"{comparison.samples} samples")
    with_metric = comparison.fp32.metric is not None
    metric_name = printable(comparison.metric_name or "metric")
    headings = ["model", "top-1", "points (95 %)", "top-5", "agrees", "SQNR dB", "KiB", *[metric_name] * with_metric]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in comparison.results:
        shares = ["–" if v is None else f"{100 * v:.2f} %" for v in (row.top1, row.top5, row.agreement)]
        sqnr = "failed" if row.failed else f"{row.worst_sqnr_db:.2f}".replace("inf", "∞")
        change = row.difference
        points = "–" if change is None else f"{change.points:+.2f} ({change.low:+.2f} {change.high:+.2f})"
        size = "–" if row.size_bytes is None else f"{row.size_bytes / 1024:,.0f}"
        metric = ["–" if row.metric is None else f"{row.metric:.4f}"] * with_metric
        table.add_row(row.name, shares[0], points, *shares[1:], sqnr, size, *metric)
    for warning in comparison.warnings:
        echo(f"warning: {warning}", err=True)
    print_table(table)


def print_candidates(found: Tuned) -> None:
    """The candidates of a search, the fastest first; the chosen one is marked."""
    table = Table()
    headings = ["", "candidate", "ms", "SQNR dB", "drop", "layers in INT8"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("", "candidate") else "right")
    for point in sorted(found.points, key=lambda p: p.latency_ms):
        mark = "*" if point.trial.name == found.best.trial.name else ""
        latency = f"{point.latency_ms:.4f}" if point.measured else f"about {point.latency_ms:.4f}"
        sqnr = f"{point.accuracy.sqnr_db:.2f}".replace("inf", "∞")
        drop = "–" if point.accuracy.drop is None else f"{point.accuracy.drop:.2f}"
        count = str(sum(point.trial.int8)) if point.trial.int8 else "–"
        table.add_row(mark, point.trial.name, latency, sqnr, drop, count)
    print_table(table)


def print_table(table: Table) -> None:
    """As wide as its content: a cut-off number is worse than a wrapped line."""
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, table.__rich_measure__(console, console.options.update(width=400)).maximum)
    console.print(table)
    plain = Console(file=io.StringIO(), width=console.width, highlight=False, markup=False, no_color=True)
    with plain.capture() as text:
        plain.print(table)
    log(text.get())


MOST_REASONS = 20
"""Reasons that are printed: some name a tensor each."""


def print_float_nodes(placement: Placement) -> None:
    """How many nodes of a kind stay float, and why."""
    reasons = Counter((s.op, s.reason) for s in placement.skipped)
    for (op, reason), count in reasons.most_common(MOST_REASONS):
        echo(f"  float: {count} {op}: {reason}")
    if len(reasons) > MOST_REASONS:
        echo(f"  float: {len(reasons) - MOST_REASONS} more reasons, in the placement")
