"""`quantlab ptq` from data to the model that ships; a GPU is played by the host double."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import quantlab
from engine_double import HostRuntime
from models import coloured, conv_net, run
from quantlab.api import ptq_candidates
from quantlab.calibration import load_table
from quantlab.cli import config_file, engine_runtime
from quantlab.cli.ptq import command
from quantlab.data import ArrayBatches, Preprocess
from quantlab.data.sample import unpack_sample
from quantlab.errors import BuildError, DataError, DeviceError
from quantlab.observers import OBSERVERS
from quantlab.onnx_model import load_model
from quantlab.ort import Session
from quantlab.report import ptq as report_ptq

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SET = {"model.qdq.onnx", "table.json", "placement.txt", "model.cache", "model.cache.json", "ptq.toml",
       "report.json", "report.md", "report.html", "report.csv", "report.samples.csv", "work"}  # fmt: skip


def no_gpu() -> HostRuntime:
    raise DeviceError("there is no GPU", hint="use a machine that has one")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_plots: None) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine_runtime, "runtime", no_gpu)
    onnx.save(conv_net(), tmp_path / "m.onnx")
    x = coloured(48)
    np.savez(tmp_path / "d.npz", images=x, labels=run(conv_net(), {"image": x})[0].argmax(1))
    return tmp_path


DATA = ("--data", "d.npz:images", "--labels", "d.npz:labels", "--batch-size", "8")


def test_everything_that_ships_is_written_and_judged(cli: Callable, work: Path) -> None:
    done = cli("ptq", "m.onnx", *DATA, "-o", "out")
    document = json.loads((work / "out/report.json").read_text())
    assert done.code == (0 if document["judgement"]["passed"] else 3)
    word = "PASS" if done.code == 0 else "FAIL"
    best = document["comparison"]["best"]
    assert f"{word}: '{best}' {document['judgement']['text']}" in done.out.splitlines()
    assert "24 samples to calibrate with, 24 others to judge by" in done.err
    assert "no engines were built: there is no GPU" in done.err
    assert {p.name for p in (work / "out").iterdir()} == SET
    (why,) = [line for line in done.out.splitlines() if line.startswith("why: ")]
    assert why.startswith(f"why: '{best}' is closest to FP32 by SQNR: ")
    assert " 0.0 dB more" not in why
    names = [m["name"] for m in document["comparison"]["models"]]
    assert names == ["fp32", *OBSERVERS, "auto", ptq_candidates.CORRECTED]
    # what is written is what was judged
    batch = {"image": np.load(work / "d.npz")["images"][:8]}
    shipped = Session(load_model(work / "out/model.qdq.onnx"), optimize=False).run(batch)
    table = load_table(work / "out/table.json")
    known, cached = table.provenance, load_table(work / "out/model.cache").provenance
    assert (cached.model_hash, cached.data_hash) == (known.model_hash, known.data_hash)
    if best != ptq_candidates.CORRECTED:
        again = quantlab.quantize("m.onnx", table).model
        np.testing.assert_array_equal(Session(again, optimize=False).run(batch)["logits"], shipped["logits"])
    assert f"--onnx={Path('out/model.qdq.onnx')}" in done.out


def test_bar_that_is_missed_exits_3_with_everything_written(cli: Callable, work: Path) -> None:
    (work / "worse.py").write_text(
        "calls = []\n\n\ndef first_is_best(outputs, labels):\n"
        "    calls.append(1)\n    return outputs['logits'][:, 0] * 0 + (1.0 if len(calls) % 9 == 1 else 0.5)\n"
    )  # FP32 is asked first of every batch, then eight others
    done = cli("ptq", "m.onnx", *DATA, "--metric", "worse.py:first_is_best", "-o", "out")
    assert done.code == 3, done.err
    assert "keeps 50.00% of FP32's first_is_best, the bar is 99%" in done.out
    assert {p.name for p in (work / "out").iterdir()} == SET
    assert (
        cli("ptq", "m.onnx", *DATA, "--metric", "worse.py:first_is_best", "--fail-under", "50", "-o", "out").code == 0
    )


@pytest.mark.usefixtures("no_plots")
def test_next_run_takes_up_what_is_there_and_other_data_do_not(
    cli: Callable, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cli("ptq", "m.onnx", *DATA, "-o", "out")
    model = (work / "out/model.qdq.onnx").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("calibrated again")

    with monkeypatch.context() as patched:
        for name in ("calibrate_auto", "correct_bias"):
            patched.setattr(ptq_candidates, name, fail)
        again = cli("ptq", "--config", "out/ptq.toml")
        facts = json.loads(cli("ptq", "--config", "out/ptq.toml", "--json").out)
    assert (again.code, again.out) == (first.code, first.out)
    assert facts["passed"] == (first.code == 0)
    assert f"why: {facts['reason']}" in first.out
    assert [row["model"] for row in facts["models"]] == ["fp32", *OBSERVERS, "auto", ptq_candidates.CORRECTED]
    assert (work / "out/model.qdq.onnx").read_bytes() == model
    x = coloured(48, seed=5)
    np.savez(work / "d.npz", images=x, labels=run(conv_net(), {"image": x})[0].argmax(1))
    assert cli("ptq", "m.onnx", *DATA, "-o", "out").code in (0, 3)
    fresh = cli("ptq", "m.onnx", *DATA, "-o", "fresh")
    assert fresh.code in (0, 3)
    for name in ("model.qdq.onnx", "table.json"):
        assert (work / "out" / name).read_bytes() == (work / "fresh" / name).read_bytes()


def test_calibration_data_of_its_own_lose_what_is_judged_by(cli: Callable, work: Path) -> None:
    np.save(work / "c.npy", np.concatenate([coloured(18, seed=9), np.load(work / "d.npz")["images"][:4]]))
    onnx.save(conv_net("8"), work / "m.onnx")
    done = cli("ptq", "m.onnx", *DATA, "--calibration", "c.npy", "-o", "out")
    assert "warning: 4 of 22 calibration samples are also in --data: they were left out" in done.err
    assert "18 samples to calibrate with, 48 others to judge by" in done.err
    assert "warning: the last 2 samples do not fill a batch of 8 and were left out" in done.err


def test_what_is_said_of_candidates_is_said_again_by_a_run_that_goes_on(tmp_path: Path) -> None:
    said = []
    for _ in range(2):
        samples = ArrayBatches({"image": coloured(18)}, batch_size=8)
        found = ptq_candidates.Workshop(conv_net("8"), samples, tmp_path / "work").candidates()
        said.append({name: found.warnings_of(name) for name in found.quantized})
    assert said[0] == said[1]
    for warnings in said[0].values():
        assert warnings.count("the last 2 samples do not fill a batch of 8 and were left out") == 1
    assert any("biases" in text for text in said[0][ptq_candidates.CORRECTED])
    (tmp_path / "work/auto-corrected.json").write_text("[1]")
    with pytest.raises(DataError, match=r"auto-corrected\.json is no list of texts: .* Hint: delete it"):
        ptq_candidates.Workshop(conv_net("8"), samples, tmp_path / "work").candidates()


@pytest.mark.usefixtures("no_plots", "quick")
def test_engines_are_built_and_compared_where_there_is_a_gpu(
    cli: Callable, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_runtime, "runtime", HostRuntime)
    assert cli("ptq", "m.onnx", *DATA, "-o", "out").code in (0, 3)
    document = json.loads((work / "out/engines/report.json").read_text())
    models = {m["name"]: m for m in document["comparison"]["models"]}
    assert set(models) == {"fp32", "ort:qdq", "trt:fp16", "trt:qdq"}
    assert models["trt:qdq"]["sqnr_db"] == models["ort:qdq"]["sqnr_db"]
    assert {"model.engine", "fp16.engine"} <= {p.name for p in (work / "out").iterdir()}


@pytest.mark.usefixtures("no_plots", "quick")
def test_engine_that_does_not_build_is_told_and_old_ones_are_gone(
    cli: Callable, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_runtime, "runtime", HostRuntime)
    assert cli("ptq", "m.onnx", *DATA, "-o", "out").code in (0, 3)

    def fail(*_: object) -> None:
        raise BuildError("out of memory", hint="another GPU")

    monkeypatch.setattr(report_ptq, "build_engine", fail)
    done = cli("ptq", "m.onnx", *DATA, "-o", "out")
    assert done.code in (0, 3)
    assert "no engines were built: out of memory" in done.err
    left = {str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file() and p.parent.name != "work"}
    assert left == SET - {"work"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--fail-under", "99"), "needs one"),
        (("--fail-under", "99", "--labels", "d.npz:labels", "--metric", "bad.py:raises"), "KeyError"),
        (("--labels", "d.npz:labels", "--metric", "bad.py:raises"), "the metric failed on 'fp32': KeyError: 'no'"),
    ],
)
def test_what_cannot_be_judged_is_refused(cli: Callable, work: Path, more: tuple[str, ...], said: str) -> None:
    (work / "bad.py").write_text("def raises(outputs, labels):\n    return outputs['no']\n")
    done = cli("ptq", "m.onnx", "--data", "d.npz:images", "--batch-size", "8", *more, "-o", "out")
    assert (done.code, said in done.err) == (2, True), done.err
    assert {p.name for p in (work / "out").glob("*")} <= {"work"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("model = ", "is no TOML"),
        ('nothing = "x"', "has 'nothing', which is no option of ptq"),
        ("skip-bad = 1", "has skip-bad = 1"),
        ("batch-size = true", "has batch-size = True"),
        ('data = ["a"]', "has data = "),
        ('batch-size = "many"', "'many' is not a valid integer"),
        ('config = "other.toml"', "has 'config', which is no option"),
    ],
)
def test_configuration_that_makes_no_sense_is_one_error(cli: Callable, work: Path, content: str, said: str) -> None:
    (work / "c.toml").write_text(content)
    done = cli("ptq", "m.onnx", *DATA[:4], "-o", "out", "--config", "c.toml")
    assert (done.code, said in done.err) == (2, True), done.err
    assert not (work / "out").exists()


def test_script_of_batches_is_refused(cli: Callable, work: Path) -> None:
    (work / "s.py").write_text("def load():\n    yield {}\n")
    done = cli("ptq", "m.onnx", "--data", "s.py:load", "-o", "out")
    assert (done.code, "makes its batches itself" in done.err) == (2, True)


@given(st.dictionaries(st.sampled_from(["data", "labels", "preset", "metric"]), st.text(min_size=1)))
def test_written_configuration_is_read_back(values: dict[str, str]) -> None:
    ctx = click.Context(command)
    ctx.params = {"model": Path("a b.onnx"), "skip_bad": True, "batch_size": 7, "limit": None, **values}
    text = config_file.written_config(ctx, Path("a/out"))
    assert text.startswith("# ") and "relative paths start in '../..', seen from this file" in text.splitlines()[0]
    assert tomllib.loads(text) == {"model": "a b.onnx", "skip-bad": True, "batch-size": 7, **values}


def test_zero_is_part_of_a_written_configuration() -> None:
    ctx = click.Context(command)
    ctx.params = {"builder_optimization_level": 0, "skip_bad": False, "limit": None}
    ctx.meta[config_file.GIVEN] = {"device": 0, "plugins": ()}
    wanted = {"builder-optimization-level": 0, "device": 0}
    assert tomllib.loads(config_file.written_config(ctx, Path("out"))) == wanted


def test_configuration_of_a_file_whose_name_is_no_text_is_none() -> None:
    ctx = click.Context(command)
    ctx.params = {"model": Path("a\udcff.onnx")}
    assert config_file.written_config(ctx, Path("out")) == ""


@pytest.mark.usefixtures("no_plots")
def test_preprocess_is_found_by_what_fp32_gets_right(cli: Callable, work: Path) -> None:
    unpack_sample(work / "s")
    done = cli("ptq", "s/model.onnx", "--data", "s/test", "--limit", "50", "-o", "out")
    assert done.code in (0, 3), done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("preprocess: ")]
    assert line.startswith("preprocess: 'fashion-mnist', with which FP32 is right on ")
    config = tomllib.loads((work / "out/ptq.toml").read_text())
    assert config["preset"] == "fashion-mnist"
    assert json.loads((work / "out/report.json").read_text())["provenance"]["preprocess"]["color"] == "gray"


def test_preprocess_of_an_earlier_run_stays_only_where_it_is_that_of_this_one(cli: Callable, work: Path) -> None:
    (work / "images").mkdir()
    for k, image in enumerate(np.load("d.npz")["images"][:16]):
        Image.fromarray(np.uint8(np.clip(127 + 40 * image.transpose(1, 2, 0), 0, 255))).save(f"images/{k:02}.png")
    text = json.dumps(Preprocess("exact", (8, 8)).to_dict())
    (work / "out").mkdir()
    for name in ("out/preprocess.json", "other.json"):
        (work / name).write_text(text)
    for options in (
        ("m.onnx", "--data", "images", "--preprocess", "out/preprocess.json"),
        ("--config", "out/ptq.toml"),
    ):
        assert cli("ptq", *options, "-o", "out").code in (0, 3)
        assert (work / "out/preprocess.json").read_text() == text
    assert cli("ptq", "m.onnx", "--data", "images", "--preprocess", "other.json", "-o", "out").code in (0, 3)
    assert not (work / "out/preprocess.json").exists()


def test_images_without_preprocess_and_labels_are_refused(cli: Callable, work: Path) -> None:
    unpack_sample(work / "s")
    (work / "flat").mkdir()
    for k, image in enumerate(sorted((work / "s/test").rglob("*.png"))[:12]):
        image.rename(work / "flat" / f"{k}.png")
    done = cli("ptq", "s/model.onnx", "--data", "flat", "-o", "out")
    assert (done.code, "without labels it cannot be found out" in done.err) == (2, True)
    assert not (work / "out").exists()
