"""`quantlab run` over the host double of TensorRT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine_double import HostRuntime
from models import conv_net, floats, run

Cli = Callable[..., Any]
IMAGES = floats(20, 3, 8, 8)
LABELS = run(conv_net(), {"image": IMAGES})[0].argmax(1)


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


@pytest.mark.usefixtures("no_plots", "quick")
@pytest.mark.parametrize("name", ["e.plan", "e.trt", "e.bin"])
def test_engine_is_compared_as_one_whatever_its_file_is_called(cli: Cli, work: Path, dynamic: Path, name: str) -> None:
    for end in ("", ".json"):
        (work / f"{dynamic.name}{end}").rename(work / f"{name}{end}")
    data = ("--data", work / "data.npy", "--batch-size", 4)
    done = cli("compare", work / "m.onnx", work / name, *data, "-o", work / "report")
    assert done.code == 0, done.err
    built = json.loads((work / "report/report.json").read_text())["provenance"]["models"][1]["made_from"]
    assert built["gpu"] == "host double"
