"""What all plots have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib

INK = "#010203"
COLORS = (
    "#3b7dd8",
    "#d9730d",
    "#2a9d5c",
    "#b04ac1",
    "#c43d3d",
    "#8a8d18",
    "#159b9b",
    "#7d6b5d",
    "#5b5bd6",
    "#b5476f",
    "#4c7a34",
    "#9a6a00",
)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of models and tensors may hold a $
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextmanager
def drawing(salt: str = "quantlab") -> Iterator[None]:
    """Draw in one style, whatever the user's matplotlibrc says: it may ask for LaTeX, which is not there.

    Args:
        salt: Of the ids in an SVG, so that the same picture is the same text.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"svg.hashsalt": salt})
        yield
