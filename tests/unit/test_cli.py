"""The command line: results, and one clear error with exit code 2 and nothing half-written for every bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from conftest import CliResult
from models import coloured, conv_net, floats, run

Cli = Callable[..., CliResult]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A model, calibration arrays, labelled test arrays."""
    onnx.save(conv_net(), tmp_path / "m.onnx")
    np.save(tmp_path / "calib.npy", coloured(20, seed=1))
    x = coloured(40)
    np.savez(tmp_path / "test.npz", images=x, labels=run(conv_net(), {"image": x})[0].argmax(1))
    return tmp_path


def calibrated(cli: Cli, work: Path, algorithm: str = "entropy") -> Path:
    args = ("--data", work / "calib.npy", "--algorithm", algorithm, "-o", work / "t.json")
    result = cli("calibrate", work / "m.onnx", *args)
    assert result.code == 0, result.err
    return work / "t.json"


def test_chain_from_arrays_to_report(cli: Cli, work: Path) -> None:
    table = calibrated(cli, work, "minmax")
    assert cli("quantize", work / "m.onnx", "--table", table, "-o", work / "q.onnx").code == 0
    result = cli(
        "compare", work / "m.onnx", f"int8={work / 'q.onnx'}", "--data", f"{work / 'test.npz'}:images",
        "--labels", f"{work / 'test.npz'}:labels", "-o", work / "report",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "int8" in result.out
    document = json.loads((work / "report" / "report.json").read_text())
    fp32, int8 = document["comparison"]["models"]
    assert fp32["top1"] == 1
    assert 0.9 <= int8["top1"] == int8["agreement"]  # the labels are FP32's
    assert int8["sqnr_db"] > 20
    assert (work / "report" / "report.html").stat().st_size > 5000
    assert "| int8 |" in (work / "report" / "report.md").read_text()


def test_calibrate_to_a_cache_holds_every_tensor(cli: Cli, work: Path) -> None:
    result = cli("calibrate", work / "m.onnx", "--data", work / "calib.npy", "-o", work / "c.cache")
    assert result.code == 0
    lines = (work / "c.cache").read_text().splitlines()
    assert lines[0] == "TRT-8600-EntropyCalibration2"
    assert [line.split(":")[0] for line in lines[1:]] == ["image", "a", "r", "c", "s", "t", "p", "f", "logits"]
    assert cli("quantize", work / "m.onnx", "--table", work / "c.cache", "-o", work / "q.onnx").code == 0


def test_inspect_table_cache_and_model(cli: Cli, work: Path) -> None:
    table = calibrated(cli, work)
    cli("calibrate", work / "m.onnx", "--data", work / "calib.npy", "-o", work / "c.cache")
    assert "4 tensors, algorithm entropy" in cli("inspect", table).out
    assert "9 tensors, algorithm TRT-8600-EntropyCalibration2" in cli("inspect", work / "c.cache").out
    shown = cli("inspect", work / "m.onnx").out
    assert "input 'image': float32 (N, 3, 8, 8)" in shown
    assert "quantize would put 4 activation tensors and 3 weights in INT8" in shown
    cli("quantize", work / "m.onnx", "--table", table, "-o", work / "q.onnx")
    assert "already has Q/DQ" in cli("inspect", work / "q.onnx").out


def test_presets_lists_and_prints_json_that_preprocess_takes(cli: Cli, work: Path) -> None:
    assert "imagenet-127" in cli("presets").out
    (work / "p.json").write_text(cli("presets", "none").out)
    from PIL import Image

    (work / "images").mkdir()
    Image.new("RGB", (8, 8)).save(work / "images" / "a.png")
    args = ("--data", work / "images", "--preprocess", work / "p.json", "-o", work / "t2.json")
    assert cli("calibrate", work / "m.onnx", *args).code == 0


def test_percentile_of_any_share_by_name(cli: Cli, work: Path) -> None:
    args = ("--data", work / "calib.npy", "--algorithm", "percentile-97.5", "-o", work / "t.json")
    assert cli("calibrate", work / "m.onnx", *args).code == 0
    assert json.loads((work / "t.json").read_text())["provenance"]["algorithm"] == "percentile-97.5"


def spoil(work: Path) -> None:
    """Every kind of bad file."""
    from PIL import Image

    (work / "empty.onnx").write_bytes(b"")
    (work / "cut.onnx").write_bytes((work / "m.onnx").read_bytes()[:-300])
    (work / "text.onnx").write_text("this is not a model at all")
    (work / "nothing").mkdir()
    (work / "images").mkdir()
    noise = (np.random.default_rng(0).random((8, 8, 3)) * 255).astype(np.uint8)
    Image.fromarray(noise).save(work / "images" / "a.png")
    (work / "images" / "b.png").write_bytes((work / "images" / "a.png").read_bytes()[:120])
    np.save(work / "nhwc.npy", floats(4, 8, 8, 3))
    np.save(work / "double.npy", floats(4, 3, 8, 8).astype(np.float64))
    np.save(work / "nan.npy", np.full((4, 3, 8, 8), np.nan, np.float32))
    np.savez(work / "pickled.npz", x=np.array([{}], object))
    (work / "file").write_text("x")
    (work / "bad.json").write_text("{}")
    (work / "bad.cache").write_text("TRT-8600-EntropyCalibration2\nimage: zzz\n")
    (work / "other.cache").write_text("TRT-8600-EntropyCalibration2\nelsewhere: 3f800000\n")
    (work / "pre.json").write_text('{"colour": "rgb"}')
    (work / "list.json").write_text("[]")
    (work / "few.txt").write_text("1\n2\n")


C = "calibrate"
BAD = {
    "model missing": ((C, "none.onnx", "--data", "calib.npy"), "none.onnx does not exist"),
    "model empty": ((C, "empty.onnx", "--data", "calib.npy"), "empty.onnx is empty"),
    "model truncated": ((C, "cut.onnx", "--data", "calib.npy"), "cut.onnx"),
    "model not onnx": ((C, "text.onnx", "--data", "calib.npy"), "text.onnx"),
    "no images": ((C, "m.onnx", "--data", "nothing", "--preset", "none"), "no images in"),
    "no folder": ((C, "m.onnx", "--data", "nowhere", "--preset", "none"), "nowhere does not exist"),
    "truncated image": ((C, "m.onnx", "--data", "images", "--preset", "none"), "b.png cannot be decoded"),
    "no preprocess": ((C, "m.onnx", "--data", "images"), "need a preprocess"),
    "unknown preset": ((C, "m.onnx", "--data", "images", "--preset", "imagnet"), "no preset 'imagnet'"),
    "two presets": ((C, "m.onnx", "--data", "images", "--preset", "none", "--preprocess", "pre.json"), "both given"),
    "bad preprocess": ((C, "m.onnx", "--data", "images", "--preprocess", "pre.json"), "unknown key(s) colour"),
    "preprocess list": ((C, "m.onnx", "--data", "images", "--preprocess", "list.json"), "not a JSON object"),
    "preprocess missing": ((C, "m.onnx", "--data", "images", "--preprocess", "no.json"), "cannot be read"),
    "wrong shape": ((C, "m.onnx", "--data", "nhwc.npy"), "batch 0, input 'image': got float32 (4, 8, 8, 3)"),
    "wrong dtype": ((C, "m.onnx", "--data", "double.npy"), "got float64"),
    "nan": ((C, "m.onnx", "--data", "nan.npy"), "batch 0, input 'image' contains NaN"),
    "pickled": ((C, "m.onnx", "--data", "pickled.npz"), "pickled objects"),
    "algorithm": ((C, "m.onnx", "--data", "calib.npy", "--algorithm", "percentile-x"), "no algorithm 'percentile-x'"),
    "limit": ((C, "m.onnx", "--data", "calib.npy", "--limit", "0"), "limit 0"),
    "batch size": ((C, "m.onnx", "--data", "calib.npy", "--batch-size", "0"), "--batch-size 0 is less than 1"),
    "table broken": (
        ("quantize", "m.onnx", "--table", "bad.json", "-o", "out.onnx"),
        "bad.json is not a quantlab calibration table",
    ),
    "cache corrupt": (("quantize", "m.onnx", "--table", "bad.cache"), "bad.cache, line 2"),
    "cache of other": (("quantize", "m.onnx", "--table", "other.cache"), "of another model"),
    "labels": (
        ("compare", "m.onnx", "m.onnx", "--data", "calib.npy", "--labels", "few.txt"),
        "there are 2 labels for 20 samples",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_error_with_a_hint_exit_2_and_no_file(
    cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    spoil(work)
    monkeypatch.chdir(work)
    before = sorted(work.rglob("*"))
    args, expected = BAD[case]
    result = cli(*args, "-o", "out.onnx" if args[0] == "quantize" else "out.json")
    assert result.code == 2
    error, hint = result.err.splitlines()
    assert error.startswith("error: ")
    assert expected in error
    assert hint.startswith("hint: ")
    left = sorted(p for p in work.rglob("*") if p.is_file() and p not in before)
    assert not left


def test_model_with_qdq_is_refused(cli: Cli, work: Path) -> None:
    table = calibrated(cli, work)
    cli("quantize", work / "m.onnx", "--table", table, "-o", work / "q.onnx")
    again = cli("quantize", work / "q.onnx", "--table", table, "-o", work / "qq.onnx")
    assert again.code == 2
    assert "already has" in again.err
    assert not (work / "qq.onnx").exists()


def test_skip_bad_counts_and_names(cli: Cli, work: Path) -> None:
    spoil(work)
    args = ("--data", work / "images", "--preset", "none", "--skip-bad", "-o", work / "t.json")
    result = cli("calibrate", work / "m.onnx", *args)
    assert result.code == 0
    assert "b.png cannot be decoded" in result.err
    assert "1 samples" in result.out


@pytest.mark.parametrize("output", ["file/t.json", "nowhere/t.json", "nothing"])
def test_output_that_cannot_be_written_is_refused_before_the_work(cli: Cli, work: Path, output: str) -> None:
    spoil(work)
    result = cli("calibrate", work / "m.onnx", "--data", work / "calib.npy", "-o", work / output)
    assert result.code == 2
    assert "hint: " in result.err
    assert "calibrating" not in result.err


def test_report_folder_that_cannot_be_made_is_refused_before_the_work(cli: Cli, work: Path) -> None:
    spoil(work)
    args = ("--data", work / "calib.npy", "-o", work / "file" / "report")
    result = cli("compare", work / "m.onnx", work / "m.onnx", *args)
    assert result.code == 2
    assert "cannot be made" in result.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_refused(cli: Cli, work: Path) -> None:
    (work / "locked").mkdir(mode=0o500)
    result = cli("calibrate", work / "m.onnx", "--data", work / "calib.npy", "-o", work / "locked" / "t.json")
    assert result.code == 2
    assert "cannot be written" in result.err


CHILD = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""First of all in a child: under nohup it would inherit that SIGINT is ignored."""


def test_a_bug_is_a_traceback_and_exit_1(work: Path) -> None:
    code = (
        "import sys, quantlab.api.calibration_job as job, quantlab.cli\n"
        "def broken(*a, **k): raise RuntimeError('a bug')\n"
        "job.calibrate_to_file = broken\n"
        "quantlab.cli.main()\n"
    )
    args = ["calibrate", work / "m.onnx", "--data", work / "calib.npy", "-o", work / "t.json"]
    result = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "RuntimeError: a bug" in result.stderr


ENDLESS = """
from pathlib import Path
import numpy as np

def load_data():
    x = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    for k in range(10**9):
        if k == 3:
            Path("reached").touch()
        yield {"image": x}
"""


@pytest.mark.parametrize("command", ["calibrate", "compare"])
def test_ctrl_c_is_exit_130_without_a_traceback_or_half_a_file(work: Path, command: str) -> None:
    (work / "data.py").write_text(ENDLESS)
    what = {"calibrate": ["-o", "t.json"], "compare": ["same=m.onnx", "-o", "report"]}[command]
    program = [sys.executable, "-c", f"{CHILD}from quantlab.cli import main; main()"]
    process = subprocess.Popen(
        [*program, command, "m.onnx", "--data", "data.py", *what],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=work, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (work / "reached").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    if command == "calibrate":
        assert err.splitlines()[-1] == "interrupted: unfinished results were not written"
        assert not (work / "t.json").exists()
    else:
        assert err.splitlines()[-1] == "interrupted: the report is partial"
        document = json.loads((work / "report" / "report.json").read_text())
        assert document["partial"]
        assert document["comparison"]["samples"] % 8 == 0
        assert f"interrupted after {document['comparison']['samples']} samples" in " ".join(document["warnings"])
    assert not list(work.rglob(".quantlab-*"))


def test_compare_report_shows_what_the_models_keep(cli: Cli, work: Path, no_plots: None) -> None:
    table = calibrated(cli, work)
    cli("quantize", work / "m.onnx", "--table", table, "-o", work / "q.onnx")
    args = ("--data", f"{work / 'test.npz'}:images", "-o", work / "report")
    assert cli("compare", work / "m.onnx", f"int8={work / 'q.onnx'}", *args).code == 0
    document = json.loads((work / "report" / "report.json").read_text())
    amax = {t["name"]: t["amax"]["int8"] for t in document["calibration"]["tensors"]}
    assert amax == pytest.approx(json.loads(table.read_text())["amax"], rel=1e-6)


def test_output_never_replaces_the_input_or_a_special_file(cli: Cli, work: Path) -> None:
    before = (work / "m.onnx").read_bytes()
    result = cli("calibrate", work / "m.onnx", "--data", work / "calib.npy", "-o", work / "m.onnx")
    assert result.code == 2
    assert "is the input" in result.err
    assert (work / "m.onnx").read_bytes() == before
    os.mkfifo(work / "pipe")
    result = cli("calibrate", work / "m.onnx", "--data", work / "calib.npy", "-o", work / "pipe")
    assert result.code == 2
    assert "no ordinary file" in result.err
    result = cli("calibrate", work / "m.onnx", "--data", work / "calib.npy", "-o", work / ("n" * 300))
    assert result.code == 2
    assert "too long" in result.err


def test_failed_compare_leaves_no_folder(cli: Cli, work: Path) -> None:
    args = ("--data", work / "nowhere.npy", "-o", work / "report")
    assert cli("compare", work / "m.onnx", work / "m.onnx", *args).code == 2
    assert not (work / "report").exists()


def test_model_and_table_in_each_others_place(cli: Cli, work: Path) -> None:
    table = calibrated(cli, work)
    result = cli("quantize", table, "--table", work / "m.onnx", "-o", work / "q.onnx")
    assert result.code == 2
    assert f"error: model {table} is truncated or not an ONNX file" in result.err
    assert not (work / "q.onnx").exists()
    result = cli("quantize", work / "m.onnx", "--table", work / "m.onnx", "-o", work / "q.onnx")
    assert (result.code, f"{work / 'm.onnx'} cannot be read" in result.err) == (2, True)


def test_doctor_says_what_works(cli: Cli) -> None:
    result = cli("doctor")
    assert result.code == 0
    assert "calibrate, quantize, compare (CPU)" in result.out


def test_placement_file_is_one_line_per_decision_and_overwrites_nothing(cli: Cli, work: Path) -> None:
    table = calibrated(cli, work)
    quantize = ["quantize", work / "m.onnx", "--table", table, "-o", work / "q.onnx", "--placement"]
    assert "is the input" in cli(*quantize, table).err
    assert "are one file" in cli(*quantize, work / "q.onnx").err
    assert cli(*quantize, work / "p.txt").code == 0
    lines = (work / "p.txt").read_text().splitlines()
    assert lines[0].startswith("activation image: read by ")
    assert lines == cli("inspect", work / "m.onnx", "--placement").out.splitlines()
