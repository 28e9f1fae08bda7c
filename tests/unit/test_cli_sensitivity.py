"""`quantlab sensitivity`: what it writes and prints, and how it fails."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from conftest import CliResult
from models import coloured, conv_net, floats, image_batches, parse, run
from quantlab.tune import SensitivityTable

Cli = Callable[..., CliResult]
METRIC = """
import numpy as np

def mean(outputs, labels):
    return (outputs["logits"].argmax(1) == labels[:]).astype(float)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("sensitivity")
    onnx.save(conv_net(), work / "m.onnx")
    x = coloured(40)
    np.savez(work / "x.npz", x=x, labels=run(conv_net(), {"image": x})[0].argmax(1))
    np.save(work / "wrong.npy", floats(8, 3, 9, 9))
    quantlab.calibrate(conv_net(), image_batches(2)).save(work / "t.json")
    soft = parse("m (float[N,3,8,8] image) => (float[N,3,8,8] y) { y = Softmax (image) }")
    onnx.save(soft, work / "soft.onnx")
    quantlab.CalibrationTable({"image": np.float32(1)}).save(work / "soft.json")
    (work / "metric.py").write_text(METRIC)
    return work


COMMAND = ("sensitivity", "m.onnx", "--table", "t.json", "--data", "x.npz:x")
LABELS = ("--labels", "x.npz:labels")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_command_writes_table_csv_and_plot_and_prints_the_worst(cli: Cli, work: Path) -> None:
    done = cli(*COMMAND, *LABELS, "-o", "s.json", "--csv", "s.csv", "--plot", "s.png")
    assert done.code == 0, done.err
    found = SensitivityTable.load(work / "s.json")
    assert (found.provenance.metric, found.provenance.fp32_metric) == ("top-1", 1.0)
    lines = list(csv.DictReader((work / "s.csv").read_text().splitlines()))
    assert [(line["kind"], line["name"]) for line in lines] == list(found.units)
    assert (work / "s.png").read_bytes().startswith(b"\x89PNG")
    assert "top-1 drop" in done.out
    worst = found.worst("layer")[0]
    assert worst.alone is not None
    (line,) = (line for line in done.out.splitlines() if f" {worst.name} " in line)
    assert f" {worst.alone.sqnr_db:.2f} " in line
    assert "ranks layers as the truth does: Spearman" in done.out
    assert done.out.endswith("s.json: 14 of 14 units, 40 samples\n")
    assert "measuring: 40/40" in done.err


def test_parts_by_command_merge_to_the_whole(cli: Cli, work: Path) -> None:
    for k in (1, 2):
        assert cli(*COMMAND, "--part", f"{k}/2", "--keep", "keep", "-o", f"{k}.json").code == 0
    done = cli("merge", "2.json", "1.json", "-o", "merged.json")
    assert (done.code, done.out) == (0, "merged.json: sensitivity of 14 units in 2 parts\n")
    assert cli(*COMMAND, "--keep", "keep", "-o", "whole.json").code == 0
    assert cli(*COMMAND, "--keep", "keep", "--part", "1/14", "-o", "all.json", "--plot", "all.svg").code == 0
    merged, whole = (json.loads((work / f"{name}.json").read_text()) for name in ("merged", "whole"))
    assert merged["provenance"].pop("date") <= whole["provenance"].pop("date")
    assert merged == whole
    failed = cli("merge", "1.json", "-o", "other.json")
    assert (failed.code, (work / "other.json").exists()) == (2, False)
    assert "7 of 14 units are in no part" in failed.err


def test_estimate_alone_is_drawn_and_printed(cli: Cli, work: Path) -> None:
    done = cli(*COMMAND, "--method", "estimate", "-o", "e.json", "--plot", "e.svg")
    assert done.code == 0, done.err
    assert SensitivityTable.load(work / "e.json").provenance.method == "estimate"
    assert "<svg" in (work / "e.svg").read_text()
    assert "Spearman" not in done.out


def test_metric_of_a_file_is_measured(cli: Cli, work: Path) -> None:
    done = cli(*COMMAND, *LABELS, "--metric", "metric.py:mean", "-o", "s.json")
    assert done.code == 0, done.err
    assert "mean drop" in done.out
    assert SensitivityTable.load(work / "s.json").provenance.fp32_metric == 1.0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("sensitivity", "soft.onnx", "--table", "soft.json", "--data", "x.npz:x"), "nothing in the model can be INT8"),
        (("sensitivity", "none.onnx", "--table", "t.json", "--data", "x.npz:x"), "none.onnx does not exist"),
        (("sensitivity", "m.onnx", "--table", "none.json", "--data", "x.npz:x"), "none.json cannot be read"),
        (("sensitivity", "soft.onnx", "--table", "t.json", "--data", "x.npz:x"), "was made for another model"),
        (("sensitivity", "m.onnx", "--table", "t.json", "--data", "wrong.npy"), "batch 0, input 'image': got float32"),
        ((*COMMAND, "--metric", "top-1"), "top-1 was asked for, but there are no labels"),
        ((*COMMAND, "--metric", "metric.py:mean"), "the metric failed: TypeError"),
        ((*COMMAND, "--metric", "metric.py"), "is not file.py:NAME"),
        ((*COMMAND, "--part", "3/2"), "there is no part 3 of 2"),
        ((*COMMAND, "--part", "0/2"), "there is no part 0 of 2"),
        ((*COMMAND, "--part", "one"), "--part one is no part"),
        ((*COMMAND, "--part", "1/99"), "99 parts of 14 units"),
        ((*COMMAND, "--jobs", "0"), "0 jobs measure nothing"),
        ((*COMMAND, "--keep", "t.json"), "t.json"),
        ((*COMMAND, "--csv", "s.txt"), "output s.txt has suffix '.txt', expected .csv"),
        ((*COMMAND, "--plot", "s.jpg"), "output s.jpg has suffix '.jpg', expected .png or .svg"),
        ((*COMMAND, "--csv", "none/s.csv"), "output folder none does not exist"),
    ],
)
def test_bad_input_is_one_error_with_a_remedy_and_writes_nothing(
    cli: Cli, work: Path, arguments: tuple[str, ...], expected: str
) -> None:
    before = files(work)
    done = cli(*arguments, "-o", "out.json")
    assert done.code == 2
    error, hint = done.err.splitlines()[-2:]
    assert expected in error
    assert hint.startswith("hint: ")
    assert "Traceback" not in done.err
    assert files(work) == before


def test_output_of_another_kind_or_over_an_input_is_refused(cli: Cli, work: Path) -> None:
    assert "has suffix '.csv', expected .json" in cli(*COMMAND, "-o", "s.csv").err
    assert "output t.json is the input t.json" in cli(*COMMAND, "-o", "t.json").err
