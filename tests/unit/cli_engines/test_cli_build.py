"""`quantlab build` over the host double of TensorRT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine_double import HostRuntime
from quantlab.calibration import TrtCache
from quantlab.cli import engine_runtime
from quantlab.engines.engine import Engine
from quantlab.engines.options import Profile
from quantlab.errors import MissingDependencyError

Cli = Callable[..., Any]


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


def test_profile_of_the_engine_is_that_of_the_command(cli: Cli, dynamic: Path, runtime: HostRuntime) -> None:
    shapes = ({"image": (n, 3, 8, 8)} for n in (1, 4, 8))
    assert runtime.builds[-1][0].profiles == (Profile(*shapes),)


def test_build_and_run_print_one_document(cli: Cli, work: Path, runtime: HostRuntime) -> None:
    runtime.messages = ("The moon is full",)
    built = json.loads(cli("build", work / "fixed.onnx", "-o", work / "e.engine", "--json").out)
    assert (built["record"]["tensorrt"], built["warnings"][0]["text"]) == ("8.6.0", "The moon is full")
    ran = cli("run", work / "e.engine", "--data", work / "data.npy", "-o", work / "y.npz", "--json")
    assert json.loads(ran.out)["outputs"] == {"logits": [20, 5]}
