"""`compare --winner`: the Q/DQ model that wins, with table, placement and cache, as one set with the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from conftest import CliResult
from engine_double import HostRuntime
from models import coloured, conv_net, image_batches
from quantlab.api import winner
from quantlab.calibration import CalibrationTable, TrtCache
from quantlab.calibration.cache_record import load_record
from quantlab.calibration.made_from import read_origin
from quantlab.cli import engine_runtime
from quantlab.errors import ConfigError
from quantlab.onnx_model import model_hash

Cli = Callable[..., CliResult]
pytestmark = pytest.mark.usefixtures("no_plots", "quick")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("winner")
    onnx.save(conv_net(), work / "m.onnx")
    np.save(work / "calibration.npy", coloured(24, seed=1))
    np.save(work / "x.npy", coloured(32))
    onnx.save(quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), image_batches(2))).model, work / "q.onnx")
    return work


COMPARE = ("compare", "m.onnx", "--data", "x.npy", "-o", "report")
BUILT = (*COMPARE, "--calibration", "calibration.npy", "--winner", "win")
FILES = ["model.cache", "model.cache.json", "model.qdq.onnx", "placement.txt", "table.json"]


def test_winner_is_written_with_all_that_belongs_to_it(cli: Cli, work: Path) -> None:
    done = cli(*BUILT, "--backends", "ort:qdq:minmax,ort:qdq:mse")
    assert done.code == 0, done.err
    assert sorted(path.name for path in Path("win").iterdir()) == FILES
    document = json.loads(Path("report/report.json").read_text())
    best = document["comparison"]["best"]
    made_of = {m["name"]: m for m in document["provenance"]["models"]}[best]
    model, table = onnx.load("win/model.qdq.onnx"), CalibrationTable.load("win/table.json")
    assert made_of["hash"] == model_hash(model)
    assert made_of["made_from"] == read_origin(model)
    assert f"ort:qdq:{table.provenance.algorithm}" == best
    assert quantlab.quantize("m.onnx", table).model.graph == model.graph
    record = load_record(Path("win/model.cache"))
    assert (record.model_hash, record.data_hash) == (model_hash(conv_net()), table.provenance.data_hash)
    assert set(table.amax) <= set(TrtCache.load(Path("win/model.cache")).scales)
    assert document["provenance"]["calibration"]["samples_hash"] == table.provenance.samples_hash


def test_winner_that_is_no_model_of_the_comparison_leaves_it_to_the_best_that_is(
    cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_runtime, "runtime", HostRuntime)
    backends = "trt:fp16,trt:int8:entropy,ort:qdq:mse"
    done = cli(*BUILT, "--batch-size", 8, "--backends", backends, "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert (facts["chosen"], facts["winner"]["name"]) == ("trt:int8:entropy", "ort:qdq:mse")
    assert "'trt:int8:entropy' won, which is no Q/DQ model made here" in done.err
    assert CalibrationTable.load("win/table.json").provenance.algorithm == "mse"


def test_cache_of_auto_has_the_algorithm_that_it_took_for_most() -> None:
    def table(**amax: float) -> CalibrationTable:
        return CalibrationTable({name: np.float32(value) for name, value in amax.items()})

    tables = {"mse": table(a=1, b=2, c=3), "minmax": table(a=4, b=5, c=6), "auto": table(a=4, b=5, c=3)}
    taken = winner.scales_for_cache(conv_net(), tables, "auto", image_batches(2))
    assert taken.table.provenance.algorithm == "minmax"


def test_winner_and_report_are_written_together_or_not_at_all(
    cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ConfigError("the disk is full", hint="free it")

    monkeypatch.setattr(winner, "save_model", fail)
    done = cli(*BUILT, "--backends", "ort:qdq:mse")
    assert (done.code, Path("report").exists(), Path("win").exists()) == (2, False, False)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("q.onnx", "--winner", "win"), "--winner does nothing here: without --calibration"),
        (("--calibration", "x.npy", "--backends", "trt:int8:entropy", "--winner", "win"), "no backend that is named"),
        (("--calibration", "x.npy", "--backends", "ort:qdq:mse", "--winner", "m.onnx"), "m.onnx"),
    ],
)
def test_winner_that_cannot_be_is_refused_before_the_work(
    cli: Cli, work: Path, more: tuple[str, ...], reason: str
) -> None:
    done = cli(*COMPARE, *more)
    assert (done.code, reason in done.err) == (2, True), done.err
    assert not Path("report").exists()


def test_cache_of_an_earlier_winner_does_not_stay_beside_this_one(
    cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ConfigError("a name has a colon", hint="rename it")

    Path("win").mkdir()
    for name in ("model.cache", "model.cache.json", "mine.txt"):
        Path("win", name).write_text("earlier")
    monkeypatch.setattr("quantlab.report.winner.scales_for_cache", fail)
    done = cli(*BUILT, "--backends", "ort:qdq:minmax")
    assert (done.code, "no calibration cache was written: a name has a colon" in done.err) == (0, True), done.err
    assert sorted(path.name for path in Path("win").iterdir()) == ["mine.txt", *FILES[2:]]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("compare m.onnx q.onnx --data x.npy -o r --device 1", "--device does nothing here: no engine is built or run"),
        (
            "compare m.onnx --data x.npy --calibration x.npy --backends ort:qdq:mse -o r --device 1",
            "no engine is built",
        ),
        ("tune m.onnx --table t.json --data x.npy --latency-table l.json -o r --device 1", "no engine is built"),
        ("sensitivity m.onnx --table t.json --data x.npy -o r.json --classes names.txt", "there are no labels"),
        ("check-data m.onnx --data x.npy --classes names.txt", "--classes does nothing here"),
        ("compare m.onnx q.onnx --data code.py --classes names.txt -o r", "code.py have no classes to name"),
        ("demo --unpack u -o r", "--output does nothing here"),
        ("ptq m.onnx --data x.npy --builder-optimization-level 9 -o r", "optimization level 9 is not in 0..5"),
    ],
)
def test_option_that_would_do_nothing_is_refused(
    cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch, words: str, reason: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # which --device sets
    Path("names.txt").write_text("a\nb\nc\nd\ne\n")
    Path("code.py").write_text("def load_data():\n    yield {}\n")
    quantlab.calibrate("m.onnx", image_batches(1), "minmax").save("t.json")
    done = cli(*words.split())
    assert (done.code, reason in done.err) == (2, True), done.err
    assert not Path("r").exists()


# --- what is told of the data


def test_samples_that_are_calibrated_with_and_judged_by_are_told(cli: Cli, work: Path) -> None:
    backends = ("--backends", "ort:qdq:minmax")
    same = cli(*COMPARE, "--calibration", "x.npy", *backends)
    assert "'ort:qdq:minmax' was calibrated with the samples that it is judged by" in same.err
    np.save("some.npy", np.concatenate([np.load("x.npy")[:8], np.load("calibration.npy")]))
    some = cli(*COMPARE, "--calibration", "some.npy", *backends)
    assert "8 of the 32 samples to judge by were calibrated with too" in some.err
    other = cli(*COMPARE, "--calibration", "calibration.npy", *backends)
    assert other.code == 0
    assert "calibrated with" not in other.err
    again = cli("calibrate", "m.onnx", "--data", "x.npy", "--batch-size", 5, "-o", "t.json")
    assert again.code == 0
    assert cli("quantize", "m.onnx", "--table", "t.json", "-o", "mine.onnx").code == 0
    given = cli("compare", "m.onnx", "mine.onnx", "--data", "x.npy", "--batch-size", 8, "-o", "other")
    assert "'mine' was calibrated with the samples that it is judged by" in given.err  # in other batches


def test_biases_corrected_with_other_samples_are_told(cli: Cli, work: Path) -> None:
    assert cli("calibrate", "m.onnx", "--data", "x.npy", "-o", "t.json").code == 0
    correct = ("quantize", "m.onnx", "--table", "t.json", "--correct-bias", "-o", "b.onnx")
    told = "the biases are corrected with other samples than the calibration table was made from"
    assert told not in cli(*correct, "--data", "x.npy").err
    assert told in cli(*correct, "--data", "calibration.npy").err
    known = read_origin(onnx.load("b.onnx"))
    table = CalibrationTable.load("t.json")
    assert known["samples_hash"] == table.provenance.samples_hash
    assert "biases_corrected" not in known  # it did not help


@pytest.mark.parametrize("how", [("repair",), ("quantize", "--requantize"), ("fp16",)])
def test_what_a_model_was_made_from_stays_when_its_scales_stay(cli: Cli, work: Path, how: tuple[str, ...]) -> None:
    assert cli(how[0], "q.onnx", *how[1:], "-o", "again.onnx").code == 0
    before = read_origin(onnx.load("q.onnx"))
    assert before["table_hash"]
    assert read_origin(onnx.load("again.onnx")) == before
