"""Candidates of a search with what is known of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quantlab.tune.problem import Trial
from quantlab.tune.target import Accuracy


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate and what is known of it.

    Attributes:
        trial: The candidate.
        accuracy: Of its engine where it was measured, else on ONNX Runtime.
        latency_ms: Of its engine where it was measured, else estimated.
        measured: Whether an engine was.
    """

    trial: Trial
    accuracy: Accuracy
    latency_ms: float
    measured: bool


def front_of(points: Iterable[Point]) -> list[Point]:
    """The candidates that no other beats in both latency and SQNR, the fastest first. Where engines were measured, of
    those alone: an estimate of one that nobody built beats none of them."""
    every = list(points)
    kept: list[Point] = []
    for point in sorted([p for p in every if p.measured] or every, key=lambda p: (p.latency_ms, -p.accuracy.sqnr_db)):
        if not kept or point.accuracy.sqnr_db > kept[-1].accuracy.sqnr_db:
            kept.append(point)
    return kept


def noise_of(accuracy: Accuracy) -> float:
    """Squared error over power."""
    return float(10 ** (-accuracy.sqnr_db / 10))
