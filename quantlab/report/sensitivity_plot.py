"""A sensitivity table as a picture: the worst layers and tensors, truth and estimate."""

from __future__ import annotations

from quantlab.errors import ConfigError
from quantlab.report.plots import NoiseBar, draw_noise_bars
from quantlab.tune import SensitivityRow, SensitivityTable
from quantlab.tune.sensitivity_table import noise_db

SHOWN = 16
"""Bars of a kind; more would hide what matters."""
_HEADINGS = {"layer": "layers, the worst above", "tensor": "tensors", "class": "kinds of layers"}


def sensitivity_image(table: SensitivityTable, kind: str) -> bytes:
    """Draw the worst layers, tensors and classes.

    Args:
        table: With a row of a layer, tensor or class at least.
        kind: 'png' or 'svg'.

    Returns:
        The content of a file.

    Raises:
        ConfigError: The table has nothing to draw.
    """
    groups = {_HEADINGS[name]: [_bar(row) for row in table.worst(name)[:SHOWN]] for name in _HEADINGS}
    groups = {name: bars for name, bars in groups.items() if bars}
    if not groups:
        raise ConfigError("the sensitivity table has no layer, tensor or class to draw", hint="draw the whole table")
    total = next((_bar(row).truth_db for row in table.of_kind("all")), None)
    return draw_noise_bars(groups, total, kind)


def _bar(row: SensitivityRow) -> NoiseBar:
    truth = None if row.alone is None else row.alone.sqnr_db
    return NoiseBar(row.name, truth, None if row.estimate is None else noise_db(row.estimate))
