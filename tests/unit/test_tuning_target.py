"""What a search can be asked for."""

from __future__ import annotations

import pytest

from quantlab.errors import ConfigError
from quantlab.tune.target import Accuracy, Target, parse_budget_s, parse_latency_ms


@pytest.mark.parametrize(
    ("text", "value"), [("1.2ms", 1.2), ("800us", 0.8), ("1.2", 1.2), (" 2 ms ", 2), ("0.5s", 500), (".5", 0.5)]
)
def test_latency_is_read(text: str, value: float) -> None:
    assert parse_latency_ms(text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "value"), [("20min", 1200), ("90s", 90), ("1h", 3600), ("5", 5)])
def test_budget_is_read(text: str, value: float) -> None:
    assert parse_budget_s(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "fast", "1.2 years", "-1ms", "0", "1..2", "nan"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        parse_latency_ms(text)
    with pytest.raises(ConfigError, match="cannot be read"):
        parse_budget_s(text)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"objective": "speed"}, "no objective 'speed'"),
        ({"objective": "accuracy"}, "within which latency"),
        ({"latency_ms": 0.0}, "cannot be reached"),
        ({"max_drop": -1.0}, "is a gain"),
        ({"max_drop": float("nan")}, "max_drop of a Target is nan"),
        ({"min_sqnr_db": float("inf")}, "min_sqnr_db of a Target is inf"),
        ({"latency_ms": float("nan")}, "latency_ms of a Target is nan"),
    ],
)
def test_target_that_makes_no_sense_is_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Target(**values)  # type: ignore[arg-type]


def test_objective_follows_from_what_is_bounded() -> None:
    assert Target().objective == "latency"
    assert Target(latency_ms=1.0).objective == "accuracy"
    assert Target(latency_ms=1.0, objective="latency").objective == "latency"


def test_drop_is_of_the_metric() -> None:
    assert Accuracy(30).drop is None
    assert Accuracy(30, 79.5, 80.0).drop == pytest.approx(0.5)
