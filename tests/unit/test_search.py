"""The search for the best placement, over a GPU whose times are known. Oracles: every choice, and ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantlab
from engine_double import FEATURES
from models import floats, parse
from quantlab.api import TuningRequest, record_latencies, tune
from quantlab.errors import BuildError, ConfigError, GraphError
from quantlab.tune import trials
from quantlab.tune.journal import Journal
from quantlab.tune.latency import first_choices
from quantlab.tune.latency_table import LatencyTable
from quantlab.tune.points import front_of
from quantlab.tune.problem import DEFAULT, EVERY, FLOAT, IMPLICIT, Problem
from quantlab.tune.search import FRONT, MAX_ENGINES, Search
from quantlab.tune.target import Accuracy, Target
from quantlab.tune.trials import Workbench
from quantlab.tune.tuned import reason_of, tuned_from
from tune_double import TimedRuntime, deep_net, images, latency_ms, noise_of

LAYERS = 6


class Scene:
    """A network, its scales and what INT8 does to each of its regions."""

    def __init__(self) -> None:
        self.model = deep_net(LAYERS)
        self.table = quantlab.calibrate(self.model, images(), "minmax", tensors="all")
        self.noise = noise_of(self.model, self.table)

    def problem(self, folder: Path, runtime: TimedRuntime | None, **values: Any) -> Problem:
        return Problem(self.model, self.table, images(), folder, runtime=runtime, **values)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


Open = Callable[..., Search]


@pytest.fixture
def searching(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    def begin(target: Target, runtime: TimedRuntime | None = None, folder: str = "s", **values: Any) -> Search:
        runtime = runtime or TimedRuntime()
        monkeypatch.setattr(trials, "bench", runtime.bench)
        (tmp_path / folder).mkdir(exist_ok=True)
        problem = scene.problem(tmp_path / folder, runtime)
        bench = Workbench(problem, Journal(tmp_path / folder / "journal", {}))
        return Search(bench, target, scene.noise, **values)

    return begin


def given_names(search: Search) -> list[str]:
    """Of the candidates that everybody has; in a small network the default is everything."""
    return [name for name in (FLOAT, EVERY, DEFAULT, IMPLICIT) if name in search.points]


@pytest.fixture(scope="module")
def every(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, float]]:
    """(latency, SQNR) of every choice there is."""
    problem, found = scene.problem(tmp_path_factory.mktemp("truth"), None), []
    for choice in product((False, True), repeat=len(scene.noise)):
        quantized = problem.quantized(problem.trial(choice))
        model = quantized.model if quantized else problem.prepared
        row = quantlab.compare(scene.model, {"q": model}, images()).results[1]
        found.append((latency_ms(model), row.worst_sqnr_db))
    return found


def test_answer_is_the_best_of_all_choices(searching: Open, every: list[tuple[float, float]]) -> None:
    ranks = []
    for floor in (36.0, 38.0, 40.0, 43.0, 46.0):
        best = searching(Target(min_sqnr_db=floor), folder=f"s{floor}").run()
        assert best is not None and best.accuracy.sqnr_db >= floor
        possible = sorted(latency for latency, sqnr in every if sqnr >= floor)
        ranks.append(best.latency_ms / possible[0])
    assert max(ranks) < 1.03
    assert np.median(ranks) < 1.001


@pytest.mark.parametrize("target", [Target(), Target(min_sqnr_db=35), Target(min_sqnr_db=44), Target(min_sqnr_db=99)])
def test_answer_is_never_slower_than_what_everybody_has(searching: Open, target: Target) -> None:
    search = searching(target, TimedRuntime(implicit_ms=0.09))
    best = search.run()
    assert best is not None and best.measured
    assert {FLOAT, DEFAULT, IMPLICIT} <= set(given_names(search))
    for point in map(search.points.__getitem__, given_names(search)):
        if search.target.accepts(point.accuracy):
            assert best.latency_ms <= point.latency_ms
    assert search.target.accepts(best.accuracy)


def test_fast_engine_of_tensorrts_own_choice_wins(searching: Open) -> None:
    search = searching(Target(min_sqnr_db=20), TimedRuntime(implicit_ms=0.001))
    best = search.run()
    assert best is not None and best.trial.name == IMPLICIT
    found = tuned_from(search, best, "here")
    assert found.quantized is None
    assert "TensorRT's own choice" in found.summary


def test_without_an_accuracy_that_of_the_default_is_kept(searching: Open) -> None:
    search = searching(Target())
    best = search.run()
    assert best is not None
    assert search.target.min_sqnr_db == search.points[DEFAULT].accuracy.sqnr_db
    assert best.accuracy.sqnr_db >= search.points[DEFAULT].accuracy.sqnr_db


def test_most_accurate_within_a_latency(searching: Open, every: list[tuple[float, float]]) -> None:
    fastest = min(latency for latency, _ in every)
    for latency in (fastest * 1.02, fastest * 1.1):
        best = searching(Target(latency_ms=latency), folder=f"l{latency}").run()
        assert best is not None and best.latency_ms <= latency
        possible = max(sqnr for time, sqnr in every if time <= latency)
        assert best.accuracy.sqnr_db >= possible - 1.0


def test_target_out_of_reach_has_the_nearest(searching: Open) -> None:
    search = searching(Target(latency_ms=0.001))
    assert search.run() is None
    nearest = search.nearest()
    assert nearest.latency_ms == min(p.latency_ms for p in search.points.values() if p.measured)
    found = tuned_from(search, None, "here")
    assert not found.reached
    assert found.best == nearest


def test_both_bounds_hold(searching: Open) -> None:
    free = searching(Target(min_sqnr_db=38)).run()
    assert free is not None
    bound = searching(Target(min_sqnr_db=38, latency_ms=free.latency_ms * 0.99, objective="latency"), folder="b").run()
    assert bound is None


def test_budget_ends_the_building_but_not_the_answer(searching: Open) -> None:
    runtime = TimedRuntime()
    search = searching(Target(min_sqnr_db=36), runtime, budget_s=1e-9)
    best = search.run()
    assert best is not None and best.measured
    assert len(runtime.built) == len(given_names(search)) + 3  # with the mixtures
    assert any(not point.measured for point in search.points.values())  # the front is estimated


def test_engines_are_few(searching: Open) -> None:
    runtime = TimedRuntime()
    searching(Target(min_sqnr_db=38), runtime).run()
    assert len(runtime.built) == len(set(runtime.built)) <= 7 + MAX_ENGINES + FRONT


def test_tensorrt_without_calibrators_is_searched_without_an_implicit_engine(searching: Open) -> None:
    search = searching(Target(min_sqnr_db=36), TimedRuntime(features=replace(FEATURES, calibrators=False)))
    assert search.run() is not None
    assert IMPLICIT not in search.points


def test_front_has_no_beaten_point(searching: Open) -> None:
    search = searching(Target(min_sqnr_db=36))
    search.run()
    front = front_of(search.points.values())
    assert [p.latency_ms for p in front] == sorted(p.latency_ms for p in front)
    for one in front:
        faster = [p for p in search.points.values() if p.latency_ms < one.latency_ms]
        assert all(p.accuracy.sqnr_db < one.accuracy.sqnr_db for p in faster)


def recorded(scene: Scene, folder: Path) -> LatencyTable:
    return record_latencies(scene.problem(folder, TimedRuntime()))


def test_recorded_latencies_serve_without_a_gpu(
    scene: Scene, searching: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = searching(Target(min_sqnr_db=38)).run()
    (tmp_path / "p").mkdir()
    table = recorded(scene, tmp_path / "p")
    monkeypatch.setattr(trials, "bench", None)  # nothing is measured from here on
    (tmp_path / "e").mkdir()
    bench = Workbench(scene.problem(tmp_path / "e", None), Journal(tmp_path / "e" / "j", {}))
    search = Search(bench, Target(min_sqnr_db=38), scene.noise, table.observations)
    best = search.run()
    assert best is not None and measured is not None and not best.measured
    assert best.trial == measured.trial
    assert best.latency_ms == pytest.approx(measured.latency_ms, rel=0.05)
    assert tuned_from(search, best, "there").engine is None


def test_model_with_nothing_to_quantize_is_refused(tmp_path: Path) -> None:
    model = parse("m (float[2,3] x) => (float[2,3] y) { y = Tanh (x) }")
    provenance = quantlab.calibrate(deep_net(2), images(), "minmax").provenance
    table = quantlab.CalibrationTable({"x": np.float32(1)}, provenance)
    bench = Workbench(Problem(model, table, images(), tmp_path), Journal(tmp_path / "j", {}))
    with pytest.raises(GraphError, match="nothing to quantize"):
        Search(bench, Target(), []).run()


def test_drop_without_labels_is_refused(searching: Open) -> None:
    with pytest.raises(ConfigError, match="the data have no labels"):
        searching(Target(max_drop=0.5)).run()


def test_answer_says_why_each_layer_is_float(searching: Open, tmp_path: Path) -> None:
    search = searching(Target(min_sqnr_db=44))
    best = search.run()
    found = tuned_from(search, best, "H200, TensorRT 8.6.0")
    assert found.quantized is not None
    reasons = {s.node: s.reason for s in found.quantized.placement.skipped}
    left = [name for name, on in zip(found.regions, found.best.trial.int8, strict=True) if not on]
    assert left
    for name in left:
        assert reasons[name] == reason_of(*found.effects[name])
    assert set(found.layer_precisions) == set(left)
    written = found.save(tmp_path / "out")
    content = json.loads(written["result"].read_text())
    assert content["best"]["float"] == left
    assert content["best"]["latency_ms"] == found.best.latency_ms
    row = quantlab.compare(search.bench.problem.model, {"q": written["model"]}, images()).results[1]
    assert row.worst_sqnr_db == pytest.approx(found.best.accuracy.sqnr_db, abs=1e-6)
    measured = search.bench.problem.folder / "engines" / f"{found.best.trial.name}.engine"
    assert written["engine"].read_bytes() == measured.read_bytes()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((-1.25, -3.0), "INT8 here costs 1.25 dB and saves 3.0 us, by the search's estimate"),
        ((0.5, 2.0), "INT8 here costs 0.00 dB and takes 2.0 us more, by the search's estimate"),
    ],
)
def test_reason_is_a_clause(values: tuple[float, float], text: str) -> None:
    assert reason_of(*values) == text


def test_first_choices_show_every_border_of_neighbours_in_both_directions() -> None:
    nothing, everything, one, other, pairs = first_choices((True,) * 6)
    assert not any(nothing) and all(everything)
    assert all((one[k], one[k + 1]) != (other[k], other[k + 1]) and one[k] != one[k + 1] for k in range(5))
    assert all(pairs[k] != pairs[k + 2] for k in range(4))  # and those that skip a region
    assert first_choices((True, False))[1] == (True, False)
    assert len(set(first_choices((True, False)))) == len(first_choices((True, False)))


def test_point_on_the_floor_is_accepted() -> None:
    assert Target(min_sqnr_db=30).accepts(Accuracy(30.0))
    assert not Target(max_drop=0.5).accepts(Accuracy(30.0, 80.0, 80.6))
    assert Target(max_drop=0.5).accepts(Accuracy(30.0, 80.0, 80.5))


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
