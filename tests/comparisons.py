"""Comparisons made by hand."""

from __future__ import annotations

import math

from quantlab.comparison import Comparison, ModelResult
from quantlab.numerics import OutputError


def result(name: str, sqnr_db: float = 30.0, **known: object) -> ModelResult:
    values: dict[str, object] = {"top1": None, "top5": None, "agreement": None, "size_bytes": None}
    errors = {} if known.get("failed") else {"y": OutputError(1.0, sqnr_db, 0.0, 0.0)}
    return ModelResult(name, errors, **(values | known))  # type: ignore[arg-type]


def comparison(*others: ModelResult, **fp32: object) -> Comparison:
    return Comparison((result("fp32", math.inf, **fp32), *others), 100, True, "y", "0" * 64, None, ())
