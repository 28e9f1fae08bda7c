"""`quantlab tune` and `quantlab profile` over the host double of TensorRT."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantlab
from models import parse
from quantlab.cli import engine_runtime
from quantlab.comparison import engine_backends
from quantlab.engines import measure
from quantlab.engines.bench import BenchOptions
from quantlab.engines.engine import Engine
from quantlab.errors import MissingDependencyError
from quantlab.onnx_model import model_hash
from quantlab.tune import trials
from tune_double import TimedRuntime, deep_net, images

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    onnx.save(deep_net(6), folder / "m.onnx")
    onnx.save(deep_net(5), folder / "other.onnx")
    for name in ("m", "other"):
        quantlab.calibrate(folder / f"{name}.onnx", images(), "minmax", tensors="all").save(folder / f"{name}.json")
    x = np.concatenate([batch["x"] for batch in images()])
    session = quantlab.ort.Session(deep_net(6))
    labels = np.concatenate([session.run(batch)["y"].argmax(1) for batch in images()])
    np.save(folder / "x.npy", x)
    np.save(folder / "labels.npy", labels)
    return folder


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> TimedRuntime:
    double = TimedRuntime()
    monkeypatch.setattr(engine_runtime, "runtime", lambda: double)
    monkeypatch.setattr(trials, "bench", double.bench)
    return double


def no_runtime() -> TimedRuntime:
    raise MissingDependencyError("TensorRT is not installed", hint="pip install tensorrt")


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_runtime, "runtime", no_runtime)
    monkeypatch.setattr(trials, "bench", None)


def result_of(folder: Path) -> dict[str, Any]:
    """What a search found, whenever it was."""
    found: dict[str, Any] = json.loads((folder / "tuned.json").read_text())
    assert found["provenance"].pop("date")
    return found


TUNE = ("tune", "m.onnx", "--table", "m.json", "--data", "x.npy")


def test_tune_writes_model_engine_result_and_report(cli: Cli, work: Path, runtime: TimedRuntime) -> None:
    done = cli(*TUNE, "--labels", "labels.npy", "--max-drop", "20", "--min-sqnr", "38", "-o", "t")
    assert done.code == 0, done.err
    result = json.loads((work / "t" / "tuned.json").read_text())
    best = result["best"]
    assert best["sqnr_db"] >= 38 and best["drop"] <= 20 and best["measured"]
    kept = [one for one in result["candidates"] if float(one["sqnr_db"]) >= 38 and one["measured"]]
    assert best["latency_ms"] <= min(
        one["latency_ms"] for one in kept if one["name"] in ("float", "default", "implicit")
    )
    row = quantlab.compare("m.onnx", {"q": work / "t" / "tuned.onnx"}, images()).results[1]
    assert row.worst_sqnr_db == pytest.approx(best["sqnr_db"], abs=1e-6)
    assert Engine.load(work / "t" / "tuned.engine").plan == (work / "t" / "tuned.onnx").read_bytes()
    assert (work / "t" / "tuned.html").exists()
    assert f"{best['latency_ms']:.4f}" in done.out
    assert "by the search's estimate" in done.out


def test_tune_goes_on_where_it_was(cli: Cli, work: Path, runtime: TimedRuntime) -> None:
    assert cli(*TUNE, "--min-sqnr", "38", "-o", "t").code == 0
    built = len(runtime.built)
    first = result_of(work / "t")
    again = json.loads(cli(*TUNE, "--min-sqnr", "38", "-o", "t", "--json").out)
    assert (again["best"]["name"], again["files"]["model"]) == (first["best"]["name"], "t/tuned.onnx")
    assert first["provenance"]["tuned_model_hash"] == model_hash(onnx.load("t/tuned.onnx"))
    assert len(runtime.built) == built
    assert result_of(work / "t") == first
    assert cli(*TUNE, "--min-sqnr", "36", "-o", "t").code == 0  # another target: the engines so far serve it too
    assert len(runtime.built) <= built + 3


def test_target_out_of_reach_says_what_is_reachable(cli: Cli, work: Path, runtime: TimedRuntime) -> None:
    done = cli(*TUNE, "--latency", "1us", "-o", "t")
    assert done.code == 3
    assert "not reached; the best there is:" in done.err
    fastest = min(time["latency_ms"] for time in timings(work / "t"))
    assert f"{fastest:.4f} ms" in done.err
    assert not (work / "t" / "tuned.onnx").exists()
    assert not (work / "t" / "tuned.json").exists()


def timings(folder: Path) -> list[Any]:
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()[1:]]
    return [line["value"] for line in lines if line["kind"] == "timing"]


def test_recorded_latencies_take_the_place_of_a_gpu(
    cli: Cli, work: Path, runtime: TimedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cli("profile", "m.onnx", "--table", "m.json", "-o", "gpu.json")
    assert done.code == 0, done.err
    assert len(json.loads((work / "gpu.json").read_text())["engines"]) == 5
    assert "host double, TensorRT 8.6.0" in done.out
    monkeypatch.setattr(engine_runtime, "runtime", no_runtime)
    done = cli(*TUNE, "--min-sqnr", "38", "--latency-table", "gpu.json", "-o", "t")
    assert done.code == 0, done.err
    assert "estimated" in done.out
    assert not (work / "t" / "tuned.engine").exists()
    assert json.loads((work / "t" / "tuned.json").read_text())["device"] == "host double, TensorRT 8.6.0, batch 4"


def test_without_gpu_and_table_nothing_is_guessed(cli: Cli, work: Path, without_gpu: None) -> None:
    done = cli(*TUNE, "-o", "t")
    assert done.code == 2
    assert "TensorRT is not installed; latencies are not guessed" in done.err
    assert "--latency-table" in done.err
    assert not (work / "t").exists()


def broken_table(work: Path, **changes: Any) -> None:
    content = json.loads((work / "gpu.json").read_text()) | changes
    (work / "gpu.json").write_text(json.dumps(content))


def test_latency_table_of_another_model_is_refused(cli: Cli, work: Path, runtime: TimedRuntime) -> None:
    assert cli("profile", "other.onnx", "--table", "other.json", "-o", "gpu.json").code == 0
    done = cli(*TUNE, "--latency-table", "gpu.json", "-o", "t")
    assert done.code == 2
    assert "the latency table is of another network: it has 6 regions, this one 7" in done.err
    assert not (work / "t").exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": "x"}, "is no latency table"),
        ({"version": 9}, "has version 9, this quantlab reads 1"),
        ({"engines": []}, "is broken"),
        ({"engines": [{"int8": "01", "times_us": [1, 2]}]}, "is broken"),
        ({"engines": [{"int8": "0"}]}, "is broken"),
        ({"engines": [{"int8": [True] * 7, "times_us": [1] * 7}]}, "is broken"),
        ({"engines": [{"int8": "0000000", "times_us": [float("nan")] * 7}]}, "NaN is no number of JSON"),
        ({"engines": [{"int8": "0000000", "times_us": [-1] * 7}]}, "is broken"),
        ({"engines": [{"int8": "0000000", "times_us": [1] * 7}]}, "lacks engines from which latencies can be told"),
        ({"batch_size": 8}, "of batches of 8, the data come in batches of 4"),
    ],
)
def test_broken_latency_table_is_refused(
    cli: Cli, work: Path, runtime: TimedRuntime, changes: dict[str, Any], text: str
) -> None:
    assert cli("profile", "m.onnx", "--table", "m.json", "-o", "gpu.json").code == 0
    broken_table(work, **changes)
    done = cli(*TUNE, "--latency-table", "gpu.json", "-o", "t")
    assert (done.code, text in done.err) == (2, True), done.err


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--latency", "soon"), "latency 'soon' cannot be read"),
        (("--budget", "x"), "budget 'x' cannot be read"),
        (("--objective", "speed"), "no objective 'speed'"),
        (("--objective", "accuracy"), "within which latency"),
        (("--max-drop", "1"), "the data have no labels"),
        (("--table", "other.json"), "made for another model"),
        (("--data", "none.npy"), "none.npy"),
    ],
)
def test_bad_input_is_one_error(cli: Cli, work: Path, runtime: TimedRuntime, args: tuple[str, ...], text: str) -> None:
    done = cli(*TUNE, *args, "-o", "t")
    assert (done.code, text in done.err, "Traceback" in done.err) == (2, True, False), done.err
    assert not (work / "t" / "tuned.json").exists()


def test_folder_of_another_search_is_refused(cli: Cli, work: Path, runtime: TimedRuntime) -> None:
    assert cli(*TUNE, "--min-sqnr", "38", "-o", "t").code == 0
    np.save(work / "y.npy", np.load("x.npy")[::-1])
    done = cli(*TUNE, "--data", "y.npy", "-o", "t")
    assert done.code == 2
    assert "is of another search: its data is" in done.err


def test_other_labels_and_another_metric_are_another_search(cli: Cli, work: Path, runtime: TimedRuntime) -> None:
    ask = (*TUNE, "--labels", "l.npy", "--max-drop", "100", "-o", "t")
    np.save(work / "l.npy", np.load("labels.npy"))
    assert cli(*ask).code == 0
    np.save(work / "l.npy", np.r_[(np.load("labels.npy")[:1] + 1) % 4, np.load("labels.npy")[1:]])
    done = cli(*ask)
    assert (done.code, "its labels is" in done.err) == (2, True), done.err
    for folder, body in (("u", "1.0"), ("u", "2.0")):
        text = f"import numpy as np\ndef score(outputs, labels):\n    return np.full(len(outputs['y']), {body})\n"
        (work / "metric.py").write_text(text)
        done = cli(*TUNE, "--metric", "metric.py:score", "-o", folder)
        assert done.code == (0 if body == "1.0" else 2), done.err
    assert "its metric and versions is" in done.err


def test_other_gpu_or_tensorrt_is_another_search(
    cli: Cli, work: Path, runtime: TimedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli(*TUNE, "--min-sqnr", "40", "-o", "t").code == 0
    lines = (work / "t" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    first = next(k for k, line in enumerate(lines) if b'"timing"' in line)
    (work / "t" / "journal.jsonl").write_bytes(b"".join(lines[: first + 1]))  # the float engine alone is known
    monkeypatch.setattr("engine_double.GPU", "another GPU")
    done = cli(*TUNE, "--min-sqnr", "40", "-o", "t")
    assert done.code == 2
    assert "the search was begun on host double with TensorRT 8.6.0, here is another GPU with 8.6.0" in done.err


def test_recording_goes_on_only_with_what_it_was_begun_with(cli: Cli, work: Path, runtime: TimedRuntime) -> None:
    ask = ("profile", "m.onnx", "--table", "m.json", "--keep", "k")
    assert cli(*ask, "-o", "a.json").code == 0
    built = len(runtime.built)
    assert cli(*ask, "-o", "b.json").code == 0
    assert len(runtime.built) == built
    assert (work / "a.json").read_bytes() == (work / "b.json").read_bytes()
    done = cli(*ask, "--builder-optimization-level", "1", "-o", "c.json")
    assert (done.code, "its optimization_level is None, not 1" in done.err) == (2, True)
    done = cli(*TUNE, "-o", "k")
    assert (done.code, "its kind is profile, not tune" in done.err) == (2, True)
    assert cli("profile", "m.onnx", "--table", "m.json", "--batch-size", "0", "-o", "d.json").code == 2


def test_result_of_an_earlier_search_does_not_stay(cli: Cli, work: Path, runtime: TimedRuntime) -> None:
    assert cli(*TUNE, "--min-sqnr", "36", "-o", "t").code == 0
    assert (work / "t" / "tuned.onnx").exists()
    assert cli(*TUNE, "--min-sqnr", "99", "-o", "t").code == 0  # FP32 itself, without Q/DQ
    assert not (work / "t" / "tuned.onnx").exists()
    assert cli(*TUNE, "--latency", "1us", "-o", "t").code == 3
    assert not (work / "t" / "tuned.json").exists()
    assert not (work / "t" / "tuned.engine").exists()
    assert (work / "t" / "tuned.html").exists()


def test_bad_settings_and_tables_leave_nothing_behind(cli: Cli, work: Path, runtime: TimedRuntime) -> None:
    assert cli(*TUNE, "--builder-optimization-level", "9", "-o", "t").code == 2
    table = json.loads((work / "m.json").read_text())
    few = {name: table["amax"][name] for name in list(table["amax"])[:2]}
    (work / "few.json").write_text(json.dumps(table | {"amax": few}))
    done = cli(*TUNE, "--table", "few.json", "-o", "t")
    assert done.code == 2, done.err
    assert cli(*TUNE, "--max-drop", "1", "-o", "t").code == 2
    assert not (work / "t").exists()
    assert cli(*TUNE, "--min-sqnr", "38", "-o", "t").code == 0


def test_model_with_nothing_to_quantize_is_refused(cli: Cli, work: Path, runtime: TimedRuntime) -> None:
    onnx.save(parse("m (float[4,3] x) => (float[4,3] y) { y = Tanh (x) }"), work / "tanh.onnx")
    np.save(work / "v.npy", np.zeros((8, 3), np.float32))
    quantlab.CalibrationTable({"x": np.float32(1)}).save(work / "tanh.json")
    done = cli("tune", "tanh.onnx", "--table", "tanh.json", "--data", "v.npy", "-o", "t")
    assert done.code == 2
    assert "nothing to quantize" in done.err
    assert not (work / "t").exists()


def test_comparison_searches_on_its_calibration_data(
    cli: Cli, work: Path, runtime: TimedRuntime, no_plots: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_backends, "BENCH", BenchOptions(1.0, 0.01, iterations=4, rounds=2, transfers=False))
    monkeypatch.setattr(measure, "BUSY_WARM_UP_MS", 1.0)
    names = "trt:fp16,trt:tuned:minmax,trt:qdq:minmax"
    data = ("--data", "x.npy", "--calibration", "x.npy")
    done = cli("compare", "m.onnx", *data, "--backends", names, "-o", "rep")
    assert done.code == 0, done.err
    models = json.loads((work / "rep" / "report.json").read_text())["comparison"]["models"]
    rows = {row["name"]: row for row in models}
    assert set(rows) == {"fp32", *names.split(",")}
    tuned = rows["trt:tuned:minmax"]
    assert float(tuned["sqnr_db"]) >= float(rows["trt:qdq:minmax"]["sqnr_db"])
    assert tuned["facts"]["calibration_s"] > 0
    done = cli("compare", "m.onnx", "--data", "x.npy", "--backends", "trt:tuned", "-o", "rep2")
    assert (done.code, "needs calibration data" in done.err) == (2, True)


@pytest.mark.long
def test_killed_search_goes_on_to_the_same_answer(tmp_path: Path) -> None:
    """SIGKILL at some moments, each time a process of its own."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (root, root / "tests")))}

    def run(name: str, seconds: float | None = None) -> None:
        command = [sys.executable, root / "tests" / "tune_process.py", tmp_path / name, tmp_path / f"{name}.json"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            if seconds is not None:
                time.sleep(seconds)
                process.kill()
        assert process.returncode == (0 if seconds is None else -signal.SIGKILL)

    run("whole")
    for seconds in (0.1, 0.3, 0.5):
        run("killed", seconds)
    run("killed")
    killed, whole = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("killed", "whole"))
    assert killed["provenance"].pop("date") >= whole["provenance"].pop("date")
    assert killed == whole
