"""Results of searches for tests of their pages: one of a search with engines, others made by hand."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import quantlab
from hostile_report import ATTACK, LONG
from quantlab.tune import trials
from quantlab.tune.journal import Journal
from quantlab.tune.points import Point
from quantlab.tune.problem import Problem, Trial
from quantlab.tune.search import Search
from quantlab.tune.target import Accuracy, Target
from quantlab.tune.trials import Workbench
from quantlab.tune.tuned import Tuned, tuned_from
from tune_double import TimedRuntime, deep_net, images, noise_of

DEVICE = "H200, TensorRT 8.6.0"


@cache
@cache
def searched() -> Tuned:
    """By a search with engines; the files of those are gone."""
    model = deep_net()
    table = quantlab.calibrate(model, images(), "minmax", tensors="all")
    runtime = TimedRuntime(implicit_ms=0.19)
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as name:
        patch.setattr(trials, "bench", runtime.bench)
        folder = Path(name)
        problem = Problem(model, table, images(), folder, runtime=runtime)
        search = Search(Workbench(problem, Journal(folder / "j", {})), Target(38.0), noise_of(model, table))
        return tuned_from(search, search.run(), DEVICE)


def point(name: str, latency_ms: float, sqnr_db: float, int8: tuple[bool, ...] = (True, False), **more: Any) -> Point:
    accuracy = Accuracy(sqnr_db, more.get("metric"), more.get("fp32"))
    return Point(Trial(name, () if name == "implicit" else int8), accuracy, latency_ms, more.get("measured", True))


def tuned(*points: Point, best: int = 0, front: tuple[int, ...] = (0,), **more: Any) -> Tuned:
    """Made by hand, of two layers; all else can be given."""
    given: dict[str, Any] = {
        "best": points[best], "reached": True, "quantized": None, "target": Target(30.0),
        "front": tuple(points[k] for k in front), "points": points, "failed": {}, "effects": {}, "layer_precisions": {},
        "device": DEVICE, "spent_s": 12.0, "engine": None, "regions": ("a", "b"),
    }  # fmt: skip
    return Tuned(**given | more)


def hostile() -> Tuned:
    """500 layers, some of names that would break a page."""
    count = 500
    names = (ATTACK, LONG * 4, "a|b\nc,d:e*?[x]", "](javascript:alert(1))", *(f"layer{k}" for k in range(4, count)))
    mixed = tuple(k % 2 == 1 for k in range(count))
    bits = "x" + "f" * 125
    points = (
        point(bits, 1.5, 40.0, mixed),
        point("float", 2.0, math.inf, (False,) * count),
        point("everything", 1.0, 20.0, (True,) * count),
        point("implicit", 1.0, 20.0),
        point(ATTACK, 1.0, 20.0, mixed),
    )
    effects = {name: (0.01 * k * (1 if mixed[k] else -1), float(k)) for k, name in enumerate(names)}
    kept = {name: "fp16" for k, name in enumerate(names) if not mixed[k]}
    return tuned(
        *points, regions=names, effects=effects, layer_precisions=kept, device=f"GPU {ATTACK}", front=(2, 0, 1)
    )
