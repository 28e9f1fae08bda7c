"""What a search is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

from quantlab.errors import ConfigError
from quantlab.nearest import nearest
from quantlab.typed_json import Decibel

OBJECTIVES = ("latency", "accuracy")
_UNITS_MS = {"ms": 1.0, "us": 0.001, "s": 1000.0}
_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How close something is to FP32.

    Attributes:
        sqnr_db: The smallest of the outputs.
        metric: The user's metric, or top-1 in percent; None without labels.
        fp32_metric: Of FP32 on the same samples.
    """

    sqnr_db: Decibel
    metric: float | None = None
    fp32_metric: float | None = None

    @property
    def drop(self) -> float | None:
        """What the metric lost against FP32; None without one."""
        return None if self.metric is None or self.fp32_metric is None else self.fp32_metric - self.metric


@dataclass(frozen=True, slots=True)
class Target:
    """What a search is asked for; with nothing asked for it keeps the SQNR of the default placement.

    Attributes:
        min_sqnr_db: The least SQNR of the outputs.
        max_drop: The most that the metric may lose, in its own unit: percentage points of top-1.
        latency_ms: The most that one batch may take.
        objective: `latency`: the fastest engine within the accuracy; `accuracy`: the closest one within the latency.
    """

    min_sqnr_db: float | None = None
    max_drop: float | None = None
    latency_ms: float | None = None
    objective: str = ""

    def __post_init__(self) -> None:
        chosen = self.objective or ("accuracy" if self.latency_ms is not None else "latency")
        object.__setattr__(self, "objective", chosen)
        if chosen not in OBJECTIVES:
            question = nearest(chosen, OBJECTIVES)
            raise ConfigError(f"there is no objective '{chosen}'", hint=f"{question}use {' or '.join(OBJECTIVES)}")
        if chosen == "accuracy" and self.latency_ms is None:
            raise ConfigError("the most accurate engine within which latency?", hint="give --latency")
        for name in ("min_sqnr_db", "max_drop", "latency_ms"):
            value = getattr(self, name)
            if value is not None and not isfinite(value):
                raise ConfigError(f"{name} of a Target is {value}", hint="give a number")
        if self.latency_ms is not None and self.latency_ms <= 0:
            raise ConfigError(f"a latency of {self.latency_ms:g} ms cannot be reached", hint="give milliseconds > 0")
        if self.max_drop is not None and self.max_drop < 0:
            raise ConfigError(f"a drop of {self.max_drop:g} is a gain", hint="give points >= 0")

    @property
    def bounds_accuracy(self) -> bool:
        """Whether an accuracy was asked for."""
        return self.min_sqnr_db is not None or self.max_drop is not None

    def accepts(self, accuracy: Accuracy) -> bool:
        """Whether an accuracy is enough.

        Args:
            accuracy: Of a candidate.

        Returns:
            Whether all that was asked for is kept.

        Raises:
            ConfigError: A drop was asked for, and there are no labels.
        """
        if self.max_drop is not None and accuracy.drop is None:
            raise ConfigError("a drop of the metric was asked for, but the data have no labels", hint="give --labels")
        enough = self.min_sqnr_db is None or accuracy.sqnr_db >= self.min_sqnr_db
        return enough and (self.max_drop is None or accuracy.drop is None or accuracy.drop <= self.max_drop)


def parse_latency_ms(text: str) -> float:
    """Milliseconds of a text such as '1.2ms', '800us' or '1.2'; ConfigError for anything else."""
    return _parse(text, _UNITS_MS, "ms", "latency")


def parse_budget_s(text: str) -> float:
    """Seconds of a text such as '20min', '90s' or '1h'; ConfigError for anything else."""
    return _parse(text, _UNITS_S, "s", "budget")


def _parse(text: str, units: dict[str, float], default: str, what: str) -> float:
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", text)
    if found is None or (found[2] or default) not in units or float(found[1]) <= 0:
        raise ConfigError(f"{what} '{text}' cannot be read", hint=f"a number with {', '.join(units)}")
    return float(found[1]) * units[found[2] or default]
