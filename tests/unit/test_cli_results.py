"""What the commands print when they succeed, their exit codes, and the demo's chain on a small sample."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantlab
from conftest import CliResult
from models import CONCAT, coloured, conv_net, floats, image_batches, labelled, parse, run
from quantlab.api import calibrate_all
from quantlab.calibration import CalibrationTable
from quantlab.cli.compare import exit_code
from quantlab.cli.progress import progress
from quantlab.cli.tables import print_comparison
from quantlab.comparison import Comparison
from quantlab.data import ImageBatches, Preprocess
from quantlab.observers import OBSERVERS
from quantlab.report.from_sample import Sample, open_sample, report_sample

Cli = Callable[..., CliResult]
pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("results")
    onnx.save(conv_net(), work / "m.onnx")
    np.save(work / "x.npy", floats(48, 3, 8, 8, seed=1))
    table = quantlab.calibrate(conv_net(), image_batches(2), tensors="all")
    table.save(work / "t.json")
    onnx.save(quantlab.quantize(conv_net(), table).model, work / "q.onnx")
    return work


def test_calibrate_says_what_was_written_and_what_it_took(cli: Cli, work: Path) -> None:
    done = cli("calibrate", "m.onnx", "--data", "x.npy", "--algorithm", "minmax", "--limit", 20, "-o", "out.json")
    assert re.fullmatch(r"out\.json: 4 tensors, minmax, 20 samples in [0-9.]+ s(, peak memory [0-9]+ MiB)?\n", done.out)
    assert done.err == "calibrating: 20/20\n"
    part = cli("calibrate", "m.onnx", "--data", "x.npy", "--order-independent", "-o", "p.npz")
    assert part.out.startswith("p.npz: histograms of 4 tensors, 48 samples in ")


def test_parts_are_merged_to_one_table(cli: Cli, work: Path) -> None:
    x = np.load("x.npy")
    for name, rows in (("a", slice(0, 16)), ("b", slice(16, 48))):
        np.save(f"{name}.npy", x[rows])
        args = ("--data", f"{name}.npy", "--order-independent", "-o", f"{name}.npz")
        assert cli("calibrate", "m.onnx", *args).code == 0
    done = cli("merge", "a.npz", "b.npz", "--algorithm", "minmax", "-o", "ab.json")
    assert (done.code, done.out) == (0, "ab.json: 4 tensors, minmax, 48 samples in 2 parts\n")
    assert CalibrationTable.load("ab.json").amax["image"] == np.abs(x).max()


def test_check_data_prints_findings_or_everything_as_json(cli: Cli, work: Path) -> None:
    args = ("check-data", "m.onnx", "--data", "x.npy", "--batch-size", 8, "--algorithm", "minmax")
    done = cli(*args)
    head, *findings = done.out.splitlines()
    assert head == "minmax: 4 scales from 40 samples, judged by 8 held back"
    everything = json.loads(cli(*args, "--json").out)
    assert findings == [f"  {line}" for line in everything["findings"]]
    assert (everything["samples"], everything["notices"]) == (40, [])
    assert [t["name"] for t in everything["tensors"]] == ["image", "r", "t", "f"]


def test_quantize_says_what_is_in_int8_and_what_is_not(cli: Cli, work: Path) -> None:
    done = cli("quantize", "m.onnx", "--table", "t.json", "--exclude", "last", "-o", "out.onnx")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "out.onnx: 2 activation tensors and 2 weights in INT8"
    errors = quantlab.quantize(conv_net(), "t.json", selection=quantlab.Selection(exclude=("last",))).weight_errors
    worst = min(errors, key=lambda error: error.sqnr_db.min())
    assert lines[1] == (
        f"  weight '{worst.tensor}': channel {worst.worst_channel} keeps the least, SQNR {worst.sqnr_db.min():.1f} dB"
    )
    assert "  float: 1 Gemm: excluded by 'last'" in lines


def test_requantize_takes_the_scales_of_the_model(cli: Cli, work: Path) -> None:
    done = cli("quantize", "q.onnx", "--requantize", "-o", "out.onnx")
    assert (done.code, done.out.splitlines()[0]) == (0, "out.onnx: 4 activation tensors and 3 weights in INT8")
    batch = image_batches(1)[0]
    np.testing.assert_array_equal(run(onnx.load("out.onnx"), batch)[0], run(onnx.load("q.onnx"), batch)[0])


def test_repair_compares_on_made_up_samples_unless_it_has_data(cli: Cli, work: Path) -> None:
    done = cli("repair", "q.onnx", "-o", "out.onnx")
    assert (done.code, done.err) == (0, "")
    assert "compared on 8 seeded random samples: give --data for a proof on real ones\n" in done.out
    real = cli("repair", "q.onnx", "--data", "x.npy", "-o", "out.onnx").out
    assert "compared on 48 samples\n" in real
    assert "output 'logits': SQNR inf dB, largest change 0\n" in real


def test_migrate_says_what_became_of_every_scale(cli: Cli, work: Path) -> None:
    assert cli("calibrate", "m.onnx", "--data", "x.npy", "-o", "c.cache").code == 0
    done = cli("migrate", "m.onnx", "--table", "c.cache", "--data", "x.npy", "-o", "out.onnx")
    assert done.code == 0
    error = quantlab.compare(conv_net(), {"out": "out.onnx"}, [{"image": np.load("x.npy")}]).results[1].worst_sqnr_db
    assert f"  output 'logits' against FP32: SQNR {error:.1f} dB on 48 samples" in done.out.splitlines()
    few = CalibrationTable({n: a for n, a in CalibrationTable.load("t.json").amax.items() if n not in ("f", "p", "t")})
    few.save("few.json")
    lines = cli("migrate", "m.onnx", "--table", "few.json", "-o", "out.onnx").out.splitlines()
    assert lines[0].startswith("out.onnx: ")
    assert any(line.startswith("  float: Gemm: ") and "has no scale" in line for line in lines)


def result(**changes: Any) -> Comparison:
    """FP32 is right on 80 %, one model keeps 90 % of that."""
    found = quantlab.compare(conv_net(), {"a": conv_net()}, labelled(20))
    fp32, other = found.results
    rows = (replace(fp32, top1=0.8), replace(other, **({"top1": 0.72} | changes.pop("model", {}))))
    return replace(found, results=rows, **changes)


@pytest.mark.parametrize(
    ("changes", "code", "line"),
    [
        ({}, 0, ""),
        ({"model": {"failed": "why", "errors": {}}}, 3, ""),
        (
            {"model": {"metric_failed": "why"}},
            2,
            "error: the metric failed on 'a': why\nhint: the report shows where it was raised",
        ),
        ({"partial": True}, 130, "interrupted: the report is partial"),
    ],
)
def test_exit_code_is_2_for_what_is_incomplete_and_3_for_what_failed(
    changes: dict[str, Any], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(result(**dict(changes))) == code
    assert capsys.readouterr().err == (f"{line}\n" if line else "")


def cells(text: str, name: str) -> list[str]:
    row = next(line for line in text.splitlines() if f" {name} " in line)
    return [cell.strip() for cell in re.split("[│|]", row) if cell.strip()]


def test_table_on_the_terminal_has_the_figures_of_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    model = quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), image_batches())).model
    x = coloured(30)
    labels = run(conv_net(), {"image": x})[0].argmax(1)
    metric = lambda outputs, wanted: (outputs["logits"].argmax(1) == wanted).astype(float)  # noqa: E731
    broken = lambda batch: {}  # noqa: E731
    found = quantlab.compare(conv_net(), {"int8": model, "broken": broken}, [{"image": x}], labels, metric=metric)
    found = replace(found, results=(found.fp32, replace(found.results[1], size_bytes=123_456_789), found.results[2]))
    print_comparison(found)
    printed = capsys.readouterr()
    row, change = found.results[1], found.results[1].difference
    assert "30 samples" in printed.out
    assert cells(printed.out, "fp32")[:3] == ["fp32", "100.00 %", "–"]
    assert cells(printed.out, "int8") == [
        "int8", f"{100 * row.top1:.2f} %", f"{change.points:+.2f} ({change.low:+.2f} {change.high:+.2f})",
        f"{100 * row.top5:.2f} %", f"{100 * row.agreement:.2f} %", f"{row.worst_sqnr_db:.2f}",
        "120,563", f"{row.metric:.4f}",
    ]  # fmt: skip
    assert cells(printed.out, "broken") == ["broken", *["–"] * 4, "failed", "–", "–"]
    assert printed.err.count("warning: ") == len(found.warnings)


def test_shared_scales_and_views_are_named(cli: Cli, work: Path) -> None:
    weights = {"w": floats(4, 4, 1, 1), "v": floats(4, 4, 1, 1, seed=1), "u": floats(4, 8, 1, 1, seed=2)}
    onnx.save(parse(CONCAT, weights), "c.onnx")
    amax = {"x": 1.0, "a": 1.0, "b": 4.0, "c": 4.0, "y": 1.0}
    CalibrationTable({name: np.float32(v) for name, v in amax.items()}).save("shared.json")
    done = cli("quantize", "c.onnx", "--table", "shared.json", "-o", "out.onnx")
    assert "  shared scale: 'a' gives up 12.0 dB of resolution" in done.out.splitlines()
    text = "m (float[N,4] x) => (float[N,4] y) { f = Flatten (x)  m = MatMul (f, w)  y = Relu (m) }"
    onnx.save(parse(text, {"w": floats(4, 4)}), "v.onnx")
    CalibrationTable({"x": np.float32(1), "m": np.float32(2), "y": np.float32(2)}).save("view.json")
    lines = cli("migrate", "v.onnx", "--table", "view.json", "-o", "out.onnx").out.splitlines()
    assert "  'f' is a view of 'x' and takes its scale, as in the implicit engine" in lines


def test_lint_is_exit_3_for_errors_only(cli: Cli, work: Path) -> None:
    assert cli("lint", "q.onnx") == (0, "no findings\n", "")
    model = onnx.load("q.onnx")
    scale = next(t for t in model.graph.initializer if t.name == "image_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.asarray(np.float32(-1)), scale.name))
    onnx.save(model, "bad.onnx")
    done = cli("lint", "bad.onnx")
    assert (done.code, done.err) == (3, "")
    assert " error: " in done.out
    rows = json.loads(cli("lint", "bad.onnx", "--json").out)
    assert "error" in {row["severity"] for row in rows}
    assert cli("lint", "bad.onnx", "--json").code == 3


def test_interruption_is_one_line_and_exit_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("quantlab.report.from_sample.open_sample", interrupted)
    done = cli("demo")
    assert (done.code, done.out) == (130, "")
    assert done.err.strip() == "interrupted: unfinished results were not written"  # click ends the line of the ^C


def test_cost_is_the_time_and_the_memory_where_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from quantlab.cli import cost

    assert re.fullmatch(r"[0-9.]+ s, peak memory [0-9]+ MiB", cost.cost())
    linux = cost._peak_mib()
    monkeypatch.setattr(cost, "Path", lambda _: Path("/none"))  # as on a system without /proc
    assert cost._peak_mib() >= 0.9 * linux
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert re.fullmatch(r"[0-9.]+ s", cost.cost())


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("calibrating", 20) as on_batch:
        on_batch(20)
    shown = capsys.readouterr().err
    assert "calibrating" in shown
    assert "20/20" in shown


def test_demo_writes_the_best_model_its_table_and_the_report(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    images = (random.random((24, 8, 8, 3)) * 255).astype(np.uint8)
    fit = Preprocess("exact", (8, 8), scale=1 / 64, mean=(2.0,))
    calibration = ImageBatches(images[:12], fit, input_name="image", batch_size=4)
    labels = np.concatenate(
        [run(conv_net(), dict(b))[0].argmax(1) for b in ImageBatches(images, fit, input_name="image")]
    )
    test = ImageBatches(images, fit, input_name="image", batch_size=10, labels=labels)
    sample = Sample(conv_net(), calibration, test)
    monkeypatch.setattr("quantlab.report.from_sample.open_sample", lambda: sample)
    done = cli("demo", "-o", tmp_path / "demo")
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert [m["name"] for m in document["comparison"]["models"]] == ["fp32", *OBSERVERS]
    best = max(document["comparison"]["models"][1:], key=lambda m: m["sqnr_db"])["name"]
    assert done.out.splitlines()[-2].startswith(f"best: {best}, written as ")
    table = CalibrationTable.load(tmp_path / "demo" / "table.json")
    assert dict(table.amax) == dict(quantlab.calibrate(conv_net(), calibration, OBSERVERS[best]).amax)
    assert onnx.load(tmp_path / "demo" / "model.qdq.onnx") == quantlab.quantize(conv_net(), table).model
    assert document["provenance"]["command"].startswith("quantlab demo -o ")
    assert (document["comparison"]["best"], set(document["error_trace"]["models"])) == (best, set(OBSERVERS))
    assert "calibrating: 12/12" in done.err
    assert "comparing: 24/24" in done.err


def test_embedded_sample_fits_its_model(tmp_path: Path) -> None:
    sample = open_sample()
    assert (sample.calibration.count, sample.test.count) == (512, 2000)
    small = replace(
        sample,
        test=ImageBatches(
            sample.test._images[:32], sample.test.preprocess, input_name="image", labels=sample.test.labels[:32]
        ),
    )
    run_ = calibrate_all(sample.proto, [next(iter(sample.calibration))], {"mse": OBSERVERS["mse"]})
    done = report_sample(small, run_, tmp_path)
    assert done.best == "mse"
    assert done.comparison.fp32.top1 > 0.9
    assert done.comparison.results[1].agreement > 0.95
    assert done.model.is_file()
