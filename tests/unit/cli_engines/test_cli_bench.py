"""`quantlab bench` over the host double of TensorRT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine_double import HostRuntime
from models import floats
from quantlab.engines import jobs

Cli = Callable[..., Any]
IMAGES = floats(20, 3, 8, 8)
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
    bench = ("bench", work / "e.engine", *QUICK)
    np.save(work / "other.npy", IMAGES + 1)
    done = cli(*bench, "--data", work / "other.npy", "--json")
    assert (done.code, json.loads(done.out)[0]["batch_size"]) == (0, 6), done.err
    np.testing.assert_array_equal(fed[0], IMAGES[:6] + 1)
    assert cli(*bench).code == 0
    assert not np.array_equal(fed[1], fed[0])
    assert cli(*bench, "--limit", "3").code == 2


def test_bench_shows_the_time_of_every_layer_where_it_is_asked_for(
    cli: Cli, work: Path, fixed: Path, runtime: HostRuntime
) -> None:
    done = cli("bench", f"a={fixed}", f"b={fixed}", *QUICK, "--dumpProfile", "--separateProfileRun")
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines() if line.startswith(("  int8", "  fp"))]
    assert [line[-1] for line in lines] == ["a", "c", "logits"] * 2
    assert "b: 3 layers, 1.5000 ms" in done.out
    (row,) = json.loads(cli("bench", fixed, *QUICK, "--dump-profile", "--json").out)
    assert [(layer["name"], layer["time_ms"]) for layer in row["layers"]] == [("a", 0.5), ("c", 0.5), ("logits", 0.5)]
    assert "layers" not in json.loads(cli("bench", fixed, *QUICK, "--json").out)[0]


def test_bench_of_an_engine_that_does_not_show_its_layers_is_refused_before_it_measures(
    cli: Cli, work: Path, runtime: HostRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--fp16", "--profiling-verbosity", "layer_names_only", "-o", work / "e.engine"]
    assert cli("build", work / "fixed.onnx", *flags).code == 0
    monkeypatch.setattr(jobs, "bench", None)
    done = cli("bench", work / "e.engine", "--dump-profile")
    assert (done.code, "built without details" in done.err) == (2, True)
