"""What all plots have in common."""

from __future__ import annotations

from typing import Any

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
