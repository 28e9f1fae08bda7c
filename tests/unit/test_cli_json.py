"""`--json`: one document on standard output, all else on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest

import quantlab
from conftest import CliResult
from models import conv_net, floats, image_batches
from quantlab.cli import COMMANDS
from quantlab.cli import cli as group
from quantlab.cli.as_json import print_json

Cli = Callable[..., CliResult]
pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("json")
    onnx.save(conv_net(), work / "m.onnx")
    np.save(work / "x.npy", floats(16, 3, 8, 8))
    np.save(work / "y.npy", floats(16, 3, 8, 8, seed=1))
    table = quantlab.calibrate(conv_net(), image_batches(2), "minmax", tensors="all")
    table.save(work / "t.json")
    quantlab.calibrate(conv_net(), image_batches(3), "minmax", tensors="all").save(work / "u.json")
    onnx.save(quantlab.quantize(conv_net(), table).model, work / "q.onnx")
    return work


DATA = ("--data", "x.npy")
CASES: dict[str, tuple[tuple[str, ...], Callable[[Any], object]]] = {
    "demo": (("--unpack", "sample"), lambda d: d["sample"] == "sample"),
    "check-data": (("m.onnx", *DATA, "--batch-size", "4"), lambda d: d["provenance"]["samples"] == d["samples"]),
    "calibrate": (("m.onnx", *DATA, "-o", "out.json"), lambda d: (d["tensors"], d["samples"]) == (4, 16)),
    "merge": (("t.json", "u.json", "-o", "out.json"), lambda d: (d["parts"], d["algorithm"]) == (2, "minmax")),
    "quantize": (("m.onnx", "--table", "t.json", "-o", "out.onnx"), lambda d: d["int8_tensors"] == 4),
    "sensitivity": (
        ("m.onnx", "--table", "t.json", *DATA, "-o", "out.json"), lambda d: len(d["rows"]) == d["units"] > 1
    ),
    "lint": (("q.onnx",), lambda d: d == []),
    "repair": (("q.onnx", "-o", "out.onnx"), lambda d: d["outputs"]["logits"]["sqnr_db"] == "inf" and d["made_up"]),
    "migrate": (("m.onnx", "--table", "t.json", "-o", "out.cache"), lambda d: d["header"].startswith("TRT-")),
    "fp16": (("q.onnx", "-o", "out.onnx"), lambda d: d["output"] == "out.onnx"),
    "compare": (
        ("m.onnx", "q.onnx", *DATA, "-o", "rep"),
        lambda d: d["models"][0]["sqnr_db"] == "inf" and d["report"]["json"] == "rep/report.json",
    ),
    "inspect": (("q.onnx",), lambda d: d["made_from"]["algorithm"] == "minmax"),
    "presets": ((), lambda d: "imagenet" in d),
    "trtexec": (("q.onnx", "--batch", "4"), lambda d: d["arguments"][0] == "trtexec" and d["line"]),
    "provider": (("q.onnx", "--batch", "4"), lambda d: d["options"]["trt_int8_enable"] == "1" and d["provider"]),
    "triton": (("q.onnx", "--batch", "4", "-o", "repository"), lambda d: d["max_batch_size"] == 4 and d["models"]),
    "doctor": ((), lambda d: d[0]["subject"]),
}  # fmt: skip
ELSEWHERE = {"build", "run", "bench", "audit", "tune", "profile", "ptq"}
"""Commands of engines are tried where engines are made."""


def test_every_command_has_the_option() -> None:
    assert set(CASES) | ELSEWHERE == set(COMMANDS)
    for name in sorted(COMMANDS):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        assert "--json" in {option for parameter in command.params for option in parameter.opts}, name


@pytest.mark.parametrize("name", CASES)
def test_document_is_all_that_is_printed(cli: Cli, work: Path, name: str) -> None:
    arguments, holds = CASES[name]
    done = cli(name, *arguments, "--json")
    assert done.code == 0, done.err
    assert holds(json.loads(done.out)), done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("migrate", "m.onnx", "--table", "t.json", *DATA, "-o", "out.onnx"),
        ("inspect", "m.onnx", "--placement"),
        ("calibrate", "m.onnx", *DATA, "--order-independent", "-o", "p.npz"),
        ("compare", "m.onnx", "--calibration", "y.npy", *DATA, "--backends", "ort:qdq:mse", "-o", "r", "--winner", "w"),
    ],
)
def test_other_ways_of_a_command_print_a_document_too(cli: Cli, work: Path, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments, "--json")
    assert (done.code, isinstance(json.loads(done.out), dict)) == (0, True), done.err


def test_failure_prints_no_document(cli: Cli, work: Path) -> None:
    done = cli("repair", "m.onnx", "-o", "out.onnx", "--json")
    assert (done.code, done.out) == (2, "")


def test_numbers_that_json_does_not_have_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [np.float32("inf"), -np.inf, np.nan, np.int64(3)], "b": Path("x"), "c": np.ones(2)})
    assert json.loads(capsys.readouterr().out) == {"a": ["inf", "-inf", "nan", 3], "b": "x", "c": [1, 1]}
