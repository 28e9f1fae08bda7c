"""Backends by name, built and opened; TensorRT's part is played by the host double of a runtime."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

import quantlab
from engine_double import FEATURES, HostRuntime
from models import coloured, conv_net, image_batches, run
from quantlab.cli import engine_runtime
from quantlab.comparison import engine_backends
from quantlab.comparison.backend import Backend, ort_backend
from quantlab.comparison.named_backends import BackendSet, BackendSpec, default_specs, parse_backend
from quantlab.data import Batch
from quantlab.engines import measure
from quantlab.engines.bench import BenchOptions
from quantlab.engines.options import BuildOptions, Profile
from quantlab.errors import DeviceError, MissingDependencyError
from quantlab.report import render_html


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("ort:fp32", BackendSpec("ort", "fp32")),
        ("ort:qdq:mse", BackendSpec("ort", "qdq", "mse")),
        ("trt:fp16", BackendSpec("trt", "fp16")),
        ("trt:int8:entropy2", BackendSpec("trt", "int8", "entropy2")),
        ("trt:qdq:percentile-99.5", BackendSpec("trt", "qdq", "percentile-99.5")),
        ("trt:tuned", BackendSpec("trt", "tuned")),
        ("trt:tuned:mse", BackendSpec("trt", "tuned", "mse")),
    ],
)
def test_backend_name_is_parsed_and_written_back(text: str, spec: BackendSpec) -> None:
    assert parse_backend(text) == spec
    assert spec.name == text


@pytest.mark.parametrize("text", ["", "ort", "ort:qdq", "ort:int8:mse", "trt:fp32:mse", "tensorrt:fp32", "trt:int8"])
def test_unknown_backend_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(quantlab.QuantlabError, match="there is no backend") as caught:
        parse_backend(text)
    assert "trt:int8:ALGORITHM" in str(caught.value)


def test_unknown_algorithm_is_refused() -> None:
    with pytest.raises(quantlab.QuantlabError, match="there is no algorithm 'entropy2'"):
        parse_backend("ort:qdq:entropy2")  # TensorRT's name, of the implicit path


def test_one_calibration_serves_all_qdq_backends() -> None:
    passes = []

    class Stream:
        def __iter__(self) -> object:
            passes.append(1)
            return iter(image_batches())

    with BackendSet(conv_net(), Stream()) as opened:
        opened.open([parse_backend(f"ort:qdq:{a}") for a in ("minmax", "mse")], image_batches(1)[0], asked_for=True)
        assert [b.name for b in opened.backends] == ["ort:qdq:minmax", "ort:qdq:mse"]
        assert len(passes) == 1
        assert all(b.facts["calibration_s"] > 0 for b in opened.backends)
        result = quantlab.compare(conv_net(), {b.name: b for b in opened.backends}, image_batches(2))
    direct = quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), image_batches(), quantlab.MinMax()))
    batch = image_batches(1)[0]
    np.testing.assert_array_equal(run(opened.quantized["minmax"].model, batch)[0], run(direct.model, batch)[0])
    assert result.results[1].facts["calibration_s"] > 0


def test_backend_that_needs_calibration_data_without_any_is_refused() -> None:
    with BackendSet(conv_net(), None) as opened, pytest.raises(quantlab.QuantlabError, match="needs calibration data"):
        opened.open([parse_backend("ort:qdq:mse")], image_batches(1)[0], asked_for=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines are measured with a few runs only."""
    monkeypatch.setattr(engine_backends, "BENCH", BenchOptions(1.0, 0.01, iterations=4, rounds=2, transfers=False))
    monkeypatch.setattr(measure, "BUSY_WARM_UP_MS", 1.0)


def opened_set(runtime: Callable[[], HostRuntime], names: list[str], **how: Any) -> BackendSet:
    """A set of backends that were opened and closed again."""
    with BackendSet(conv_net(), image_batches(2), open_runtime=runtime) as opened:
        opened.open([parse_backend(name) for name in names], image_batches(1)[0], **how)
    return opened


def test_engines_get_the_scales_of_their_path_and_their_twin() -> None:
    runtime = HostRuntime()
    names = ["ort:qdq:mse", "trt:fp16", "trt:int8:entropy", "trt:int8:mse", "trt:qdq:mse", "trt:qdq:minmax"]
    with BackendSet(conv_net(), image_batches(2), open_runtime=lambda: runtime) as opened:
        opened.open([parse_backend(n) for n in names], image_batches(1)[0], asked_for=True)
        assert [b.name for b in opened.backends] == names
        result = quantlab.compare(conv_net(), {b.name: b for b in opened.backends}, image_batches(2))
        assert runtime.driver.live
    assert not runtime.driver.live  # the engines are freed
    assert [(options.precision, source.description) for options, source in runtime.builds] == [
        ("fp16", ""), ("best", "EntropyCalibration2"), ("best", "TableCalibrator"),
        ("best", "explicit Q/DQ"), ("best", "explicit Q/DQ"),
    ]  # fmt: skip
    table = runtime.builds[2][1].table  # type: ignore[attr-defined]
    expected = quantlab.calibrate(conv_net(), image_batches(2), "mse", tensors="all")
    assert (table.provenance.algorithm, dict(table.amax)) == ("mse", dict(expected.amax))
    assert {b.name: b.twin for b in opened.backends if b.twin} == {"trt:qdq:mse": "ort:qdq:mse"}
    timed = {b.name for b in opened.backends if "calibration_s" in b.facts}
    assert timed == {"ort:qdq:mse", "trt:int8:mse", "trt:qdq:mse", "trt:qdq:minmax"}  # TensorRT's own is in its build
    by_name = {r.name: r for r in result.results}
    assert by_name["trt:qdq:mse"].runtime_sqnr_db == math.inf  # the double computes what ONNX Runtime computes
    assert by_name["trt:qdq:mse"].errors == by_name["ort:qdq:mse"].errors
    assert by_name["trt:qdq:minmax"].runtime_sqnr_db is None  # nobody asked for its twin


def test_network_of_tokens_runs_where_tensorrt_has_no_int64() -> None:
    generator = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        tokens (int64[N, 6] ids) => (float[N, 6, 8] y, int64[N, 6] best)
        {
          x = Gather <axis = 0> (table, ids)
          y = MatMul (x, w)
          best = ArgMax <axis = 2, keepdims = 0> (y)
        }
        """
    )
    for name, shape in {"table": (50, 16), "w": (16, 8)}.items():
        values = generator.standard_normal(shape, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    batches = [{"ids": generator.integers(0, 50, (4, 6))} for _ in range(2)]
    names = ["trt:fp16", "trt:int8:entropy2", "trt:qdq:minmax"]
    with BackendSet(model, batches, open_runtime=HostRuntime) as opened:
        opened.open([parse_backend(n) for n in names], batches[0], asked_for=True)
        result = quantlab.compare(model, {b.name: b for b in opened.backends}, batches)
    assert [(r.name, r.failed) for r in result.results if r.failed] == []
    assert {r.name: r.worst_sqnr_db for r in result.results}["trt:fp16"] == math.inf


def test_engine_that_computes_something_else_than_its_model_is_told() -> None:
    def wrong(batch: Batch) -> dict[str, Any]:
        return {name: y[..., ::-1] for name, y in twin.run(batch).items()}

    model, batches = conv_net(), image_batches(2)
    table = quantlab.calibrate(model, batches, "minmax")
    twin = ort_backend("ort:qdq:minmax", quantlab.quantize(model, table).model)
    same, other = Backend("same", twin.run, twin=twin.name), Backend("other", wrong, twin=twin.name)
    backends = {backend.name: backend for backend in (twin, same, other)}
    told = [w for w in quantlab.compare(model, backends, batches).warnings if "does not compute" in w]
    assert len(told) == 1
    assert told[0].startswith("'other' does not compute what its model does: ")


def no_gpu() -> HostRuntime:
    raise DeviceError("there is no GPU", hint="use a machine that has one")


def test_tensorrt_that_cannot_run_is_skipped_only_where_it_was_not_asked_for() -> None:
    with BackendSet(conv_net(), image_batches(2), open_runtime=no_gpu) as opened:
        opened.open(default_specs(), image_batches(1)[0], asked_for=False)
        assert [b.name for b in opened.backends] == [s.name for s in default_specs() if s.runtime == "ort"]
        assert opened.skipped == ["backends on TensorRT were left out: there is no GPU"]
        with pytest.raises(DeviceError, match="there is no GPU"):
            opened.open([parse_backend("trt:fp16")], image_batches(1)[0], asked_for=True)


def test_engine_that_cannot_be_built_is_left_out_alone() -> None:
    runtime = HostRuntime(features=replace(FEATURES, calibrators=False))
    names = ["trt:fp16", "trt:int8:entropy", "trt:int8:mse", "trt:qdq:mse", "trt:fp16"]
    opened = opened_set(lambda: runtime, names, asked_for=False)
    assert [b.name for b in opened.backends] == ["trt:fp16", "trt:qdq:mse"]
    assert opened.skipped == [
        f"'trt:int8:{name}' was left out: TensorRT 11.4.0 has no calibrators" for name in ("entropy", "mse")
    ]
    with pytest.raises(MissingDependencyError, match="has no calibrators"):
        opened_set(lambda: runtime, names, asked_for=True)
    assert opened_set(lambda: HostRuntime(fails="out of memory"), ["trt:fp16"], asked_for=False).backends == []


def test_notices_of_every_calibration_are_kept() -> None:
    data = [*image_batches(2), {"image": image_batches(1)[0]["image"][:1]}]
    with BackendSet(conv_net("6"), data, open_runtime=HostRuntime) as opened:
        opened.open([parse_backend(n) for n in ("ort:qdq:minmax", "trt:int8:mse")], data[0], asked_for=True)
    kinds = [n.kind for n in opened.notices]
    assert kinds.count("short_batch") == 2
    assert "saturated" in kinds  # by mse
    text = "the last 1 samples do not fill a batch of 6 and were left out"
    assert [n for n in opened.notices if n.kind == "short_batch"] == [text, text]


def test_model_of_a_backend_is_known_by_its_name() -> None:
    opened = opened_set(HostRuntime, ["ort:qdq:mse"], asked_for=True)
    assert opened.quantized_by("ort:qdq:mse") is opened.quantized["mse"] is opened.quantized_by("trt:qdq:mse")
    for other in ("ort:qdq:minmax", "trt:int8:mse", "trt:fp16", "mine"):
        assert opened.quantized_by(other) is None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, calibration and labelled test images, metrics."""
    work = tmp_path_factory.mktemp("backends")
    onnx.save(conv_net(), work / "m.onnx")
    np.save(work / "calibration.npy", coloured(12, seed=1))
    x = coloured(24)
    np.savez(work / "test.npz", images=x, labels=run(conv_net(), {"image": x})[0].argmax(1))
    (work / "metric.py").write_text(
        "def right(outputs, labels):\n    return outputs['logits'].argmax(1) == labels\n\n\n"
        "def broken(outputs, labels):\n    raise KeyError('boxes')\n"
    )
    return work


@pytest.fixture
def work(work: Path, monkeypatch: pytest.MonkeyPatch, no_plots: None) -> Path:
    monkeypatch.setattr(engine_runtime, "runtime", HostRuntime)
    return work


def arguments(work: Path, *more: object) -> list[object]:
    data = ["--data", f"{work / 'test.npz'}:images", "--labels", f"{work / 'test.npz'}:labels", "--batch-size", 8]
    return ["compare", work / "m.onnx", *data, "-o", work / "report", *more]


def report(work: Path) -> dict:
    return json.loads((work / "report" / "report.json").read_text())


def test_cli_builds_what_is_asked_for_and_reports_it(cli: Callable, work: Path) -> None:
    backends = "ort:fp32,ort:qdq:mse,trt:fp16,trt:qdq:mse"
    done = cli(*arguments(work, "--calibration", work / "calibration.npy", "--backends", backends))
    assert (done.code, done.err.count("error")) == (0, 0)
    document = report(work)
    models = {m["name"]: m for m in document["comparison"]["models"]}
    assert list(models) == ["fp32", *backends.split(",")[1:]]
    assert models["trt:qdq:mse"]["runtime_sqnr_db"] == "inf"
    assert (models["trt:fp16"]["int8"], models["trt:qdq:mse"]["int8"]) == (False, True)
    assert models["trt:qdq:mse"]["facts"]["int8_share"] == 1
    assert [t["name"] for t in document["error_trace"]["tensors"]] == ["r", "t", "f", "logits"]
    assert document["error_trace"]["models"] == ["ort:qdq:mse"]
    assert "mse" in document["verdict"]
    engines = (work / "report" / "report.md").read_text().split("| engine |")[1].splitlines()[2:4]
    assert [row.split(" | ")[0] for row in engines] == ["| trt:fp16", "| trt:qdq:mse"]


def test_cli_with_calibration_data_alone_takes_all_that_works(
    cli: Callable, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_runtime, "runtime", no_gpu)
    done = cli(*arguments(work, "--calibration", work / "calibration.npy"))
    assert done.code == 0
    assert "skipped: backends on TensorRT were left out: there is no GPU" in done.err
    document = report(work)
    assert len(document["comparison"]["models"]) == 5
    assert "backends on TensorRT were left out: there is no GPU" in document["warnings"]
    asked = cli(*arguments(work, "--calibration", work / "calibration.npy", "--backends", "trt:qdq:mse"))
    assert (asked.code, asked.err.splitlines()[0]) == (2, "error: there is no GPU")


def test_fail_under_judges_the_chosen_model(cli: Callable, work: Path) -> None:
    backends = ["--calibration", work / "calibration.npy", "--backends", "ort:qdq:percentile-5,ort:qdq:minmax"]
    for threshold, code, word in (("mlperf-99", 3, "FAIL"), ("90", 0, "PASS")):
        done = cli(*arguments(work, *backends, "--fail-under", threshold))
        assert done.code == code
        document = report(work)
        kept = {m["name"]: m["top1"] for m in document["comparison"]["models"]}  # FP32 is always right here
        share = 99 if code else 90
        name = "ort:qdq:minmax"
        text = f"keeps {kept[name]:.2%} of FP32's accuracy, the bar is {share}%"
        assert f"{word}: '{name}' {text}" in done.out.splitlines()
        assert document["judgement"]["text"] == text
        assert document["judgement"]["passed"] == (code == 0)
        assert document["comparison"]["threshold"] == share / 100
        assert word in (work / "report" / "report.md").read_text()
    assert [m["passes"] for m in report(work)["comparison"]["models"]] == [True, False, True]
    bad = [*backends[:3], "ort:qdq:percentile-5", "--fail-under", "90%"]
    assert cli(*arguments(work, *bad)).code == 3


def test_metric_from_a_file_is_reported_and_one_that_raises_is_kept_apart(cli: Callable, work: Path) -> None:
    backends = ["--calibration", work / "calibration.npy", "--backends", "ort:qdq:mse"]
    assert cli(*arguments(work, *backends, "--metric", f"{work / 'metric.py'}:right")).code == 0
    model = report(work)["comparison"]["models"][1]
    assert model["metric"] == model["top1"]
    broken = cli(*arguments(work, *backends, "--metric", f"{work / 'metric.py'}:broken"))
    assert broken.code == 2
    assert "in broken" in json.dumps(report(work))
    assert "KeyError: 'boxes'" in broken.err
    assert report(work)["comparison"]["models"][1]["top1"] == model["top1"]
    done = cli(*arguments(work, *backends, "--metric", f"{work / 'metric.py'}:none"))
    assert (done.code, "has no 'none'" in done.err) == (2, True)


def test_baseline_shows_what_changed(cli: Callable, work: Path) -> None:
    backends = ["--calibration", work / "calibration.npy", "--backends"]
    assert cli(*arguments(work, *backends, "ort:qdq:mse,ort:qdq:minmax")).code == 0
    (work / "report" / "report.json").rename(work / "old.json")
    new = arguments(work, *backends, "ort:qdq:mse,ort:qdq:entropy", "--baseline", work / "old.json")
    assert cli(*new).code == 0
    changes = report(work)["baseline"]
    same = next(m for m in changes["models"] if m["name"] == "ort:qdq:mse")
    assert (same["top1"], same["sqnr_db"], same["latency_ratio"]) == (0.0, 0.0, None)
    assert (changes["added"], changes["removed"]) == (["ort:qdq:entropy"], ["ort:qdq:minmax"])
    (work / "old.json").write_text("{}")
    assert "is not a report of this version" in cli(*new).err


def test_baseline_of_other_data_labels_or_metric_is_told(cli: Callable, work: Path) -> None:
    """The cutting into batches is none of it, and a report of before, without hashes, says nothing."""
    with np.load(work / "test.npz") as test:
        labels = test["labels"].copy()
        labels[0] = (labels[0] + 1) % 5
        np.savez(work / "other.npz", images=test["images"] + np.float32(2**-9), labels=labels)
    backends = ["--calibration", work / "calibration.npy", "--backends", "ort:qdq:mse"]
    metric = ["--metric", f"{work / 'metric.py'}:right"]
    assert cli(*arguments(work, *backends, *metric)).code == 0
    (work / "report" / "report.json").rename(work / "old.json")
    (work / "again.py").write_text((work / "metric.py").read_text().replace("def right", "def right  "))
    rows: list[tuple[list[object], str]] = [
        ([*metric, "--batch-size", 3], ""),
        ([*metric, "--data", f"{work / 'other.npz'}:images"], "as many samples, with other values"),
        ([*metric, "--labels", f"{work / 'other.npz'}:labels"], "other labels of the same samples"),
        (["--metric", f"{work / 'again.py'}:right"], "another metric"),
    ]
    for more, expected in rows:
        assert cli(*arguments(work, *backends, "--baseline", work / "old.json", *more)).code == 0
        found = [line for line in report(work)["warnings"] if "baseline" in line]
        assert len(found) == bool(expected)
        assert expected in "".join(found)
    old = json.loads((work / "old.json").read_text())
    for name in ("data_hash", "labels_hash", "metric_hash"):
        del old["provenance"][name]
    (work / "old.json").write_text(json.dumps(old))
    assert cli(*arguments(work, *backends, "--baseline", work / "old.json", *rows[1][0])).code == 0
    assert not [line for line in report(work)["warnings"] if "baseline" in line]


def test_failed_backend_exits_3_with_the_report_written(cli: Callable, work: Path) -> None:
    model = quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), image_batches())).model
    for tensor in model.graph.initializer:
        if tensor.name == "b3":
            value = np.full(5, np.nan, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, "b3"))
    onnx.save(model, work / "broken.onnx")
    done = cli(*arguments(work, work / "broken.onnx"))
    assert done.code == 3
    assert report(work)["comparison"]["models"][1]["failed"].startswith("batch 0, output 'broken/logits' has NaN")
    assert "| broken (failed) |" in (work / "report" / "report.md").read_text()
    assert "(failed)</span>" in render_html(report(work))


def test_engine_file_is_a_backend(cli: Callable, work: Path) -> None:
    profile = Profile({"image": (1, 3, 8, 8)}, {"image": (8, 3, 8, 8)}, {"image": (8, 3, 8, 8)})
    HostRuntime().build(conv_net(), BuildOptions("fp16", profiles=(profile,))).save(work / "e.engine")
    assert cli(*arguments(work, f"mine={work / 'e.engine'}")).code == 0
    model = report(work)["comparison"]["models"][1]
    assert (model["name"], model["sqnr_db"], model["int8"]) == ("mine", "inf", False)
    assert {"latency_p50_ms", "build_s", "memory_mib", "round_1_ms"} <= set(model["facts"])
    missing = cli(*arguments(work, work / "none.engine"))
    assert (missing.code, "none.engine does not exist" in missing.err) == (2, True)


def test_engine_of_a_fixed_batch_is_compared_on_a_short_last_batch(cli: Callable, work: Path) -> None:
    onnx.save(conv_net("10"), work / "fixed.onnx")
    HostRuntime().build(conv_net("10"), BuildOptions("fp16")).save(work / "e.engine")
    data = ["--data", f"{work / 'test.npz'}:images", "-o", work / "report"]
    assert cli("compare", work / "fixed.onnx", work / "e.engine", *data).code == 0
    document = report(work)["comparison"]
    assert (document["samples"], document["models"][1]["agreement"]) == (24, 1)


def test_metric_file_that_cannot_be_run_is_one_error(cli: Callable, work: Path) -> None:
    (work / "bad.py").write_text("def f(:\n")
    backends = ["--calibration", work / "calibration.npy", "--backends", "ort:qdq:mse"]
    done = cli(*arguments(work, *backends, "--metric", f"{work / 'bad.py'}:f"))
    assert (done.code, "the metric raised SyntaxError" in done.err) == (2, True)
    (work / "bad.py").write_text("class F:\n    def __init__(self, x): pass\n    update = compute = None\n")
    done = cli(*arguments(work, *backends, "--metric", f"{work / 'bad.py'}:F"))
    assert (done.code, "metric F() failed: TypeError" in done.err) == (2, True)
