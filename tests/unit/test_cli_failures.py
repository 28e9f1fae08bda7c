"""Every command that fails: one line that says what, one with the remedy, exit code 2, and nothing written."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from conftest import CliResult
from engine_double import HostRuntime
from models import conv_net, floats, image_batches
from quantlab.cli import COMMANDS

Cli = Callable[..., CliResult]
pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("failures")
    onnx.save(conv_net(), work / "m.onnx")
    np.save(work / "x.npy", floats(8, 3, 8, 8))
    table = quantlab.calibrate(conv_net(), image_batches(2), tensors="all")
    table.save(work / "t.json")
    onnx.save(quantlab.quantize(conv_net(), table).model, work / "q.onnx")
    (work / "file").write_text("x")
    return work


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*"))


def check(done: CliResult, expected: str) -> None:
    """Exactly one error, one hint, and no result."""
    assert done.code == 2
    error, hint = done.err.splitlines()[-2:]
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert len(hint) > len("hint: ")
    assert expected in error
    assert done.err.count("error: ") == done.err.count("hint: ") == 1
    assert "Traceback" not in done.err


DATA = ("--data", "x.npy")
REPORT = ("-o", "report")
CASES = {
    "demo": (("-o", "file/demo"), "output folder file/demo cannot be made"),
    "check-data": (("none.onnx", *DATA), "none.onnx does not exist"),
    "calibrate": (("none.onnx", *DATA, "-o", "out.json"), "none.onnx does not exist"),
    "merge": (("none.npz", "-o", "out.json"), "none.npz"),
    "quantize": (("m.onnx", "--table", "none.json", "-o", "out.onnx"), "none.json cannot be read"),
    "sensitivity": (("m.onnx", "--table", "none.json", *DATA, "-o", "out.json"), "none.json cannot be read"),
    "ptq": (("q.onnx", *DATA, "-o", "out"), "q.onnx is quantized already"),
    "tune": (("m.onnx", "--table", "none.json", *DATA, "-o", "out"), "none.json cannot be read"),
    "profile": (("m.onnx", "--table", "none.json", "-o", "out.json"), "none.json cannot be read"),
    "lint": (("none.onnx",), "none.onnx does not exist"),
    "repair": (("m.onnx", "-o", "out.onnx"), "no Q/DQ"),
    "migrate": (("m.onnx", "-o", "out.onnx"), "no scales were given"),
    "fp16": (("none.onnx", "-o", "out.onnx"), "none.onnx does not exist"),
    "compare": (("q.onnx", "q.onnx", *DATA, *REPORT), "a comparison needs the FP32 model"),
    "inspect": (("t.json", "--placement"), "t.json is no model"),
    "presets": (("imagnet",), "there is no preset 'imagnet'"),
    "build": (("none.onnx", "-o", "out.engine"), "none.onnx does not exist"),
    "run": (("none.engine", *DATA, "-o", "out.npz"), "none.engine does not exist"),
    "bench": (("none.engine",), "none.engine does not exist"),
    "audit": (("none.engine", "m.onnx"), "none.engine does not exist"),
    "trtexec": (("m.onnx",), "m.onnx has no Q/DQ nodes"),
    "provider": (("m.onnx",), "m.onnx has no Q/DQ nodes"),
    "triton": (("m.onnx", "--batch", "4", "--name", "a/b", "-o", "repository"), "'a/b' cannot be the name of a model"),
}
WITHOUT_INPUT = {"demo", "doctor", "presets"}
"""Commands that need no argument."""


def test_every_command_that_can_fail_has_a_case() -> None:
    assert set(CASES) == set(COMMANDS) - {"doctor"}


@pytest.mark.parametrize("name", CASES)
def test_failure_is_one_error_and_one_hint_and_writes_nothing(
    cli: Cli, work: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantlab.cli.engine_runtime.runtime", HostRuntime)  # there may be no TensorRT
    before = files(work)
    arguments, expected = CASES[name]
    check(cli(name, *arguments), expected)
    assert files(work) == before


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - WITHOUT_INPUT))
def test_missing_argument_is_one_error_with_the_help_as_its_hint(cli: Cli, name: str) -> None:
    done = cli(name)
    check(done, "Missing ")
    assert done.err.endswith(f"hint: quantlab {name} --help\n")


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (MemoryError(), "error: there is too little memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "error: there is too little memory"),
        (OSError(errno.EMFILE, "Too many open files", "x.npy"), "error: x.npy cannot be opened: Too many open files"),
        (ImportError("x.so: failed to map segment", path="x.so"), "error: a library cannot be loaded: x.so: failed"),
        (OSError(errno.ENOSPC, "No space left"), "error: a temporary file cannot be written: No space left"),
    ],
)
def test_shortage_of_the_machine_is_one_error(
    cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception, expected: str
) -> None:
    def fail(*_: object) -> None:
        raise problem

    monkeypatch.setattr(quantlab.qdq, "lint", fail)
    done = cli("lint", work / "q.onnx")
    check(done, "")
    assert expected in done.err


def test_current_folder_that_is_gone_is_one_error(cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "cwd", fail)
    check(cli("lint", work / "q.onnx"), "the current folder cannot be found")


def test_unknown_command_and_option_are_one_error(cli: Cli) -> None:
    check(cli("calibrat"), "No such command 'calibrat'")
    check(cli("calibrate", "--nope"), "No such option")
    check(cli("quantize", "m.onnx", "--weights", "both", "-o", "q.onnx"), "'both' is not one of")


@pytest.mark.parametrize(
    "arguments",
    [
        ("calibrate", "m.onnx", *DATA, "-o"),
        ("merge", "p.npz", "-o"),
        ("migrate", "m.onnx", "--table", "t.json", "-o"),
        ("migrate", "q.onnx", "-o"),
    ],
)
@pytest.mark.parametrize("output", ["t.chache", "t", "t.txt", "t.JSON", ".json", "t.json.bak"])
def test_output_of_an_unknown_kind_is_refused_before_the_work(
    cli: Cli, work: Path, arguments: tuple[str, ...], output: str
) -> None:
    before = files(work)
    done = cli(*arguments, output)
    check(done, f"output {output} has suffix '{Path(output).suffix}', which says nothing about what to write")
    assert "hint: NAME." in done.err
    assert "calibrating" not in done.err
    assert files(work) == before


@pytest.mark.parametrize(
    ("command", "suffixes"),
    [
        (("calibrate", "m.onnx", *DATA), "NAME.json .* NAME.cache .* NAME.flatbuffers .* NAME.npz "),
        (("merge", "p.npz"), "NAME.json "),
        (("migrate", "q.onnx"), "NAME.onnx .* NAME.cache .* NAME.flatbuffers "),
    ],
)
def test_hint_names_what_a_command_can_write(cli: Cli, work: Path, command: tuple[str, ...], suffixes: str) -> None:
    assert re.search(f"hint: {suffixes}", cli(*command, "-o", "t.chache").err)


CALIBRATE = ("calibrate", "m.onnx", *DATA)
QUANTIZE = ("quantize", "m.onnx", "--table", "t.json", "-o", "out.onnx")
MIGRATE = ("migrate", "m.onnx", "--table", "t.json")
OPTIONS = {
    "a part that depends on the order": ((*CALIBRATE, "-o", "p.npz"), "parts of the data cannot be merged"),
    "auto in any order": (
        (*CALIBRATE, "--algorithm", "auto", "--order-independent", "-o", "t2.json"), "auto has no order-independent"
    ),
    "auto to a cache": ((*CALIBRATE, "--algorithm", "auto", "-o", "c.cache"), "auto chooses for the tensors of a Q/DQ"),
    "algorithm": ((*CALIBRATE, "--algorithm", "best", "-o", "t2.json"), "there is no algorithm 'best'"),
    "no scales": (("quantize", "m.onnx", "-o", "out.onnx"), "no scales were given"),
    "correction without data": ((*QUANTIZE, "--correct-bias"), "--correct-bias needs --data"),
    "data without correction": ((*QUANTIZE, *DATA), "--data serves --correct-bias and --closest only"),
    "correction of a Q/DQ model": (
        ("quantize", "q.onnx", "--requantize", "--correct-bias", *DATA, "-o", "out.onnx"), "and an FP32 model"
    ),
    "weights of a Q/DQ model": (
        ("quantize", "q.onnx", "--requantize", "--float-weights", "-o", "out.onnx"), "--requantize writes weights"
    ),
    "pattern": ((*QUANTIZE, "--exclude", "nothing*"), "nothing*"),
    "placement over a table": ((*QUANTIZE, "--placement", "t.json"), "output t.json is the input t.json"),
    "placement over the model": ((*QUANTIZE, "--placement", "./out.onnx"), "are one file"),
    "data for a cache": ((*MIGRATE, *DATA, "-o", "c.cache"), "--data is for Q/DQ models"),
    "float model without a table": (("migrate", "m.onnx", "-o", "c.cache"), "has no Q/DQ and no table was given"),
    "version": ((*MIGRATE, "--tensorrt", "10", "-o", "c.cache"), "TensorRT '10' is no version"),
    "two presets": ((*CALIBRATE, "--preset", "none", "--preprocess", "p.json", "-o", "t2.json"), "both given"),
    "threshold": (("compare", "m.onnx", "q.onnx", *DATA, "--fail-under", "much", *REPORT), "is no threshold"),
    "threshold without an accuracy": (
        ("compare", "m.onnx", "q.onnx", *DATA, "--fail-under", "99", *REPORT), "--fail-under needs an accuracy"
    ),
    "metric": (("compare", "m.onnx", "q.onnx", *DATA, "--metric", "m.py", *REPORT), "is not file.py:NAME"),
    "baseline": (("compare", "m.onnx", "q.onnx", *DATA, "--baseline", "t.json", *REPORT), "t.json is not a report"),
    "backend": (("compare", "m.onnx", *DATA, "--backends", "ort:int8", *REPORT), "there is no backend 'ort:int8'"),
    "backend without calibration": (
        ("compare", "m.onnx", *DATA, "--backends", "ort:qdq:mse", *REPORT), "'ort:qdq:mse' needs calibration data"
    ),
    "nothing to compare": (("compare", "m.onnx", *DATA, *REPORT), "nothing to compare with"),
    "FP32 alone": (("compare", "m.onnx", *DATA, "--backends", "ort:fp32", *REPORT), "ort:fp32 is always there"),
    "two of a name": (("compare", "m.onnx", "a=q.onnx", "a=q.onnx", *DATA, *REPORT), "have the same name"),
    "file by the name of a backend": (
        ("compare", "m.onnx", "ort:qdq:mse=q.onnx", "--calibration", "x.npy", "--backends", "ort:qdq:mse", *DATA,
         *REPORT), "'ort:qdq:mse' is also the name of a backend",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_do_not_go_together_are_one_error(cli: Cli, work: Path, case: str) -> None:
    before = files(work)
    arguments, expected = OPTIONS[case]
    check(cli(*arguments), expected)
    left = files(work)
    # a threshold is compared when the report is there
    assert left == before or case == "threshold without an accuracy"
