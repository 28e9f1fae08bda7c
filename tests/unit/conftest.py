"""What the tests of the search share; made where one of them runs."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from quantlab.tune.target import Target
    from search_scene import Open, Scene
    from tune_double import TimedRuntime


@pytest.fixture(scope="session")
def scene() -> Scene:
    from search_scene import Scene

    return Scene()


@pytest.fixture
def searching(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    from quantlab.tune import trials
    from quantlab.tune.journal import Journal
    from quantlab.tune.search import Search
    from quantlab.tune.trials import Workbench
    from tune_double import TimedRuntime

    def begin(target: Target, runtime: TimedRuntime | None = None, folder: str = "s", **values: Any) -> Search:
        runtime = runtime or TimedRuntime()
        monkeypatch.setattr(trials, "bench", runtime.bench)
        (tmp_path / folder).mkdir(exist_ok=True)
        problem = scene.problem(tmp_path / folder, runtime)
        bench = Workbench(problem, Journal(tmp_path / folder / "journal", {}))
        return Search(bench, target, scene.noise, **values)

    return begin


@pytest.fixture(scope="session")
def every(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, float]]:
    """(latency, SQNR) of every choice there is."""
    import quantlab
    from tune_double import images, latency_ms

    problem, found = scene.problem(tmp_path_factory.mktemp("truth"), None), []
    for choice in product((False, True), repeat=len(scene.noise)):
        quantized = problem.quantized(problem.trial(choice))
        model = quantized.model if quantized else problem.prepared
        row = quantlab.compare(scene.model, {"q": model}, images()).results[1]
        found.append((latency_ms(model), row.worst_sqnr_db))
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of a comparison are measured with a few runs only."""
    from quantlab.comparison import engine_backends
    from quantlab.engines import measure
    from quantlab.engines.bench import BenchOptions

    monkeypatch.setattr(engine_backends, "BENCH", BenchOptions(1.0, 0.01, iterations=4, rounds=2, transfers=False))
    monkeypatch.setattr(measure, "BUSY_WARM_UP_MS", 1.0)
