"""A network that is searched over a GPU whose times are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import quantlab
from quantlab.api import record_latencies
from quantlab.tune.latency_table import LatencyTable
from quantlab.tune.problem import DEFAULT, EVERY, FLOAT, IMPLICIT, Problem
from quantlab.tune.search import Search
from tune_double import TimedRuntime, deep_net, images, noise_of

LAYERS = 6


class Scene:
    """A network, its scales and what INT8 does to each of its regions."""

    def __init__(self) -> None:
        self.model = deep_net(LAYERS)
        self.table = quantlab.calibrate(self.model, images(), "minmax", tensors="all")
        self.noise = noise_of(self.model, self.table)

    def problem(self, folder: Path, runtime: TimedRuntime | None, **values: Any) -> Problem:
        return Problem(self.model, self.table, images(), folder, runtime=runtime, **values)


Open = Callable[..., Search]


def given_names(search: Search) -> list[str]:
    """Of the candidates that everybody has; in a small network the default is everything."""
    return [name for name in (FLOAT, EVERY, DEFAULT, IMPLICIT) if name in search.points]


def recorded(scene: Scene, folder: Path) -> LatencyTable:
    return record_latencies(scene.problem(folder, TimedRuntime()))
