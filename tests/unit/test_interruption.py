"""Ctrl-C at any point of a comparison: what is kept equals a comparison of the batches before it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
import pytest

import quantlab
from models import floats, parse
from quantlab.comparison import Comparison
from quantlab.comparison.run import ComparisonRun
from quantlab.data import ArrayBatches

COUNT = 3
WEIGHTS = floats(6, 4)
MODEL = parse("m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }", {"w": WEIGHTS})
X, LABELS = floats(8 * COUNT, 6, seed=1), np.arange(8 * COUNT) % 4
Outputs = Mapping[str, np.ndarray]
Hook = Callable[[str], None]


def data(batches: int = COUNT) -> ArrayBatches:
    return ArrayBatches({"x": X[: 8 * batches]}, batch_size=8, labels=LABELS[: 8 * batches])


def nothing(point: str) -> None:
    """No interruption."""


def compared(batches: int = COUNT, hook: Hook = nothing, whole_set: bool = False) -> Comparison:
    """FP32 and two backends with a metric; `hook` is called with the name of every point where users' code runs."""

    class Stream:
        def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
            return (batch for batch, _ in self.labeled())

        def labeled(self) -> Iterator[Any]:
            for element in data(batches).labeled():
                hook("stream")
                yield element

    def backend(name: str, amount: float) -> Callable[[Mapping[str, np.ndarray]], Outputs]:
        def runs(batch: Mapping[str, np.ndarray]) -> Outputs:
            hook(name)
            return {"y": batch["x"] @ WEIGHTS + np.float32(amount)}

        return runs

    def per_sample(outputs: Outputs, labels: Any) -> np.ndarray:
        hook("metric")
        return np.take_along_axis(outputs["y"], labels[:, None], 1)[:, 0]

    class Total:
        def __init__(self) -> None:
            self.total = 0.0

        def update(self, outputs: Outputs, labels: Any) -> None:
            self.total += float(outputs["y"].sum())
            hook("update")  # with this batch half taken
            self.total += len(labels)

        def compute(self) -> float:
            hook("compute")
            return self.total

    backends = {"one": backend("one", 0.5), "two": backend("two", -0.25)}
    metric: Any = Total if whole_set else per_sample
    return quantlab.compare(MODEL, backends, Stream(), metric=metric, on_batch=lambda done: hook("on_batch"))


def at(point: str, call: int) -> Hook:
    """A hook that interrupts the given call of a point, counted from 1."""
    calls = []

    def hook(reached: str) -> None:
        calls.extend([reached] * (reached == point))
        if len(calls) == call and reached == point:
            raise KeyboardInterrupt

    return hook


@pytest.mark.parametrize(
    ("point", "call", "kept"),
    [
        ("stream", 2, 1), ("stream", 3, 2), ("one", 2, 1), ("one", 3, 2), ("two", 2, 1), ("two", 3, 2),
        ("metric", 4, 1), ("metric", 5, 1), ("metric", 6, 1), ("metric", 9, 2), ("on_batch", 1, 1), ("on_batch", 2, 2),
        ("on_batch", 3, 3),
    ],
)  # fmt: skip
def test_what_is_kept_equals_a_comparison_of_the_batches_before(point: str, call: int, kept: int) -> None:
    result, expected = compared(hook=at(point, call)), compared(kept)
    assert (result.partial, result.samples) == (True, 8 * kept)
    assert result.results == expected.results  # errors, accuracy, intervals, worst samples, classes, metrics
    assert result.warnings == (*expected.warnings, f"interrupted after {8 * kept} samples: the rest was not measured")


@pytest.mark.parametrize("point", ["stream", "one", "two", "metric"])
def test_interruption_before_the_first_batch_is_kept_is_passed_on(point: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        compared(hook=at(point, 1))


@pytest.mark.parametrize(("call", "lost"), [(4, ["fp32"]), (5, ["fp32", "one"]), (6, ["fp32", "one", "two"])])
def test_metric_of_the_whole_set_that_has_a_part_of_a_batch_is_not_given(call: int, lost: list[str]) -> None:
    """Its objects cannot give a batch back: those that were given the interrupted one have no value."""
    result, expected = compared(hook=at("update", call), whole_set=True), compared(1, whole_set=True)
    assert (result.partial, result.samples) == (True, 8)
    for row, known in zip(result.results, expected.results, strict=True):
        assert (row.metric_failed != "") == (row.name in lost)
        assert row.metric == (None if row.name in lost else known.metric)
        assert replace(row, metric=known.metric, metric_failed="") == known
    reason = "the metric has taken 2 batches, the comparison was interrupted after 1"
    for name in lost:
        assert any(w.startswith(f"the metric failed on '{name}': {reason}") for w in result.warnings)


@pytest.mark.parametrize(("point", "call"), [("stream", 2), ("one", 2), ("two", 2), ("on_batch", 1)])
def test_metric_of_the_whole_set_between_its_updates_is_that_of_the_batches_before(point: str, call: int) -> None:
    result = compared(hook=at(point, call), whole_set=True)
    assert result.results == compared(1, whole_set=True).results


def test_interruption_while_a_metric_is_computed_is_passed_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        compared(hook=at("compute", 1), whole_set=True)


def line_of_a_comparison(number: int) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that interrupts the given line of what a comparison does with its batches."""
    left = number

    def of_a_batch(frame: FrameType | None) -> bool:
        while frame is not None and frame.f_code is not ComparisonRun.over.__code__:
            frame = frame.f_back
        return frame is not None

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(("comparison/run.py", "comparison/tally.py", "comparison/metrics.py")):
            return None
        if event == "line" and of_a_batch(frame):
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    return trace


def test_interruption_in_any_line_leaves_whole_batches() -> None:
    expected = [compared(kept).results for kept in range(1, COUNT + 1)]
    seen, number, before = set(), 0, sys.gettrace()
    while True:
        number += 29  # a prime: other lines in every batch, each of which has about 130
        sys.settrace(line_of_a_comparison(number))
        try:
            result = compared()
        except KeyboardInterrupt:
            seen.add(0)
            continue
        finally:
            sys.settrace(before)
        kept = result.samples // 8
        assert result.results == expected[kept - 1]
        if not result.partial:
            break
        seen.add(kept)
    assert seen >= set(range(COUNT))
    assert number > 100
