"""The search for the placement on real engines."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

pytest.importorskip("tensorrt")

import quantlab
from quantlab.api.tuning import TuningRequest, record_latencies, tune
from quantlab.data import ArrayBatches
from quantlab.engines.options import BuildSettings
from quantlab.trt import open_runtime
from quantlab.tune.problem import Problem
from quantlab.tune.target import Target

WITHIN = 0.15
"""Of a latency that is estimated from engines of the same network; two builds of one model differ by some percent."""


def test_tuned_resnet20_is_the_fastest_of_all_that_keep_the_accuracy(
    resnet20: Path, calibration: ArrayBatches, labelled_images: ArrayBatches, timing_cache: Path, tmp_path: Path
) -> None:
    table = quantlab.calibrate(resnet20, calibration, "mse", tensors="all")
    settings = BuildSettings(timing_cache, 1)
    request = TuningRequest(
        table, labelled_images, tmp_path / "t", Target(max_drop=0.2), runtime=open_runtime(), settings=settings,
        budget_s=240,
    )  # fmt: skip
    found = tune(resnet20, request, lambda step: print(step, flush=True))
    print(found.summary)
    for point in found.points:
        print(point.trial.name, point.latency_ms, point.measured, point.accuracy.sqnr_db, point.accuracy.drop)
    assert found.reached and found.best.measured
    assert found.best.accuracy.drop is not None and found.best.accuracy.drop <= 0.2
    kept = [p for p in found.points if p.measured and found.target.accepts(p.accuracy)]
    assert found.best.latency_ms == min(p.latency_ms for p in kept)
    again = tune(resnet20, request)
    assert again.best == found.best


def test_recorded_latencies_foretell_other_engines(
    resnet20: Path, calibration: ArrayBatches, timing_cache: Path, tmp_path: Path
) -> None:
    from quantlab.tune.journal import Journal
    from quantlab.tune.latency import fit_latency
    from quantlab.tune.trials import Workbench

    table = quantlab.calibrate(resnet20, calibration, "mse", tensors="all")
    settings = BuildSettings(timing_cache, 1)
    problem = Problem(
        onnx.load(resnet20), table, calibration, tmp_path / "p", runtime=open_runtime(), settings=settings
    )
    recorded = record_latencies(problem)
    model = fit_latency(problem.regions, recorded.observations)
    half = tuple(on and k >= len(problem.everything) // 2 for k, on in enumerate(problem.everything))
    bench = Workbench(problem, Journal(tmp_path / "p" / "more", {}))
    bench.timing(problem.trial((False,) * len(half)))
    measured = bench.timing(problem.trial(half)).latency_ms
    print("estimated", model.latency_us(half) / 1000, "measured", measured)
    assert model.latency_us(half) / 1000 == pytest.approx(measured, rel=WITHIN)
