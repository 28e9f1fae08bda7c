"""What can go wrong in a search: engines that fail or differ, odd models and names, interruptions."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantlab
from engine_double import FP16, INT8, HostEngine
from models import floats, parse
from quantlab.api import TuningRequest, tune
from quantlab.data import Batch
from quantlab.engines.engine import Engine
from quantlab.errors import BuildError, ConfigError
from quantlab.tune import trials
from quantlab.tune.journal import Journal
from quantlab.tune.points import front_of
from quantlab.tune.problem import FLOAT, Problem
from quantlab.tune.search import Search
from quantlab.tune.target import Target
from quantlab.tune.trials import Workbench
from quantlab.tune.tuned import tuned_from
from search_scene import LAYERS, Open, Scene, given_names, recorded
from tune_double import TimedRuntime, deep_net, images, rows_and_times

pytestmark = pytest.mark.long


def plain_net() -> Any:
    """All float by default: products of one row."""
    text = "m (float[1,16] x) => (float[1,4] y) { a = Gemm (x, w)  r = Relu (a)  y = Gemm (r, v) }"
    model = parse(text, {"w": floats(16, 16), "v": floats(16, 4, seed=1)})
    for node in model.graph.node:
        node.name = node.output[0]
    return model


@pytest.mark.parametrize("target", [Target(), Target(min_sqnr_db=20)])
def test_model_that_is_all_float_by_default_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Target
) -> None:
    model, runtime = plain_net(), TimedRuntime()
    monkeypatch.setattr(trials, "bench", runtime.bench)
    data = [{"x": floats(1, 16, seed=k)} for k in range(4)]
    table = quantlab.calibrate(model, data, "minmax", tensors="all")
    problem = Problem(model, table, data, tmp_path, runtime=runtime)
    assert problem.trial(problem.default).name == FLOAT
    search = Search(Workbench(problem, Journal(tmp_path / "j", {})), target, [1e-4, 1e-4])
    best = search.run()
    assert best is not None and not search.failed
    assert search.target.accepts(best.accuracy)
    bench = Workbench(Problem(model, table, data, tmp_path), Journal(tmp_path / "k", {}))
    search = Search(
        bench,
        Target(),
        [1e-4, 1e-4],
        [search.bench.observation(p.trial) for p in search.points.values() if p.trial.int8 and p.measured],
    )
    best = search.run()
    assert best is not None and best.trial.name == FLOAT


def test_names_of_layers_are_no_patterns(tmp_path: Path) -> None:
    names = ("first", "last", "op:Conv", "conv[1]", "conv1", "c*")
    model = deep_net(LAYERS)
    for node, name in zip((n for n in model.graph.node if n.op_type == "Conv"), names, strict=True):
        node.name = name
    table = quantlab.calibrate(model, images(), "minmax", tensors="all")
    problem = Problem(model, table, images(), tmp_path)
    for choice in product((False, True), repeat=LAYERS + 1):
        quantized = problem.quantized(problem.trial(choice))
        assert (quantized is None) == (not any(choice))
        assert quantized is None or problem.choice_of(quantized.placement) == choice


class Noisy(TimedRuntime):
    """Engines are further from FP32 than ONNX Runtime says, and clocks drift from run to run."""

    noise = 10 ** (-44 / 20)
    drift = 1.0

    def open(self, engine: Any, provider: str | None = None) -> Any:
        running = super().open(engine, provider)
        call, generator, noise = type(running).__call__, np.random.default_rng(1), self.noise

        class Engine(type(running)):  # type: ignore[misc]
            def __call__(self, batch: Any) -> Any:
                outputs = call(self, batch)
                return {
                    n: y + noise * y.std() * generator.normal(size=y.shape).astype(np.float32)
                    for n, y in outputs.items()
                }

        running.__class__ = Engine
        return running

    def bench(self, runtime: Any, engines: Any, batch: Any, options: Any) -> list[Any]:
        self.drift *= 1.02
        rows = super().bench(runtime, engines, batch, options)
        for row in rows:
            row.rounds_ms = tuple(self.drift * time for time in row.rounds_ms)
        return rows


def test_engines_less_accurate_than_onnx_runtime_do_not_end_the_search(
    searching: Open, every: list[tuple[float, float]]
) -> None:
    ratios = []
    for floor in (36.0, 38.0, 40.0):
        search = searching(Target(min_sqnr_db=floor), Noisy(), folder=f"n{floor}")
        best = search.run()
        assert best is not None and best.accuracy.sqnr_db >= floor
        lost = 10 ** (-44 / 10)  # what the engine adds to the noise of a choice
        possible = [time for time, sqnr in every if -10 * np.log10(10 ** (-sqnr / 10) + 1.5 * lost) >= floor]
        ratios.append(best.latency_ms / min(possible))
    assert max(ratios) < 1.08, ratios


def test_what_is_chosen_was_measured_beside_what_everybody_has(searching: Open) -> None:
    search = searching(Target(latency_ms=0.16), Noisy())
    best = search.run()
    assert best is not None
    assert best.trial.name in search._confirmed
    assert set(given_names(search)) <= search._confirmed
    assert best.latency_ms <= 0.16


def test_interrupted_judgement_is_no_fact(searching: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    search = searching(Target(min_sqnr_db=38))
    compared = trials.compare_models

    def partial(*args: Any, **values: Any) -> Any:
        return replace(compared(*args, **values), partial=True)

    monkeypatch.setattr(trials, "compare_models", partial)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    assert not search.bench.journal.known("accuracy")


def test_float_engine_that_overflows_still_serves_as_a_clock(searching: Open) -> None:
    class Overflowing(TimedRuntime):
        def open(self, engine: Any, provider: str | None = None) -> Any:
            running = super().open(engine, provider)
            if engine.record.int8:
                return running
            call = type(running).__call__

            class Engine(type(running)):  # type: ignore[misc]
                def __call__(self, batch: Any) -> Any:
                    return {name: y * np.float32(np.nan) for name, y in call(self, batch).items()}

            running.__class__ = Engine
            return running

    search = searching(Target(min_sqnr_db=30), Overflowing())
    best = search.run()
    assert best is not None and best.trial.name != FLOAT
    assert "cannot be judged" in search.failed[FLOAT]


def test_latencies_of_another_gpu_are_refused_beside_a_runtime(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = TimedRuntime()
    monkeypatch.setattr(trials, "bench", runtime.bench)
    (tmp_path / "p").mkdir()
    table = recorded(scene, tmp_path / "p")
    ask = TuningRequest(scene.table, images(), tmp_path / "a", Target(min_sqnr_db=38), runtime=runtime)
    found = tune(scene.model, replace(ask, latencies=table))
    assert found.best.measured
    for change in ({"gpu": "another"}, {"tensorrt": "10.0.0"}):
        with pytest.raises(ConfigError, match="its milliseconds do not hold"):
            tune(scene.model, replace(ask, latencies=replace(table, **change), folder=tmp_path / str(change)))


def test_candidate_that_cannot_be_built_is_left_out_and_named(searching: Open) -> None:
    class Fragile(TimedRuntime):
        def build(self, model: Any, options: Any, int8: Any = None) -> Any:
            self.fails = "no kernel" if len(self.builds) in (3, 4) else ""
            return super().build(model, options, int8)

    search = searching(Target(min_sqnr_db=38), Fragile())
    best = search.run()
    assert best is not None
    assert len(search.failed) == 2
    assert all("no kernel" in why for why in search.failed.values())
    assert not search.failed.keys() & search.points.keys()
    assert tuned_from(search, best, "here").to_dict()["failed"] == search.failed


def test_model_that_cannot_be_built_at_all_is_an_error(searching: Open) -> None:
    with pytest.raises(BuildError, match="no kernel"):
        searching(Target(min_sqnr_db=38), TimedRuntime(fails="no kernel")).run()


def test_interrupted_search_goes_on_to_the_same_answer(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at every fact in turn, in the middle of its line, and begun again each time."""

    class Killed(BaseException):
        pass

    runtime = TimedRuntime()
    monkeypatch.setattr(trials, "bench", runtime.bench)

    def run(folder: Path) -> tuple[Any, ...]:
        folder.mkdir(exist_ok=True)
        bench = Workbench(scene.problem(folder, runtime), Journal(folder / "j", {}))
        search = Search(bench, Target(min_sqnr_db=40), scene.noise)
        best = search.run()
        return best, search.points, front_of(search.points.values())

    undisturbed = run(tmp_path / "whole")
    builds = len(runtime.built)
    append, generator = Journal._append, np.random.default_rng(5)

    def torn(journal: Journal, line: Any) -> None:
        if generator.random() < 0.5:
            with journal.path.open("ab") as file:
                file.write(json.dumps(line).encode()[: int(generator.integers(0, 20))])
            raise Killed
        append(journal, line)

    monkeypatch.setattr(Journal, "_append", torn)
    kills = 0
    while True:
        try:
            result = run(tmp_path / "killed")
            break
        except Killed:
            kills += 1
    assert kills >= 10
    assert result == undisturbed
    assert len(runtime.built) - builds <= builds + kills  # only what was cut off is built again


class OtherFunction(HostEngine):
    """An engine that is not what it was built from."""

    def __call__(self, batch: Batch) -> dict[str, Any]:
        return {name: -y for name, y in super().__call__(batch).items()}


@dataclass
class WrongRuntime(TimedRuntime):
    """Gets engines wrong in which layers of both kinds stand, or all that have INT8."""

    all_of_them: bool = False

    def open(self, engine: Engine, provider: str | None = None) -> HostEngine:
        rows, _ = rows_and_times(onnx.load_from_string(engine.plan))
        kinds = {row["Inputs"][0]["Format/Datatype"] for row in rows if row["LayerType"] == "CaskConvolution"}
        wrong = INT8 in kinds and (self.all_of_them or FP16 in kinds)
        return OtherFunction(engine, self) if wrong else HostEngine(engine, self)


def test_engine_that_computes_something_else_is_no_candidate_and_it_is_said(searching: Open) -> None:
    search = searching(Target(min_sqnr_db=38), WrongRuntime())
    best = search.run()
    assert best is not None and best.trial.name in given_names(search)
    mixed = [p for p in search.points.values() if p.measured and len(set(p.trial.int8)) == 2]
    assert mixed and {p.trial.name for p in mixed} == set(search.failed)
    for reason in search.failed.values():
        assert "TensorRT's engine computes something else than its model: -" in reason
    front = {p.trial.name for p in front_of(tuned_from(search, best, "here").points) if p.measured}
    assert not front & set(search.failed)
    assert search.nearest().trial.name not in search.failed


def test_default_that_computes_something_else_bounds_nothing(searching: Open) -> None:
    with pytest.raises(BuildError, match="the default placement cannot be used: TensorRT's engine computes something"):
        searching(Target(), WrongRuntime(all_of_them=True)).run()
