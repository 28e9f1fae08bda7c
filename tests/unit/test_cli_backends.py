"""`quantlab compare` with backends by name, engines and all; TensorRT's part is played by the host double."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

import quantlab
from engine_double import HostRuntime
from models import coloured, conv_net, image_batches, run
from quantlab.cli import engine_runtime
from quantlab.engines.options import BuildOptions, Profile
from quantlab.errors import DeviceError
from quantlab.report import render_html

pytestmark = pytest.mark.usefixtures("quick")


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
    assert (done.code, done.err.count("error:")) == (0, 0)
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
    def no_gpu() -> HostRuntime:
        raise DeviceError("there is no GPU", hint="nvidia-smi")

    monkeypatch.setattr(engine_runtime, "runtime", no_gpu)
    done = cli(*arguments(work, "--calibration", work / "calibration.npy"))
    assert done.code == 0
    assert "skipped: backends on TensorRT were left out: there is no GPU" in done.err
    document = report(work)
    assert len(document["comparison"]["models"]) == 5
    assert "backends on TensorRT were left out: there is no GPU" in document["warnings"]
    asked = cli(*arguments(work, "--calibration", work / "calibration.npy", "--backends", "trt:qdq:mse"))
    assert asked.code == 2
    assert "error: there is no GPU" in asked.err.splitlines()


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
