"""The search for the best placement, over a GPU whose times are known. Oracles: every choice, and ONNX Runtime."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import quantlab
from engine_double import FEATURES
from models import parse
from quantlab.errors import ConfigError, GraphError
from quantlab.tune import trials
from quantlab.tune.journal import Journal
from quantlab.tune.latency import first_choices
from quantlab.tune.points import front_of
from quantlab.tune.problem import DEFAULT, FLOAT, IMPLICIT, Problem
from quantlab.tune.search import FRONT, MAX_ENGINES, Search
from quantlab.tune.target import Accuracy, Target
from quantlab.tune.trials import Workbench
from quantlab.tune.tuned import reason_of, tuned_from
from search_scene import Open, Scene, given_names, recorded
from tune_double import TimedRuntime, deep_net, images

pytestmark = pytest.mark.long


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


def test_estimate_that_no_engine_bears_out_is_not_on_the_front(searching: Open) -> None:
    search = searching(Target(min_sqnr_db=36))
    search.run()
    measured = [p for p in search.points.values() if p.measured]
    wonder = replace(measured[0], latency_ms=measured[0].latency_ms / 1000, measured=False)
    assert front_of([*measured, wonder]) == front_of(measured)
    assert front_of([wonder]) == [wonder]  # where nothing can be measured


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
