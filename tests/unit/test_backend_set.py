"""Backends by name, built and opened; TensorRT's part is played by a double of `quantlab.trt.compared`."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, image_batches, run
from quantlab.comparison import Backend
from quantlab.comparison.named_backends import BackendSet, BackendSpec, default_specs, parse_backend
from quantlab.errors import DeviceError
from quantlab.ort import Session


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("ort:fp32", BackendSpec("ort", "fp32")),
        ("ort:qdq:mse", BackendSpec("ort", "qdq", "mse")),
        ("trt:fp16", BackendSpec("trt", "fp16")),
        ("trt:int8:entropy2", BackendSpec("trt", "int8", "entropy2")),
        ("trt:qdq:percentile-99.5", BackendSpec("trt", "qdq", "percentile-99.5")),
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


class Double(types.ModuleType):
    """Engines that are FP32 or Q/DQ models on ONNX Runtime, off by 1e-4."""

    def __init__(self) -> None:
        super().__init__("quantlab.comparison.engine_backends")
        self.built: list[tuple[str, object]] = []
        self.fails = False

    def profile_for(self, proto: object, batch: dict) -> object:
        if self.fails:
            raise DeviceError("there is no GPU", hint="use a machine that has one")
        return next(iter(batch.values())).shape

    def calibrator(self, name: str, batches: object) -> object:
        return f"calibrator {name}"

    def table_calibrator(self, table: quantlab.CalibrationTable) -> object:
        return f"table {table.provenance.algorithm} of {len(table.amax)}"

    def build_engine(self, precision: str, model: object, profile: object, settings: object, int8: object) -> object:
        self.built.append((precision, int8))
        return model

    def load_engine(self, path: Path) -> object:
        return onnx.load(path.with_suffix(".onnx"))

    def open_engines(self, engines: dict, models: dict, batch: dict, stack: object) -> list[Backend]:
        def backend(name: str, number: int) -> Backend:
            session = Session(engines[name], optimize=False)
            facts = {"latency_p50_ms": 1.0 / (1 + number), "latency_p90_ms": 1.0, "latency_p99_ms": 1.2, "build_s": 2.0}
            facts |= {"batch_size": 6, "latency_ratio": 1.0, "latency_ratio_low": 0.9, "latency_ratio_high": 1.1}
            facts |= {"int8_share": 1.0, "int8_time_share": 0.9, "samples_per_s": 1e4, "memory_mib": 3.0}
            facts |= {"round_0_ms": 0.9, "round_1_ms": 1.1}
            is_int8 = "int8" in name or any(n.op_type == "QuantizeLinear" for n in engines[name].graph.node)
            run = lambda b: {"logits": session.run(b)["logits"] + np.float32(1e-4)}  # noqa: E731
            return Backend(name, run, 1000, int8=is_int8, facts=facts)

        return [backend(name, number) for number, name in enumerate(engines)]


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Double:
    double = Double()
    package = types.ModuleType("quantlab.trt")
    package.compared = double  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "quantlab.trt", package)
    monkeypatch.setitem(sys.modules, "quantlab.comparison.engine_backends", double)
    return double


def test_engines_get_the_scales_of_their_path_and_their_twin(tensorrt: Double) -> None:
    names = ["ort:qdq:mse", "trt:fp16", "trt:int8:entropy", "trt:int8:mse", "trt:qdq:mse", "trt:qdq:minmax"]
    with BackendSet(conv_net(), image_batches()) as opened:
        opened.open([parse_backend(n) for n in names], image_batches(1)[0], asked_for=True)
    assert [b.name for b in opened.backends] == names
    every = len(quantlab.calibrate(conv_net(), image_batches(), tensors="all").amax)
    assert tensorrt.built == [
        ("fp16", None), ("int8", "calibrator entropy2"), ("int8", f"table mse of {every}"), ("qdq", None), ("qdq", None)
    ]  # fmt: skip
    assert {b.name: b.twin for b in opened.backends if b.twin} == {"trt:qdq:mse": "ort:qdq:mse"}
    assert "calibration_s" not in next(b for b in opened.backends if b.name == "trt:fp16").facts
    result = quantlab.compare(conv_net(), {b.name: b for b in opened.backends}, image_batches(2))
    by_name = {r.name: r for r in result.results}
    assert by_name["trt:qdq:mse"].runtime_sqnr_db > 60
    assert by_name["trt:qdq:minmax"].runtime_sqnr_db is None


def test_tensorrt_that_cannot_run_is_skipped_only_where_it_was_not_asked_for(tensorrt: Double) -> None:
    tensorrt.fails = True
    with BackendSet(conv_net(), image_batches()) as opened:
        opened.open(default_specs(), image_batches(1)[0], asked_for=False)
        assert {b.name.split(":")[0] for b in opened.backends} == {"ort"}
        assert opened.skipped == ["backends on TensorRT were left out: there is no GPU"]
        with pytest.raises(DeviceError, match="there is no GPU"):
            opened.open([parse_backend("trt:fp16")], image_batches(1)[0], asked_for=True)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A model, calibration and labelled test images, a metric."""
    onnx.save(conv_net(), tmp_path / "m.onnx")
    np.save(tmp_path / "calibration.npy", floats(24, 3, 8, 8))
    x = floats(40, 3, 8, 8, seed=50)
    labels = run(conv_net(), {"image": x})[0].argmax(1)
    np.savez(tmp_path / "test.npz", images=x, labels=labels)
    (tmp_path / "metric.py").write_text(
        "def right(outputs, labels):\n    return outputs['logits'].argmax(1) == labels\n\n\n"
        "def broken(outputs, labels):\n    raise KeyError('boxes')\n"
    )
    return tmp_path


def arguments(work: Path, *more: object) -> list[object]:
    data = ["--data", f"{work / 'test.npz'}:images", "--labels", f"{work / 'test.npz'}:labels", "--batch-size", 8]
    return ["compare", work / "m.onnx", *data, "-o", work / "report", *more]


def report(work: Path) -> dict:
    return json.loads((work / "report" / "report.json").read_text())


def test_cli_builds_what_is_asked_for_and_reports_it(cli: Callable, work: Path, tensorrt: Double) -> None:
    backends = "ort:fp32,ort:qdq:mse,trt:fp16,trt:qdq:mse"
    done = cli(*arguments(work, "--calibration", work / "calibration.npy", "--backends", backends))
    assert (done.code, done.err.count("error")) == (0, 0)
    document = report(work)
    assert [m["name"] for m in document["comparison"]["models"]] == ["fp32", *backends.split(",")[1:]]
    assert document["verdict"].startswith("Ship trt:qdq:mse: 0.500 ms per batch, 2.00 times as fast as trt:fp16")
    assert document["comparison"]["models"][-1]["runtime_sqnr_db"] > 60
    assert document["error_trace"]["tensors"]
    page = (work / "report" / "report.html").read_text()
    assert "Speed and cost on TensorRT" in page
    assert page.count("<svg") >= 6


def test_cli_with_calibration_data_alone_takes_all_that_works(cli: Callable, work: Path, tensorrt: Double) -> None:
    tensorrt.fails = True
    done = cli(*arguments(work, "--calibration", work / "calibration.npy"))
    assert done.code == 0
    assert "skipped: backends on TensorRT were left out: there is no GPU" in done.err
    assert len(report(work)["comparison"]["models"]) == 5
    assert "there is no GPU" in " ".join(report(work)["warnings"])
    asked = cli(*arguments(work, "--calibration", work / "calibration.npy", "--backends", "trt:fp16"))
    assert (asked.code, "there is no GPU" in asked.err) == (2, True)


def test_cli_with_nothing_to_compare_says_so(cli: Callable, work: Path) -> None:
    done = cli(*arguments(work))
    assert (done.code, "nothing to compare with" in done.err) == (2, True)


def test_cli_refuses_a_file_by_the_name_of_a_backend(cli: Callable, work: Path) -> None:
    named = f"ort:qdq:mse={work / 'm.onnx'}"
    backends = ["--calibration", work / "calibration.npy", "--backends", "ort:qdq:mse"]
    done = cli(*arguments(work, named, *backends))
    assert (done.code, "'ort:qdq:mse' is also the name of a backend" in done.err) == (2, True)


def test_fail_under_exits_3_and_names_what_is_below(cli: Callable, work: Path) -> None:
    backends = ["--calibration", work / "calibration.npy", "--backends", "ort:qdq:percentile-5,ort:qdq:minmax"]
    done = cli(*arguments(work, *backends, "--fail-under", "mlperf-99"))
    assert done.code == 3
    assert "below 99.00% of FP32: ort:qdq:percentile-5 keeps" in done.err
    assert "minmax keeps" not in done.err
    assert report(work)["comparison"]["models"][1]["passes"] is False
    assert cli(*arguments(work, *backends[:3], "ort:qdq:minmax", "--fail-under", "99%")).code == 0
    bad = cli(*arguments(work, *backends, "--fail-under", "much"))
    assert (bad.code, "--fail-under much is no threshold" in bad.err) == (2, True)


def test_fail_under_without_an_accuracy_is_refused(cli: Callable, work: Path) -> None:
    run_ = ["compare", work / "m.onnx", "--data", f"{work / 'test.npz'}:images", "-o", work / "report", "--calibration"]
    done = cli(*run_, work / "calibration.npy", "--backends", "ort:qdq:mse", "--fail-under", "99%")
    assert (done.code, "--fail-under needs an accuracy" in done.err) == (2, True)


def test_metric_from_a_file_is_reported_and_one_that_raises_is_kept_apart(cli: Callable, work: Path) -> None:
    backends = ["--calibration", work / "calibration.npy", "--backends", "ort:qdq:mse"]
    assert cli(*arguments(work, *backends, "--metric", f"{work / 'metric.py'}:right")).code == 0
    model = report(work)["comparison"]["models"][1]
    assert model["metric"] == model["top1"]
    broken = cli(*arguments(work, *backends, "--metric", f"{work / 'metric.py'}:broken"))
    assert broken.code == 2
    assert "in broken" in broken.err
    assert "KeyError: 'boxes'" in broken.err
    assert report(work)["comparison"]["models"][1]["top1"] == model["top1"]
    for text, reason in (("metric.py", "is not file.py:NAME"), (f"{work / 'metric.py'}:none", "has no 'none'")):
        done = cli(*arguments(work, *backends, "--metric", text))
        assert (done.code, reason in done.err) == (2, True)


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


def test_failed_backend_exits_3_with_the_report_written(cli: Callable, work: Path) -> None:
    model = quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), image_batches())).model
    for tensor in model.graph.initializer:
        if tensor.name == "b3":
            value = np.full(5, np.nan, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, "b3"))
    onnx.save(model, work / "broken.onnx")
    done = cli(*arguments(work, work / "broken.onnx"))
    assert done.code == 3
    assert report(work)["comparison"]["models"][1]["failed"].startswith("batch 0: output 'broken/logits' has NaN")
    assert "(failed)" in (work / "report" / "report.html").read_text()


def test_engine_file_is_a_backend(cli: Callable, work: Path, tensorrt: Double) -> None:
    onnx.save(conv_net(), work / "e.onnx")
    (work / "e.engine").write_bytes(b"")
    assert cli(*arguments(work, f"mine={work / 'e.engine'}")).code == 0
    assert report(work)["comparison"]["models"][1]["facts"]["latency_p50_ms"] == 1.0


def test_engine_that_cannot_be_built_is_left_out_alone(tensorrt: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    build = tensorrt.build_engine

    def refuses(precision: str, *rest: object) -> object:
        if precision == "int8":
            raise DeviceError("this TensorRT has no calibrators", hint="use Q/DQ")
        return build(precision, *rest)

    monkeypatch.setattr(tensorrt, "build_engine", refuses)
    names = [parse_backend(n) for n in ("trt:fp16", "trt:int8:entropy", "trt:qdq:mse", "trt:fp16")]
    with BackendSet(conv_net(), image_batches()) as opened:
        opened.open(names, image_batches(1)[0], asked_for=False)
    assert [b.name for b in opened.backends] == ["trt:fp16", "trt:qdq:mse"]
    assert opened.skipped == ["'trt:int8:entropy' was left out: this TensorRT has no calibrators"]


def test_comparison_with_fp32_alone_is_refused(cli: Callable, work: Path) -> None:
    done = cli(*arguments(work, "--backends", "ort:fp32", "--fail-under", "99"))
    assert (done.code, "nothing to compare with" in done.err) == (2, True)


def test_metric_file_that_cannot_be_run_is_one_error(cli: Callable, work: Path) -> None:
    (work / "bad.py").write_text("def f(:\n")
    backends = ["--calibration", work / "calibration.npy", "--backends", "ort:qdq:mse"]
    done = cli(*arguments(work, *backends, "--metric", f"{work / 'bad.py'}:f"))
    assert (done.code, "cannot be run: SyntaxError" in done.err) == (2, True)
    (work / "bad.py").write_text("class F:\n    def __init__(self, x): pass\n    update = compute = None\n")
    done = cli(*arguments(work, *backends, "--metric", f"{work / 'bad.py'}:F"))
    assert (done.code, "metric F() failed: TypeError" in done.err) == (2, True)
