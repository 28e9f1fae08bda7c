"""The trade-off of a search as a drawing: where every point, number and name goes. Nothing is drawn here.

A candidate without an error (SQNR ∞) lies on the upper edge; one far slower than all that matter on the right edge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from quantlab.report.front_labels import Label, place_labels

WIDTH, HEIGHT = 900, 480
LEFT, RIGHT, TOP, BOTTOM = 70, 876, 66, 420
"""The edges of the axes."""
BAND = 34
"""Between the last finite value and the line of infinite ones."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A candidate.

    Attributes:
        x, y: Its place.
        id: Of its section.
        hint: What it is, in a line.
        measured, on_front, is_best: How it is drawn.
        is_beyond: Whether it is slower than the axis is long.
    """

    x: float
    y: float
    id: str
    hint: str
    measured: bool
    on_front: bool
    is_best: bool
    is_beyond: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing of WIDTH by HEIGHT, y downwards.

    Attributes:
        marks: The candidates; those that matter most last, so that they lie on top.
        labels: The names.
        line: The front as steps, empty for less than two points.
        x_ticks, y_ticks: (place, text) of the numbers on the axes.
        breaks: Places where the y axis is interrupted.
        missing: How many candidates have no place: something of them is not known.
    """

    marks: tuple[Mark, ...]
    labels: tuple[Label, ...]
    line: tuple[tuple[float, float], ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    breaks: tuple[float, ...]
    missing: int


def front_chart(candidates: Sequence[Mapping[str, Any]]) -> Chart:
    """Lay the candidates of a `tuning_document` out."""
    shown = [c for c in candidates if isinstance(c["latency_ms"], float) and c["sqnr_db"] is not None]
    low_ms, high_ms = _latencies(shown)
    finite = [c["sqnr_db"] for c in shown if isinstance(c["sqnr_db"], float)]
    low_db, high_db = _padded(min(finite, default=0.0), max(finite, default=0.0), 1.0)
    has = {sign: any(c["sqnr_db"] == sign for c in shown) for sign in ("inf", "-inf")}
    top, bottom = TOP + BAND * has["inf"], BOTTOM - BAND * has["-inf"]

    def x_of(latency_ms: float) -> float:
        return LEFT + (RIGHT - LEFT) * (min(latency_ms, high_ms) - low_ms) / (high_ms - low_ms)

    def y_of(sqnr_db: float | str) -> float:
        if isinstance(sqnr_db, str):
            return TOP if sqnr_db == "inf" else BOTTOM
        return bottom - (bottom - top) * (sqnr_db - low_db) / (high_db - low_db)

    order = sorted(shown, key=lambda c: (c["is_best"], c["on_front"], c["measured"]))
    marks = tuple(_mark(c, x_of(c["latency_ms"]), y_of(c["sqnr_db"]), high_ms) for c in order)
    front = [c for c in shown if c["on_front"]]
    ticks_db = [(y_of(v), text) for v, text in _ticks(low_db, high_db)] if finite else []
    infinite = [(y_of(sign), sign.replace("inf", "∞")) for sign in has if has[sign]]
    wanted = [(m, _name(c, m)) for m, c in zip(marks, order, strict=True) if c["is_base"] or c["is_best"]]
    line = _steps([(x_of(c["latency_ms"]), y_of(c["sqnr_db"])) for c in front])
    return Chart(
        marks,
        place_labels(wanted, [(m.x, m.y) for m in marks], line, (LEFT + 4, 44, WIDTH - 4, BOTTOM - 4)),
        line,
        tuple((x_of(v), text) for v, text in _ticks(low_ms, high_ms) if v >= 0),
        (*ticks_db, *infinite),
        tuple(y for y, sign in ((TOP + BAND / 2, "inf"), (BOTTOM - BAND / 2, "-inf")) if has[sign] and finite),
        len(candidates) - len(shown),
    )


def _latencies(shown: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The ends of the axis: all of the front, and all that is not far slower than it."""
    every = [c["latency_ms"] for c in shown] or [0.0]
    slowest = max((c["latency_ms"] for c in shown if c["on_front"] or c["is_best"]), default=max(every))
    limit = slowest + max(slowest - min(every), 0.5 * slowest)
    return _padded(min(every), max(v for v in every if v <= limit), 0.05 * max(every) or 1.0)


def _padded(low: float, high: float, least: float) -> tuple[float, float]:
    """With room at both ends; `least` where there is one value only."""
    room = 0.08 * (high - low) if high - low > 1e-9 * max(abs(low), abs(high)) else least
    return low - room, high + room


def _mark(candidate: Mapping[str, Any], x: float, y: float, high_ms: float) -> Mark:
    sqnr, latency = candidate["sqnr_db"], candidate["latency_ms"]
    decibels = sqnr.replace("inf", "∞") if isinstance(sqnr, str) else f"{sqnr:.2f}"
    kind = "measured" if candidate["measured"] else "estimated"
    share = "" if candidate["is_implicit"] else f", {candidate['int8']} of {candidate['layers']} layers in INT8"
    hint = f"{candidate['short']}: {latency:.4f} ms ({kind}), {decibels} dB{share}"
    flags = (candidate["measured"], candidate["on_front"], candidate["is_best"])
    return Mark(x, y, candidate["id"], hint, *flags, latency > high_ms)


def _name(candidate: Mapping[str, Any], mark: Mark) -> str:
    name = candidate["name"] if candidate["is_base"] else "chosen"
    far = f", {candidate['latency_ms']:.4g} ms" if mark.is_beyond else ""
    return f"{name}{' (chosen)' if mark.is_best and candidate['is_base'] else ''}{far}"


def _steps(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """A staircase: between two candidates there is nothing, so no line leads from one to the other."""
    if len(points) < 2:
        return ()
    corners = [corner for (_, y), (x, after) in pairwise(points) for corner in ((x, y), (x, after))]
    return (points[0], *corners)


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """About six round numbers."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(k * step, f"{k * step:.{digits}f}") for k in range(first, last + 1)]
