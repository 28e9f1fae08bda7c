"""Every command that takes data, on a model with a fixed batch size and data whose last batch is short."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from conftest import CliResult
from models import coloured, conv_net, run
from quantlab.calibration import CalibrationShard, CalibrationTable, load_table

Cli = Callable[..., CliResult]
pytestmark = pytest.mark.usefixtures("no_plots")

SAMPLES = 22
"""Five batches of 4, and 2 samples."""
LEFT_OUT = "the last 2 samples do not fill a batch of 4 and were left out"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fixed-batch model, its table, a Q/DQ model of it, data, labels."""
    work = tmp_path_factory.mktemp("fixed")
    model = conv_net(batch="4")
    onnx.save(model, work / "m.onnx")
    x = coloured(SAMPLES)
    np.savez(work / "x.npz", images=x, labels=run(conv_net(), {"image": x})[0].argmax(1))
    table = quantlab.calibrate(model, [{"image": x[k : k + 4]} for k in range(0, 20, 4)], tensors="all")
    table.save(work / "t.json")
    onnx.save(quantlab.quantize(model, table).model, work / "q.onnx")
    return work


DATA = ("--data", "x.npz:images")
LABELS = ("--labels", "x.npz:labels")
CALIBRATION = ("--calibration", "x.npz:images", "--backends", "ort:qdq:minmax")
DROPS = {
    "calibrate to a table": ("calibrate", "m.onnx", *DATA, "-o", "out.json"),
    "calibrate with auto": ("calibrate", "m.onnx", *DATA, "--algorithm", "auto", "-o", "out.json"),
    "calibrate to a cache": ("calibrate", "m.onnx", *DATA, "-o", "out.cache"),
    "calibrate to flatbuffers": ("calibrate", "m.onnx", *DATA, "-o", "out.flatbuffers"),
    "calibrate a part": ("calibrate", "m.onnx", *DATA, "--order-independent", "-o", "out.npz"),
    "check-data": ("check-data", "m.onnx", *DATA, "--algorithm", "minmax"),
    "quantize": ("quantize", "m.onnx", "--table", "t.json", "--correct-bias", *DATA, "-o", "out.onnx"),
    "repair": ("repair", "q.onnx", *DATA, "-o", "out.onnx"),
    "compare with calibration": ("compare", "m.onnx", *CALIBRATION, *DATA, *LABELS, "-o", "report"),
}
"""Numbers that are summed up over whole batches: the rest is left out, and the user told."""
KEEPS = {
    "migrate": ("migrate", "m.onnx", "--table", "t.json", *DATA, "-o", "out.onnx"),
    "compare": ("compare", "m.onnx", "q.onnx", *DATA, *LABELS, "-o", "report"),
}
"""Every sample has its outputs: the batch is filled up, and nothing is left out."""


@pytest.mark.parametrize("case", DROPS)
def test_short_last_batch_of_a_fixed_batch_model_is_left_out_and_told(cli: Cli, work: Path, case: str) -> None:
    done = cli(*DROPS[case])
    assert done.code == 0, done.err
    lines = [line.split(": ", 1)[1] for line in done.err.splitlines() if line.startswith(("warning: ", "note: "))]
    assert lines.count(LEFT_OUT) == 1


@pytest.mark.parametrize("case", KEEPS)
def test_short_last_batch_of_a_fixed_batch_model_is_compared_whole(cli: Cli, work: Path, case: str) -> None:
    done = cli(*KEEPS[case])
    assert done.code == 0, done.err
    assert "left out" not in done.err
    assert f"{SAMPLES} samples" in done.out


def test_what_was_left_out_is_not_in_the_scales(cli: Cli, work: Path) -> None:
    for case in ("calibrate to a table", "calibrate to a cache", "calibrate to flatbuffers"):
        assert cli(*DROPS[case], "--algorithm", "minmax").code == 0
    assert cli(*DROPS["calibrate a part"]).code == 0
    x = np.load("x.npz")["images"][:20]
    expected = np.float32(np.abs(x).max())
    table = CalibrationTable.load("out.json")
    assert (table.provenance.samples, table.provenance.batches, table.amax["image"]) == (20, 5, expected)
    for name in ("out.cache", "out.flatbuffers"):  # these hold scales: amax / 127 and back rounds once each
        assert load_table(name).amax["image"] == pytest.approx(expected, rel=2**-23)
    assert CalibrationShard.load("out.npz").provenance.samples == 20


def test_all_samples_of_a_short_batch_are_in_the_figures(cli: Cli, work: Path) -> None:
    assert cli(*KEEPS["compare"]).code == 0
    document = json.loads(Path("report/report.json").read_text())["comparison"]
    x = np.load("x.npz")["images"]
    ref, out = (
        np.concatenate([run(m, {"image": np.resize(x[k : k + 4], (4, 3, 8, 8))})[0] for k in range(0, 24, 4)])
        for m in (onnx.load("m.onnx"), onnx.load("q.onnx"))
    )
    same = (ref.argmax(1) == out.argmax(1))[:SAMPLES]
    assert (document["samples"], document["models"][1]["agreement"]) == (SAMPLES, same.mean())


@pytest.mark.parametrize("arguments", [("calibrate", "m.onnx", "-o", "out.json"), ("check-data", "m.onnx")])
def test_data_of_less_than_one_batch_are_refused(cli: Cli, work: Path, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments, *DATA, "--limit", "3")
    assert done.code == 2
    assert done.err.startswith("error: batch 0, it has 3 samples, the network takes 4\nhint: give at least 4 samples")


def test_batch_size_of_another_number_is_refused(cli: Cli, work: Path) -> None:
    done = cli("calibrate", "m.onnx", *DATA, "--batch-size", "8", "-o", "out.json")
    assert (done.code, done.err) == (
        2, "error: --batch-size 8 but the model has a fixed batch of 4\nhint: leave it out\n"
    )  # fmt: skip
    assert cli("calibrate", "m.onnx", *DATA, "--batch-size", "4", "-o", "out.json").code == 0


def test_data_of_less_than_one_batch_can_be_compared_on(cli: Cli, work: Path) -> None:
    done = cli(*KEEPS["compare"], "--limit", "3")
    assert done.code == 0, done.err
    document = json.loads(Path("report/report.json").read_text())
    assert document["comparison"]["samples"] == 3
    # no whole batch shows the inside of the network; what became of the weights needs none
    assert (document["calibration"], document["error_trace"]["tensors"]) == (None, [])
    assert len(document["error_trace"]["weights"]) == 3
    assert cli(*KEEPS["migrate"], "--limit", "3").code == 0
