"""A sensitivity table as a picture: the worst layers and tensors, truth and estimate."""

from __future__ import annotations

from quantlab.report.noise_bar import NoiseBar
from quantlab.tune import SensitivityRow, SensitivityTable

SHOWN = 16
"""Bars of a kind; more would hide what matters."""
_HEADINGS = {"layer": "layers", "tensor": "tensors", "class": "kinds of layers"}


def sensitivity_image(table: SensitivityTable, kind: str) -> bytes:
    """Draw the worst layers, tensors and classes.

    Args:
        table: With a row at least.
        kind: 'png' or 'svg'.

    Returns:
        The content of a file.
    """
    from quantlab.report.plots.pictures import draw_noise_bars  # matplotlib takes a second to import

    groups = {_heading(table, name): [_bar(row) for row in table.worst(name)[:SHOWN]] for name in _HEADINGS}
    total = [_bar(row) for row in table.of_kind("all")]
    groups = {name: bars for name, bars in groups.items() if bars} or {"all of it": total}
    return draw_noise_bars(groups, total[0].truth_db if total else None, kind)


def _heading(table: SensitivityTable, kind: str) -> str:
    count = len(table.of_kind(kind))
    shown = f"the worst {SHOWN} of {count}" if count > SHOWN else f"all {count}"
    return f"{_HEADINGS[kind]}, {shown}, the worst above"


def _bar(row: SensitivityRow) -> NoiseBar:
    truth = None if row.alone is None else row.alone.sqnr_db
    return NoiseBar(row.name, truth, row.estimate_db)
