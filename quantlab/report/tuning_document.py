"""What a search found as plain data: everything that its page, its Markdown and its picture show."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from quantlab.plain_text import without_folders
from quantlab.report.implicit_command import implicit_build
from quantlab.tune.points import Point
from quantlab.tune.problem import DEFAULT, EVERY, FLOAT, IMPLICIT
from quantlab.tune.target import Target
from quantlab.tune.tuned import Tuned, reason_of

BASES = (FLOAT, EVERY, DEFAULT, IMPLICIT)
"""Candidates that every search has; they are named in the picture."""


def tuning_document(found: Tuned, title: str) -> dict[str, Any]:
    """Put what a search found into the plain values that its pages are made of.

    Args:
        found: The answer of the search.
        title: Of the pages.

    Returns:
        Plain values. An SQNR or a latency is a number, "inf", "-inf", or None where it is not known.
    """
    unique = {point.trial.name: point for point in (*found.points, found.best)}
    order = sorted(unique.values(), key=lambda p: (_sortable(p.latency_ms), -_sortable(p.accuracy.sqnr_db)))
    candidates = [_candidate(found, point, k) for k, point in enumerate(order, 1)]
    is_ours = found.best.trial.name != IMPLICIT
    return {
        "title": title,
        "summary": found.summary.replace("SQNR inf dB", "SQNR ∞ dB"),
        "asked": asked(found.target),
        "reached": found.reached,
        "device": found.device,
        "spent_s": found.spent_s,
        "measured": any(point.measured for point in order),
        "has_metric": any(point.accuracy.metric is not None for point in order),
        "best": next(c for c in candidates if c["is_best"]),
        "candidates": candidates,
        "failed": [{"name": name, "why": without_folders(why)} for name, why in found.failed.items()],
        "float_layers": _float_layers(found) if is_ours else [],
        "int8_layers": _int8_layers(found),
        "other_nodes": _other_nodes(found),
        "implicit": implicit_build(found),
        "provenance": _told(found.provenance),
    }


def _told(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known, as lines."""
    named = {name.replace("_", " "): value for name, value in provenance.items() if value not in ("", None, {})}
    return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in named.items()]


def asked(target: Target) -> str:
    """What a search was asked for, as a clause."""
    what = "the most accurate engine" if target.objective == "accuracy" else "the fastest engine"
    limits = []
    if target.min_sqnr_db is not None:
        least = f"{target.min_sqnr_db:.2f}".replace("inf", "∞")
        limits.append(f"an SQNR of at least {least} dB")
    if target.max_drop is not None:
        limits.append(f"a drop of the metric of at most {target.max_drop:g}")
    if target.latency_ms is not None:
        limits.append(f"a latency of at most {target.latency_ms:g} ms")
    return f"{what} with {' and '.join(limits)}" if limits else what


def _sortable(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _number(value: float | None) -> float | str | None:
    if value is None or math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def _candidate(found: Tuned, point: Point, rank: int) -> dict[str, Any]:
    name, on = point.trial.name, point.trial.int8
    is_implicit = name == IMPLICIT
    left = [region for region, is_int8 in zip(found.regions, on, strict=True) if not is_int8] if on else []
    return {
        "id": f"candidate-{rank}",
        "rank": rank,
        "name": name,
        "short": name if len(name) <= 16 else f"{name[:8]}…{name[-7:]}",
        "is_base": name in BASES,
        "is_implicit": is_implicit,
        "is_best": name == found.best.trial.name,
        "on_front": any(name == other.trial.name for other in found.front),
        "latency_ms": _number(point.latency_ms),
        "measured": point.measured,
        "sqnr_db": _number(point.accuracy.sqnr_db),
        "metric": _number(point.accuracy.metric),
        "drop": _number(point.accuracy.drop),
        "int8": None if is_implicit else sum(on),
        "layers": len(found.regions),
        "float": left,
    }


def _float_layers(found: Tuned) -> list[dict[str, Any]]:
    """Of the chosen one: those that INT8 would cost most first, then those that cannot be in INT8."""
    placed = found.quantized.placement.skipped if found.quantized is not None else ()
    skipped = {one.node: one for one in placed}
    rows = []
    for name in _chosen(found, is_int8=False):
        change = found.effects.get(name)
        known = reason_of(*change) if change is not None else "it cannot be in INT8"
        rows.append(
            {
                "name": name,
                "op": skipped[name].op if name in skipped else None,
                "cost_db": None if change is None else -change[0],
                "change_us": None if change is None else change[1],
                "reason": str(skipped[name].reason) if name in skipped else known,
            }
        )
    return sorted(rows, key=lambda row: -math.inf if row["cost_db"] is None else row["cost_db"], reverse=True)


def _int8_layers(found: Tuned) -> list[dict[str, Any]]:
    """Of the chosen one: those first in which float would gain most."""
    rows = []
    for name in _chosen(found, is_int8=True):
        gain_db, change_us = found.effects.get(name, (None, None))
        rows.append({"name": name, "gain_db": gain_db, "change_us": change_us})
    return sorted(rows, key=lambda row: -math.inf if row["gain_db"] is None else row["gain_db"], reverse=True)


def _chosen(found: Tuned, is_int8: bool) -> Sequence[str]:
    on = found.best.trial.int8
    return [name for name, it in zip(found.regions, on, strict=True) if it == is_int8] if on else []


def _other_nodes(found: Tuned) -> list[dict[str, Any]]:
    """Nodes in float that the search did not decide about, by operator and reason."""
    if found.quantized is None:
        return []
    decided = set(found.regions)
    others = Counter((s.op, str(s.reason)) for s in found.quantized.placement.skipped if s.node not in decided)
    return [{"op": op, "reason": reason, "count": count} for (op, reason), count in others.most_common()]
