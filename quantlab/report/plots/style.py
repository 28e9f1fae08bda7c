"""What all plots have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

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


class Look(NamedTuple):
    """How a model is drawn."""

    color: str
    marker: str


ALGORITHMS: Mapping[str, Look] = MappingProxyType(
    {
        "minmax": Look("#3b7dd8", "o"),
        "entropy": Look("#d9730d", "s"),
        "entropy2": Look("#d9730d", "p"),
        "percentile": Look("#2a9d5c", "h"),
        "percentile-99.9": Look("#2a9d5c", "^"),
        "percentile-99.99": Look("#159b9b", "v"),
        "percentile-99.999": Look("#4c7a34", "<"),
        "mse": Look("#b04ac1", "D"),
        "auto": Look("#c43d3d", "P"),
        "legacy": Look("#9a6a00", ">"),
        "tuned": Look("#5b5bd6", "*"),
        "fp32": Look("#7d7f83", "X"),
        "fp16": Look("#7d6b5d", "d"),
    }
)
"""The look of every algorithm, the same in every plot of every report, wherever its name stands in that of a model."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d")
_SPARE = ("#8a8d18", "#b5476f", "#6a7fa8", "#a0522d")
"""For models that are called otherwise."""
_NAMED = re.compile(
    rf"(?<![a-z0-9])({'|'.join(map(re.escape, sorted(ALGORITHMS, key=len, reverse=True)))})(?![a-z0-9])", re.IGNORECASE
)
_NAMES_READ = 200
"""Letters of a name that are looked at."""


def looks_of(names: Sequence[str]) -> dict[str, Look]:
    """A look per model: the colour of its algorithm, and a marker that no other model of that colour has.

    Args:
        names: Of all models of a report, in order.

    Returns:
        Their looks; with more models of a colour than there are markers, some look alike.
    """
    looks: dict[str, Look] = {}
    used: dict[str, list[str]] = {}
    others = 0
    for name in names:
        found = _NAMED.search(name[:_NAMES_READ])
        wanted = ALGORITHMS[found[1].lower()] if found else Look(_SPARE[others % len(_SPARE)], _MARKERS[0])
        others += found is None
        taken = used.setdefault(wanted.color, [])
        free = [m for m in (wanted.marker, *_MARKERS) if m not in taken]
        looks[name] = wanted._replace(marker=free[0] if free else wanted.marker)
        taken.append(looks[name].marker)
    return looks


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
