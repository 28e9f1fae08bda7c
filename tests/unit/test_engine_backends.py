"""Engines as backends of a comparison, over the host double of a runtime."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from engine_double import HostRuntime
from models import conv_net, image_batches, quantized, run
from quantlab.comparison import compare_models, engine_backends
from quantlab.comparison.engine_backends import build_engine, engine_facts, open_engines
from quantlab.data import Batch
from quantlab.engines import measure
from quantlab.engines.audit import Audit
from quantlab.engines.bench import BenchOptions, BenchRow, Measured, Ratio, Throughput, summarize
from quantlab.engines.engine import Engine
from quantlab.engines.options import BuildSettings
from quantlab.engines.profiles import profile_for
from quantlab.onnx_model import input_specs

BATCH: Batch = image_batches(1, 4)[0]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_backends, "BENCH", BenchOptions(1.0, 0.02, rounds=2, transfers=False))
    monkeypatch.setattr(measure, "BUSY_WARM_UP_MS", 1.0)


def build(runtime: HostRuntime, precision: str, model: onnx.ModelProto, settings: BuildSettings) -> Engine:
    profile = profile_for(input_specs(model), BATCH)
    int8 = runtime.stream_calibrator("entropy2", image_batches(2, 4)) if precision == "int8" else None
    return build_engine(runtime, precision, model, profile, settings, int8)


@pytest.mark.parametrize(
    ("precision", "built_as"), [("fp32", "fp32"), ("fp16", "fp16"), ("int8", "best"), ("qdq", "best")]
)
def test_engine_of_a_backend_is_built_for_its_batch_and_settings(precision: str, built_as: str, tmp_path: Path) -> None:
    runtime, settings = HostRuntime(), BuildSettings(tmp_path / "t.cache", 1)
    model = quantized(conv_net(), image_batches(1)).model if precision == "qdq" else conv_net()
    build(runtime, precision, model, settings)
    ((options, source),) = runtime.builds
    assert (options.precision, options.timing_cache, options.optimization_level) == (built_as, tmp_path / "t.cache", 1)
    assert [(p.min["image"][0], p.opt["image"][0], p.max["image"][0]) for p in options.profiles] == [(1, 4, 4)]
    assert source.description == {"int8": "EntropyCalibration2", "qdq": "explicit Q/DQ"}.get(precision, "")
    fixed = HostRuntime()
    build_engine(fixed, "fp32", conv_net("4"), None, BuildSettings(), None)
    assert fixed.builds[0][0].profiles == ()


def test_engines_are_measured_audited_and_opened_as_backends() -> None:
    scale = "Missing scale and zero-point for tensor c, expect fall back to"
    runtime = HostRuntime(messages=(scale, "The moon is full"), float_nodes=("c",))
    engines = {p: build(runtime, p, conv_net(), BuildSettings()) for p in ("fp16", "int8")}
    with ExitStack() as stack:
        fp16, int8 = open_engines(runtime, engines, dict.fromkeys(engines, conv_net()), BATCH, stack)
        np.testing.assert_allclose(int8.run(BATCH)["logits"], run(conv_net(), dict(BATCH))[0], rtol=1e-5)
        assert runtime.driver.live
    assert not runtime.driver.live
    assert (fp16.name, fp16.int8, fp16.notes, fp16.facts["int8_share"]) == ("fp16", False, (), 0.0)
    assert (int8.name, int8.int8, int8.size_bytes) == ("int8", True, len(engines["int8"].plan))
    assert int8.notes == (
        "'c': the tensor has no INT8 scale, so the layers around it run in FP32 or FP16",
        "Conv 'c' runs in fp16: tensor 'c' has no INT8 scale",
    )
    assert int8.facts["int8_share"] == pytest.approx(2 / 3)
    assert int8.facts["batch_size"] == 4
    assert int8.facts["latency_ratio"] == pytest.approx(
        np.median([int8.facts["round_0_ms"], int8.facts["round_1_ms"]])
        / np.median([fp16.facts["round_0_ms"], fp16.facts["round_1_ms"]])
    )
    assert fp16.facts["latency_ratio"] == 1.0


def test_graphs_are_used_where_they_can_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, provider in ((True, "cuda-python"), (False, None)):
        monkeypatch.setattr(engine_backends, "find_spec", lambda name, there=there: object() if there else None)
        runtime = HostRuntime()
        engines = {"fp16": build(runtime, "fp16", conv_net(), BuildSettings())}
        with ExitStack() as stack:
            open_engines(runtime, engines, {"fp16": conv_net()}, BATCH, stack)
        assert runtime.providers[0] == provider


def row() -> BenchRow:
    engine = build(HostRuntime(), "fp16", conv_net(), BuildSettings())
    measured = Measured(4, [np.array([1.0]), np.array([3.0])], Throughput(10.0, 8.0, 100.0), None, 2**20)
    return BenchRow(summarize("e", engine, measured), Ratio("e", "base", 0.5, 0.4, 0.6))


def test_facts_of_an_engine_are_those_that_could_be_measured() -> None:
    found = engine_facts(row(), Audit((), {"a": "int8"}, ()))
    assert found == {
        "build_s": 0.25, "batch_size": 4, "latency_mean_ms": 2.0, "latency_p50_ms": 2.0,
        "latency_p90_ms": pytest.approx(2.8), "latency_p99_ms": pytest.approx(2.98), "latency_ratio": 0.5,
        "latency_ratio_low": 0.4, "latency_ratio_high": 0.6, "samples_per_s": 40.0, "memory_mib": 1.0,
        "int8_share": 1.0, "int8_time_share": 0.0, "energy_mj": 2.0, "round_0_ms": 1.0, "round_1_ms": 3.0,
    }  # fmt: skip
    unknown = replace(row(), result=replace(row().result, energy_mj=None))
    hidden = engine_facts(unknown, Audit((), {"a": "hidden"}, ()))
    assert not {"int8_share", "int8_time_share", "energy_mj"} & set(hidden)


def test_engine_whose_inside_does_not_show_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = HostRuntime()
    engines = {"int8": build(runtime, "int8", conv_net(), BuildSettings())}
    monkeypatch.setattr(engine_backends, "audit_inspection", lambda *given: Audit((), {"a": "hidden", "b": "int8"}, ()))
    with ExitStack() as stack:
        (backend,) = open_engines(runtime, engines, {"int8": conv_net()}, BATCH, stack)
    (note,) = backend.notes
    assert note.startswith("what runs in INT8 cannot be told: 1 of 2 Conv, Gemm and MatMul nodes do not show")


def test_engine_of_one_batch_size_takes_a_short_last_batch_of_a_comparison() -> None:
    runtime = HostRuntime()
    engine = build_engine(runtime, "fp32", conv_net("4"), None, BuildSettings(), None)
    batches = [*image_batches(1, 4), {"image": image_batches(1, 3, seed=1)[0]["image"]}]
    with ExitStack() as stack:
        (backend,) = open_engines(runtime, {"engine": engine}, {"engine": conv_net("4")}, BATCH, stack)
        result = compare_models(conv_net(), [backend], batches).results[1]
        got = backend.run(batches[1])["logits"]
        np.testing.assert_allclose(got, run(conv_net(), batches[1])[0], rtol=1e-5)
    assert (result.failed, result.worst_sqnr_db > 100) == ("", True)
