"""`quantlab build`, `run`, `bench`, `audit` and `doctor` over the host double of TensorRT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from engine_double import HostRuntime
from models import conv_net, floats, image_batches, quantized, run
from quantlab.calibration import CalibrationTable, TrtCache
from quantlab.cli import engine_runtime
from quantlab.engines import jobs, measure
from quantlab.engines.engine import Engine
from quantlab.engines.options import Profile
from quantlab.errors import MissingDependencyError

Cli = Callable[..., Any]
IMAGES = floats(20, 3, 8, 8)
LABELS = run(conv_net(), {"image": IMAGES})[0].argmax(1)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> HostRuntime:
    """What the commands get in place of TensorRT."""
    double = HostRuntime()
    monkeypatch.setattr(engine_runtime, "runtime", lambda: double)
    monkeypatch.setattr(measure, "BUSY_WARM_UP_MS", 1.0)
    return double


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Models with a dynamic and a fixed batch of 6, 20 images with labels: the last batch of 6 is short."""
    onnx.save(conv_net(), tmp_path / "m.onnx")
    onnx.save(conv_net("6"), tmp_path / "fixed.onnx")
    onnx.save(quantized(conv_net("6"), image_batches(1)).model, tmp_path / "q.onnx")
    np.save(tmp_path / "data.npy", IMAGES)
    np.savez(tmp_path / "test.npz", images=IMAGES, labels=LABELS)
    CalibrationTable({"image": np.float32(2), "c": np.float32(3)}).save(tmp_path / "t.json")
    TrtCache("TRT-8600-EntropyCalibration2", {"image": np.float32(0.5)}).save(tmp_path / "c.cache")
    return tmp_path


# --- build


def test_build_of_a_float_model_writes_engine_and_record(cli: Cli, work: Path, runtime: HostRuntime) -> None:
    done = cli("build", work / "fixed.onnx", "--fp16", "-o", work / "e.engine")
    assert (done.code, done.err) == (0, "")
    engine = Engine.load(work / "e.engine")
    assert done.out == f"{work / 'e.engine'}: {engine.summary}\n"
    assert (engine.record.options["precision"], engine.record.int8) == ("fp16", "")


def test_build_takes_every_option_of_trtexec(cli: Cli, work: Path, runtime: HostRuntime) -> None:
    flags = ["--shapes", "image:2x3x8x8", "--min-shapes", "image:1x3x8x8", "--opt-shapes", "image:4x3x8x8",
             "--max-shapes", "image:8x3x8x8", "--mem-pool-size", "workspace:64", "--sparsity", "--refit",
             "--builder-optimization-level", "1", "--layer-precisions", "c*:fp32", "--precision-constraints", "obey",
             "--no-tf32", "--version-compatible", "--tactic-sources", "cudnn", "--timing-cache",
             work / "t.cache"]  # fmt: skip
    assert cli("build", work / "m.onnx", *flags, "-o", work / "e.engine").code == 0
    ((options, _),) = runtime.builds
    assert [p.opt["image"][0] for p in options.profiles] == [2, 4]
    assert (options.precision, options.optimization_level, options.timing_cache) == ("fp32", 1, work / "t.cache")
    assert (options.sparsity, options.refit, options.version_compatible) == (True, True, True)
    assert (options.layer_precisions, options.tactic_sources) == ({"c*": "fp32"}, ("cudnn",))


def test_build_takes_the_spellings_of_trtexec(cli: Cli, work: Path, runtime: HostRuntime) -> None:
    ours = ["--min-shapes", "image:1x3x8x8", "--opt-shapes", "image:4x3x8x8", "--max-shapes", "image:8x3x8x8",
            "--mem-pool-size", "workspace:1024,dla_local_dram:64", "--timing-cache", work / "t.cache",
            "--builder-optimization-level", "2", "--use-dla-core", "0", "--allow-gpu-fallback",
            "--sparsity"]  # fmt: skip
    theirs = ["--minShapes=image:1x3x8x8", "--optShapes=image:4x3x8x8", "--maxShapes=image:8x3x8x8",
              "--memPoolSize=workspace:1G,dlaLocalDRAM:64M", f"--timingCacheFile={work / 't.cache'}",
              "--builderOptimizationLevel=2", "--useDLACore=0", "--allowGPUFallback", "--sparsity=enable"]  # fmt: skip
    assert cli("build", work / "m.onnx", "--fp16", *ours, "-o", work / "e.engine").code == 0
    assert cli("build", work / "m.onnx", "--fp16", *theirs, f"--saveEngine={work / 'f.engine'}").code == 0
    assert cli("build", work / "fixed.onnx", "--noTF32", "-o", work / "g.engine").code == 0
    (first, _), (second, _), (third, _) = runtime.builds
    assert first == second
    assert third.precision == "fp32"
    assert first.memory_pools_mib == {"workspace": 1024, "dla_local_dram": 64}


def test_bench_runs_on_the_data_that_are_given(
    cli: Cli, work: Path, runtime: HostRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[np.ndarray] = []

    def told(runtime: object, engines: object, batch: Any, options: object) -> Any:
        fed.append(batch["image"])
        return measured(runtime, engines, batch, options)

    measured = jobs.bench
    monkeypatch.setattr(jobs, "bench", told)
    assert cli("build", work / "fixed.onnx", "-o", work / "e.engine").code == 0
    bench = ("bench", work / "e.engine", "--iterations", "2", "--warmUp=1")
    np.save(work / "other.npy", IMAGES + 1)
    done = cli(*bench, "--data", work / "other.npy", "--json")
    assert (done.code, json.loads(done.out)[0]["batch_size"]) == (0, 6), done.err
    np.testing.assert_array_equal(fed[0], IMAGES[:6] + 1)
    assert cli(*bench).code == 0
    assert not np.array_equal(fed[1], fed[0])
    assert cli(*bench, "--limit", "3").code == 2


def test_build_of_a_qdq_model_needs_no_data(cli: Cli, work: Path, runtime: HostRuntime) -> None:
    done = cli("build", work / "q.onnx", "--best", "-o", work / "e.engine")
    assert (done.code, "best, explicit Q/DQ, built in" in done.out) == (0, True)


@pytest.mark.parametrize("model", ["fixed.onnx", "m.onnx"])
def test_build_with_data_calibrates_and_leaves_a_short_last_batch_out(
    model: str, cli: Cli, work: Path, runtime: HostRuntime
) -> None:
    shapes = ["--shapes", "image:6x3x8x8"] if model == "m.onnx" else []
    cache = ["--data", work / "data.npy", "--cache", work / "new.cache"]
    done = cli("build", work / model, "--int8", *shapes, *cache, "-o", work / "e.engine")
    assert (done.code, "int8, EntropyCalibration2, built in" in done.out) == (0, True)
    ((_, source),) = runtime.builds
    assert source.feeder.samples == 18  # type: ignore[attr-defined]
    assert TrtCache.load(work / "new.cache").header == "TRT-8600-EntropyCalibration2"
    again = cli("build", work / model, "--int8", *shapes, *cache, "-o", work / "e.engine")
    assert again.code == 0
    assert runtime.builds[-1][1].used_cache  # type: ignore[attr-defined]
    other = cli("build", work / model, "--int8", *shapes, *cache, "--limit", 12, "-o", work / "e.engine")
    assert (other.code, "is not used: its data_hash is" in other.err) == (2, True)
    trusted = cli(
        "build", work / model, "--int8", *shapes, *cache, "--limit", 12, "--trust-cache", "-o", work / "e.engine"
    )
    assert trusted.code == 0


@pytest.mark.parametrize(
    ("flags", "int8"),
    [
        (["--calibrator", "minmax", "--data", "data.npy"], "MinMaxCalibration"),
        (["--calibrator", "legacy", "--data", "data.npy"], "LegacyCalibration 0.9999 1"),
        (["--table", "t.json"], "TableCalibrator"),
        (["--table", "c.cache"], "TableCalibrator"),
        (["--cache", "c.cache", "--trust-cache"], "TableCalibrator"),
        (["--table", "t.json", "--dynamic-ranges"], "dynamic ranges of a table (unknown)"),
    ],
)
def test_build_takes_its_scales_from_what_is_named(
    flags: list[str], int8: str, cli: Cli, work: Path, runtime: HostRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    done = cli("build", "fixed.onnx", "--best", *flags, "-o", "e.engine")
    assert (done.code, done.err) == (0, "")
    assert Engine.load("e.engine").record.int8 == int8


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        *((["--mem-pool-size", f"workspace:{size}"], "is not a number") for size in ("nan", "inf", "-1")),
        (["--int8"], "precision 'int8' without scales"),
        (["--fp16", "--no-tf32"], "--no-tf32 with --fp16 or --int8"),
        (["--fp16", "--table", "t.json"], "precision 'fp16' does not allow INT8"),
        (["--int8", "--table", "t.json", "--data", "data.npy"], "--table and --data were both given"),
        (["--int8", "--dynamic-ranges"], "--dynamic-ranges without --table"),
        (["--int8", "--cache", "c.cache"], "--cache without --data"),
        (["--int8", "--data", "data.npy", "--calibrator", "magic"], "there is no calibrator 'magic'"),
        (["--int8", "--data", "none.npy"], "array file none.npy does not exist"),
        (["--int8", "--data", "data.npy", "--batch-size", "5"], "--batch-size 5 but the model has a fixed batch of 6"),
        (["--int8", "--table", "none.json"], "calibration table none.json cannot be read"),
        (["--fp16", "--shapes", "image:7x3x8x8"], "does not fit input 'image'"),
        (["--fp16", "--shapes", "image:six"], "'six' is not a shape"),
        (["--fp16", "-o", "fixed.onnx"], "output fixed.onnx is the input"),
        (["--fp16", "-o", "none/e.engine"], "output folder none does not exist"),
    ],
)
def test_build_with_wrong_options_is_one_error_and_writes_nothing(
    flags: list[str], reason: str, cli: Cli, work: Path, runtime: HostRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    output = [] if "-o" in flags else ["-o", "e.engine"]
    done = cli("build", "fixed.onnx", *flags, *output)
    assert (done.code, done.out) == (2, "")
    assert reason in done.err
    assert not Path("e.engine").exists()


def test_build_of_a_dynamic_model_without_shapes_is_refused(cli: Cli, work: Path, runtime: HostRuntime) -> None:
    done = cli("build", work / "m.onnx", "--fp16", "-o", work / "e.engine")
    assert (done.code, "input 'image' has dynamic shape (-1, 3, 8, 8)" in done.err) == (2, True)


def test_build_prints_what_tensorrt_warned_of(cli: Cli, work: Path, runtime: HostRuntime) -> None:
    runtime.messages = ("Missing scale and zero-point for tensor c, expect fall back to", "The moon is full")
    done = cli("build", work / "fixed.onnx", "--fp16", "-o", work / "e.engine")
    assert done.err.splitlines() == [
        "warning: c: the tensor has no INT8 scale, so the layers around it run in FP32 or FP16 (calibrate it, or put "
        "Q/DQ around it; harmless for shape computations and indices)",
        "warning: The moon is full",
    ]


def test_build_that_fails_says_why_and_writes_nothing(cli: Cli, work: Path, runtime: HostRuntime) -> None:
    runtime.fails = "out of memory"
    done = cli("build", work / "fixed.onnx", "--fp16", "-o", work / "e.engine")
    assert (done.code, "TensorRT could not build the engine: out of memory" in done.err) == (2, True)
    assert not (work / "e.engine").exists()


def test_build_without_tensorrt_says_what_to_install(cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise MissingDependencyError("TensorRT cannot be imported", hint="pip install 'quantlab-trt[calibrators]'")

    monkeypatch.setattr(engine_runtime, "runtime", absent)
    done = cli("build", work / "fixed.onnx", "--fp16", "-o", work / "e.engine")
    assert (done.code, "hint: pip install 'quantlab-trt[calibrators]'" in done.err) == (2, True)


# --- run


@pytest.fixture
def fixed(cli: Cli, work: Path, runtime: HostRuntime) -> Path:
    """An engine that takes batches of 6 only."""
    assert cli("build", work / "fixed.onnx", "--fp16", "-o", work / "fixed.engine").code == 0
    return work / "fixed.engine"


@pytest.fixture
def dynamic(cli: Cli, work: Path, runtime: HostRuntime) -> Path:
    """An engine for batches of 1 to 8."""
    flags = [f"--{kind}-shapes=image:{n}x3x8x8" for kind, n in (("min", 1), ("opt", 4), ("max", 8))]
    assert cli("build", work / "m.onnx", "--fp16", *flags, "-o", work / "dynamic.engine").code == 0
    return work / "dynamic.engine"


def test_run_of_a_fixed_batch_fills_a_short_last_one_and_cuts_its_outputs(
    cli: Cli, work: Path, fixed: Path, runtime: HostRuntime
) -> None:
    labels = ["--labels", f"{work / 'test.npz'}:labels"]
    done = cli("run", fixed, "--data", f"{work / 'test.npz'}:images", *labels, "-o", work / "out.npz")
    assert (done.code, done.out) == (0, f"{work / 'out.npz'}: 20 samples, top-1 1.0000\n")
    assert "running: 20/20" in done.err
    with np.load(work / "out.npz") as written:
        assert written.files == ["logits"]
        np.testing.assert_allclose(written["logits"], run(conv_net(), {"image": IMAGES})[0], rtol=1e-5, atol=1e-5)
    assert not runtime.driver.live


def test_run_counts_the_top1_of_labelled_samples(cli: Cli, work: Path, fixed: Path) -> None:
    wrong = np.where(np.arange(20) < 5, (LABELS + 1) % 5, LABELS)
    np.savez(work / "test.npz", images=IMAGES, labels=wrong)
    flags = ["--data", f"{work / 'test.npz'}:images", "--labels", f"{work / 'test.npz'}:labels"]
    assert "20 samples, top-1 0.7500" in cli("run", fixed, *flags, "-o", work / "out.npz").out


def test_run_of_a_dynamic_batch_takes_the_size_that_is_asked_for(cli: Cli, work: Path, dynamic: Path) -> None:
    data = ["--data", work / "data.npy", "-o", work / "out.npz"]
    done = cli("run", dynamic, *data, "--batch-size", 8, "--limit", 19)
    assert (done.code, done.out) == (0, f"{work / 'out.npz'}: 19 samples\n")
    with np.load(work / "out.npz") as written:
        np.testing.assert_allclose(written["logits"], run(conv_net(), {"image": IMAGES[:19]})[0], rtol=1e-5, atol=1e-5)
    large = cli("run", dynamic, *data, "--batch-size", 9)
    assert (large.code, "batch 0, no optimization profile holds" in large.err) == (2, True)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["none.engine", "--data", "data.npy"], "engine none.engine does not exist"),
        (["fixed.engine", "--data", "data.npy", "--batch-size", "5"], "fixed batch of 6"),
        (["fixed.engine", "--data", "wrong.npy"], "batch 0, input 'image': got float64 (6, 3, 8, 8)"),
        (["fixed.engine", "--data", "late.npy"], "batch 1, input 'image' contains NaN"),
    ],
)
def test_run_with_what_does_not_fit_is_one_error_and_writes_nothing(
    flags: list[str], reason: str, cli: Cli, work: Path, fixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    np.save("wrong.npy", IMAGES.astype(np.float64))
    np.save("late.npy", np.where(np.arange(20).reshape(-1, 1, 1, 1) == 7, np.float32(np.nan), IMAGES))
    done = cli("run", *flags, "-o", "out.npz")
    assert (done.code, reason in done.err) == (2, True)
    assert not Path("out.npz").exists()


def test_run_of_an_engine_for_another_tensorrt_is_refused(cli: Cli, work: Path, fixed: Path) -> None:
    record = Path(f"{fixed}.json")
    record.write_text(record.read_text().replace('"tensorrt": "8.6.0"', '"tensorrt": "8.5.3"'))
    done = cli("run", fixed, "--data", work / "data.npy", "-o", work / "out.npz")
    assert (done.code, "built by TensorRT 8.5.3, this is 8.6.0" in done.err) == (2, True)


# --- bench

QUICK = ["--warm-up", 1, "--duration", 0.02]


def test_bench_prints_a_row_for_every_engine_and_writes_json(cli: Cli, work: Path, fixed: Path) -> None:
    done = cli("bench", f"a={fixed}", f"b={fixed}", *QUICK, "-o", work / "b.json")
    assert (done.code, done.err) == (0, "")
    assert "batch 6, device time in ms" in done.out
    first, second = json.loads((work / "b.json").read_text())
    assert (first["name"], second["name"], second["ratio"]["base"]) == ("a", "b", "a")
    assert first["ratio"]["ratio"] == 1.0
    assert second["ratio"]["ratio"] == pytest.approx(np.median(second["rounds_ms"]) / np.median(first["rounds_ms"]))
    assert (first["memory_mib"], first["build_s"], len(first["rounds_ms"])) == (3.0, 0.25, 10)
    assert first["engine_mib"] == fixed.stat().st_size / 2**20
    assert first["host_ms"] > 0


def test_bench_takes_its_options(cli: Cli, work: Path, fixed: Path, runtime: HostRuntime) -> None:
    flags = ["--warm-up", 1, "--streams", 2, "--use-cuda-graph", "--no-data-transfers", "--iterations", 20]
    assert cli("bench", fixed, *flags, "-o", work / "b.json").code == 0
    (row,) = json.loads((work / "b.json").read_text())
    assert (row["name"], row["host_ms"]) == ("fixed", None)
    assert runtime.providers[-1] == "cuda-python"


@pytest.mark.parametrize(("shapes", "batch"), [([], 4), (["--shapes", "image:8x3x8x8"], 8)])
def test_bench_of_a_dynamic_engine_takes_the_opt_shape_or_the_one_given(
    shapes: list[str], batch: int, cli: Cli, work: Path, dynamic: Path
) -> None:
    assert cli("bench", dynamic, *QUICK, *shapes, "-o", work / "b.json").code == 0
    assert json.loads((work / "b.json").read_text())[0]["batch_size"] == batch


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--streams", 0], "streams and iterations must be at least 1"),
        (["--iterations", 0], "does nothing here: --iterations say"),
        (["--duration", 0], "duration 0 s"),
        (["--shapes", "image:9x3x8x8"], "no optimization profile holds"),
        (["--shapes", "picture:4x3x8x8"], "shapes name 'picture', the engine has image"),
        (["--shapes", "image"], "'image' is not name:value"),
        (["-o", "none/b.json"], "output folder none does not exist"),
    ],
)
def test_bench_with_wrong_options_is_one_error(flags: list[Any], reason: str, cli: Cli, dynamic: Path) -> None:
    done = cli("bench", dynamic, *QUICK, *flags)
    assert (done.code, reason in done.err) == (2, True)


# --- audit


@pytest.fixture
def int8(cli: Cli, work: Path, runtime: HostRuntime) -> Path:
    """An INT8 engine whose second convolution runs in FP16."""
    runtime.float_nodes = ("c",)
    runtime.messages = ("Missing scale and zero-point for tensor c, expect fall back to",)
    flags = ["--best", "--table", work / "t.json", "-o", work / "int8.engine"]
    assert cli("build", work / "fixed.onnx", *flags).code == 0
    return work / "int8.engine"


def test_audit_says_what_runs_in_int8_and_why_the_rest_does_not(cli: Cli, work: Path, int8: Path) -> None:
    done = cli("audit", int8, work / "fixed.onnx", "-o", work / "a.json")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "3 layers, 1.5000 ms"
    assert lines[1].split() == ["int8", "0.5000", "ms", "CaskConvolution", "a"]
    assert lines[4:] == [
        "kinds: 3 CaskConvolution",
        "INT8: 2 of 3 Conv, Gemm and MatMul nodes, 67% of the time",
        "  not INT8: Conv 'c' runs in fp16: tensor 'c' has no INT8 scale",
    ]
    written = json.loads((work / "a.json").read_text())
    assert written["int8_share"] == pytest.approx(2 / 3)
    assert written["weighted"] == {"a": "int8", "c": "fp16", "logits": "int8"}


@pytest.mark.parametrize(("minimum", "code", "said"), [(0.6, 0, ""), (0.9, 3, "below the threshold: 0.667 < 0.9\n")])
def test_audit_below_the_threshold_exits_3_with_its_file_written(
    minimum: float, code: int, said: str, cli: Cli, work: Path, int8: Path
) -> None:
    done = cli("audit", int8, work / "fixed.onnx", "--min-int8", minimum, "-o", work / "a.json")
    assert (done.code, done.err) == (code, said)
    assert json.loads((work / "a.json").read_text())["int8_share"] == pytest.approx(2 / 3)


def test_audit_of_what_does_not_show_exits_3_where_a_share_is_asked_for(
    cli: Cli, work: Path, int8: Path, runtime: HostRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantlab.engines.inspector import Inspection

    region = {"Name": "{ForeignNode[a...logits]}", "LayerType": "Myelin", "Inputs": [], "Outputs": []}
    monkeypatch.setattr(runtime, "inspect", lambda engine, batch: Inspection([region], {region["Name"]: 0.1}))
    done = cli("audit", int8, work / "fixed.onnx", "--min-int8", 0.9, "-o", work / "a.json")
    assert (done.code, done.err) == (3, "below the threshold: the share cannot be told\n")
    assert "INT8: cannot be told, 3 of 3 Conv, Gemm and MatMul nodes do not show" in done.out
    assert json.loads((work / "a.json").read_text())["int8_share"] is None
    assert cli("audit", int8, work / "fixed.onnx").code == 0


def test_audit_of_an_engine_without_details_is_one_error(cli: Cli, work: Path, runtime: HostRuntime) -> None:
    flags = ["--fp16", "--profiling-verbosity", "layer_names_only", "-o", work / "e.engine"]
    assert cli("build", work / "fixed.onnx", *flags).code == 0
    done = cli("audit", work / "e.engine", work / "fixed.onnx")
    assert (done.code, "built without details" in done.err) == (2, True)
    missing = cli("audit", work / "e.engine", work / "none.onnx")
    assert (missing.code, "none.onnx does not exist" in missing.err) == (2, True)


def test_audit_of_a_dynamic_engine_takes_the_shapes_given(
    cli: Cli, work: Path, dynamic: Path, runtime: HostRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    inspect = runtime.inspect
    monkeypatch.setattr(runtime, "inspect", lambda e, batch: seen.append(batch["image"].shape) or inspect(e, batch))
    assert cli("audit", dynamic, work / "m.onnx", "--shapes", "image:8x3x8x8").code == 0
    assert cli("audit", dynamic, work / "m.onnx").code == 0
    assert seen == [(8, 3, 8, 8), (4, 3, 8, 8)]
    wrong = cli("audit", dynamic, work / "m.onnx", "--shapes", "image:9x3x8x8")
    assert (wrong.code, "no optimization profile holds" in wrong.err) == (2, True)


# --- doctor


def test_doctor_marks_what_is_there_and_says_what_to_install_for_the_rest(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantlab.cli import doctor

    def absent() -> str:
        raise MissingDependencyError("TensorRT cannot be imported", hint="pip install tensorrt")

    monkeypatch.setattr(doctor, "_driver", lambda: "a GPU")
    monkeypatch.setattr(doctor, "_tensorrt", absent)
    done = cli("doctor")
    assert done.code == 0
    rows = {line[3:40].strip(): (line[:2].strip(), line[40:].strip()) for line in done.out.splitlines()}
    assert rows["GPU and driver"] == ("ok", "a GPU")
    assert rows["TensorRT"] == ("--", "TensorRT cannot be imported")
    assert rows["TensorRT calibrators"] == ("--", "unknown without TensorRT")
    assert rows["build, run, bench, audit"] == ("--", "does not work here: TensorRT")
    assert "pip install tensorrt" in done.out


def test_profile_of_the_engine_is_that_of_the_command(cli: Cli, dynamic: Path, runtime: HostRuntime) -> None:
    shapes = ({"image": (n, 3, 8, 8)} for n in (1, 4, 8))
    assert runtime.builds[-1][0].profiles == (Profile(*shapes),)
