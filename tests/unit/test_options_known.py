"""Options that people know from other tools, and those that every command has."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from click.shell_completion import shell_complete
from PIL import Image

import quantlab
from models import conv_net, image_batches
from quantlab.calibration import load_table
from quantlab.calibration.cluster import run_parallel
from quantlab.cli import COMMANDS
from quantlab.cli import cli as group
from quantlab.cli.common import NAMES
from quantlab.comparison.named_backends import parse_backend
from quantlab.data import PRESETS
from quantlab.data.preprocess import Preprocess
from quantlab.data.source import DataOptions, open_data
from quantlab.errors import ConfigError, DataError
from quantlab.nearest import nearest
from quantlab.threads import chosen_threads, set_threads, thread_count

pytestmark = pytest.mark.usefixtures("no_plots")
Cli = Callable[..., object]
OBSERVER = """
import numpy as np

class Half:
    def __init__(self):
        self.largest = 0.0
    def observe(self, x):
        self.largest = max(self.largest, float(np.abs(x).max()))
    def compute_amax(self):
        return self.largest / 2

class Broken(Half):
    def observe(self, x):
        raise KeyError("no")

class Late(Half):
    def compute_amax(self):
        raise KeyError("no")

number = 3
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(conv_net(), "m.onnx")
    np.save("x.npy", image_batches(1, size=8)[0]["image"])
    Path("own.py").write_text(OBSERVER)
    return tmp_path


# --- words


@pytest.mark.parametrize(
    ("args", "question"),
    [
        (("calibrat",), "did you mean 'calibrate'?"),
        (("Compare",), "did you mean 'compare'?"),
        (("calibrate", "m.onnx", "--data", "x.npy", "--algorithm", "entrpy", "-o", "t.json"), "mean 'entropy'?"),
        (("calibrate", "m.onnx", "--data", "x.npy", "--preset", "imagnet", "-o", "t.json"), "mean 'imagenet'?"),
        (("compare", "m.onnx", "--data", "x.npy", "--calibration", "x.npy", "--backends", "ort:qdg:mse", "-o", "r"),
         "mean 'ort:qdq:mse'?"),
        (("compare", "m.onnx", "--data", "x.npy", "--calibration", "x.npy", "--backends", "trt:qdq", "-o", "r"),
         "mean 'trt:qdq:entropy'?"),
        (("calibrate", "m.onnx", "--dat", "x.npy", "-o", "t.json"), "--data"),
        (("calibrate", "m.onnx", "--data", "x.npy", "--tensors", "al", "-o", "t.json"), "mean 'all'?"),
        (("build", "m.onnx", "--profiling-verbosity", "detaild", "-o", "e"), "mean 'detailed'?"),
        (("build", "m.onnx", "--tactic-sources", "cubla", "-o", "e"), "mean 'cublas'?"),
        (("compare", "m.onnx", "m.onnx", "--data", "x.npy", "--fail-under", "mlpref-99", "-o", "r"),
         "mean 'mlperf-99'?"),
        (("calibrate", "m.onnx", "--data", "x.npy", "--algorithm", "own.py:Hlaf", "-o", "t.json"), "mean 'Half'?"),
        (("sensitivity", "m.onnx", "--table", "t.json", "--data", "x.npy", "--metric", "top1", "-o", "s.json"),
         "mean 'top-1'?"),
        (("quantize", "m.onnx", "--table", "t.json", "--exclude", "op:Con", "-o", "q.onnx"), "mean 'op:Conv'?"),
    ],
)  # fmt: skip
def test_word_that_nobody_knows_is_answered_with_the_nearest(
    cli: Cli, work: Path, args: tuple[str, ...], question: str
) -> None:
    if "t.json" in args[:4]:
        quantlab.calibrate("m.onnx", image_batches(1, size=8), "minmax").save("t.json")
    result = cli(*args)
    assert result.code == 2
    assert question in result.err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("quantlab cal", ["plain", "calibrate"]),
        ("quantlab compare --win", ["plain", "--winner"]),
        ("quantlab compare m.o", ["file", "m.o"]),
        ("quantlab calibrate m.onnx --preset cifar100", ["plain", "cifar100"]),
        ("quantlab calibrate m.onnx --algorithm ent", ["plain", "entropy"]),
    ],
)
def test_shell_is_offered_commands_options_files_and_values(
    words: str, offered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert shell_complete(group, {}, "quantlab", "_QUANTLAB_COMPLETE", "bash_complete") == 0
    assert capsys.readouterr().out.strip().split(",") == offered


def test_nothing_is_near_to_anything() -> None:
    assert nearest("zzzz", ("entropy", "mse")) == ""


# --- what every command has


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_common_options_once(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    names = [parameter.name for parameter in command.params]
    assert all(names.count(option) == 1 for option in NAMES)
    spelled = [option for parameter in command.params for option in parameter.opts]
    assert len(spelled) == len(set(spelled))


def test_quiet_prints_no_progress_and_keeps_warnings(cli: Cli, work: Path) -> None:
    np.save("zero.npy", np.zeros((4, 3, 8, 8), np.float32))
    calibrate = ("calibrate", "m.onnx", "--data", "zero.npy", "--algorithm", "minmax", "-o", "t.json")
    loud, quiet = cli(*calibrate), cli(*calibrate, "-q")
    assert "calibrating: 4" in loud.err and "calibrating" not in quiet.err
    assert [line for line in loud.err.splitlines() if line.startswith("warning")] == quiet.err.splitlines() != []
    assert "calibrating: 4" in cli(*calibrate).err  # it is over with the command


def test_log_file_has_what_was_printed_and_logged(cli: Cli, work: Path) -> None:
    result = cli("calibrate", "m.onnx", "--data", "x.npy", "-o", "t.json", "--log-file", "run.log", "-v")
    assert result.code == 0
    text = Path("run.log").read_text()
    assert "quantlab.files.writing: writing t.json" in text and "exit code 0" in text
    assert "quantlab.files.writing: writing t.json" in result.err
    assert "calibrating: 8" in text and "t.json: 4 tensors" in text
    assert logging.getLogger("quantlab").handlers == []
    failed = cli("calibrate", "m.onnx", "--data", "x.npy", "-o", "t.txt", "--log-file", "run.log")
    assert (failed.code, "error: output t.txt has suffix" in Path("run.log").read_text()) == (2, True)
    assert cli("check-data", "m.onnx", "--data", "x.npy", "-q", "--log-file", "run.log").code == 0
    compare = ("compare", "m.onnx", "m.onnx", "--data", "x.npy", "-o", "r", "--log-file", "run.log", "-q")
    assert cli(*compare).code == 0
    assert "SQNR dB" in Path("run.log").read_text()  # of the table
    assert cli("calibrate", "m.onnx", "--data", "x.npy", "-o", "t.json", "--log-file", "m.onnx").code == 2
    assert onnx.load("m.onnx").graph.node


def test_verbose_says_what_is_done(cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from quantlab.ort import activations

    given = activations.ActivationReader.__init__

    def told(self: object, *args: object, **kwargs: object) -> None:
        logging.getLogger("quantlab.test").info("as asked for")
        given(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(activations.ActivationReader, "__init__", told)
    calibrate = ("calibrate", "m.onnx", "--data", "x.npy", "-o", "t.json")
    assert "quantlab.test: as asked for" in cli(*calibrate, "--verbose").err
    assert "as asked for" not in cli(*calibrate).err


def test_threads_are_known_to_other_processes_too() -> None:
    pytest.importorskip("joblib")
    set_threads(3)
    try:
        assert run_parallel(_threads_there, [1, 2], 2) == [3, 3]
    finally:
        set_threads(None)


def _threads_there(part: int) -> int | None:
    return chosen_threads()


def test_threads_are_those_that_were_asked_for(cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("quantlab.calibration.parts.thread_count", lambda: seen.append(chosen_threads()) or 1)
    calibrate = ("calibrate", "m.onnx", "--data", "x.npy", "-o", "t.json")
    assert cli(*calibrate, "--threads", "3").code == 0
    assert cli(*calibrate).code == 0
    assert seen == [3, None]
    assert cli(*calibrate, "--threads", "0").code == 2
    set_threads(2)
    assert thread_count() == 2
    set_threads(None)


# --- algorithms


def test_observer_in_a_file_is_an_algorithm_everywhere(cli: Cli, work: Path) -> None:
    calibrate = ("calibrate", "m.onnx", "--data", "x.npy", "-o", "t.json", "--algorithm")
    assert cli(*calibrate, "minmax").code == 0
    whole = load_table("t.json")
    assert cli(*calibrate, "own.py:Half").code == 0
    half = load_table("t.json")
    assert half.provenance.algorithm == "half"
    assert {t: np.float32(a / 2) for t, a in whole.amax.items()} == dict(half.amax)
    assert cli("check-data", "m.onnx", "--data", "x.npy", "--batch-size", "1", "--algorithm", "own.py:Half").code == 0
    backends = ("--calibration", "x.npy", "--backends", "ort:qdq:own.py:Half,ort:qdq:auto", "-o", "report")
    result = cli("compare", "m.onnx", "--data", "x.npy", *backends)
    assert result.code == 0, result.err
    models = json.loads(Path("report/report.json").read_text())["comparison"]["models"]
    assert [model["name"] for model in models][1:] == ["ort:qdq:own.py:Half", "ort:qdq:auto"]


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ("own.py:Broken", "batch 0, observer Broken raised KeyError: 'no'"),
        ("own.py:Late", "Late"),
        ("own.py:number", "algorithm is a int, expected a name or an object with observe and compute_amax"),
        ("own.py:None_", "own.py has no 'None_'"),
        ("own.py", "algorithm 'own.py' is not file.py:Name"),
        ("none.py:Half", "none.py does not exist"),
    ],
)
def test_observer_that_is_none_or_raises_is_one_error(cli: Cli, work: Path, algorithm: str, message: str) -> None:
    result = cli("calibrate", "m.onnx", "--data", "x.npy", "-o", "t.json", "--algorithm", algorithm)
    assert (result.code, Path("t.json").exists()) == (2, False)
    assert message in result.err


def test_auto_is_refused_with_a_reason_where_it_cannot_be(cli: Cli, work: Path) -> None:
    with pytest.raises(ConfigError, match="auto chooses for the tensors of a Q/DQ model Hint: trt:qdq:auto"):
        parse_backend("trt:int8:auto")
    assert parse_backend("trt:qdq:auto").algorithm == "auto"
    assert (
        "chooses among them by the outputs" in cli("check-data", "m.onnx", "--data", "x.npy", "--algorithm", "auto").err
    )


# --- data


def pictures(folder: Path) -> None:
    for number, name in enumerate(("a/1.png", "a/2.png", "b/1.png", "b/3.jpg.txt")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith(".txt"):
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / name)


def values(source: str, **options: object) -> tuple[list[int], list[int] | None]:
    stream = open_data(source, ["x"], Preprocess(), DataOptions(batch_size=10, **options))
    ((batch, labels),) = stream.labeled()
    return batch["x"][:, 0, 0, 0].astype(int).tolist(), None if labels is None else labels.tolist()


def test_patterns_name_images_and_their_class_folders(work: Path) -> None:
    pictures(work / "val")
    assert values("val/*/*") == ([0, 2, 1], [0, 1, 0])
    assert values("val/a/*.png") == ([0, 1], None)
    assert values("val/**/1.*") == ([0, 2], [0, 1])
    assert values(str(work / "val" / "?" / "[13].png")) == ([0, 2], [0, 1])
    with pytest.raises(DataError, match=r"no image matches val/\*\.bmp Hint: quote the pattern"):
        values("val/*.bmp")
    (work / "labels.csv").write_text("a/2.png,7\n1.png,5\n")
    assert values("val/a/*", labels="labels.csv") == ([0, 1], [5, 7])


def test_lists_name_images_in_their_order(work: Path) -> None:
    pictures(work / "val")
    (work / "val" / "list.txt").write_text(f"b/1.png\n\na/2.png\n{work / 'val' / 'a' / '1.png'}\n")
    assert values("val/list.txt") == ([2, 1, 0], None)
    (work / "labels.txt").write_text("b/1.png 3\na/2.png 4\na/1.png 5\n")
    assert values("val/list.txt", labels="labels.txt") == ([2, 1, 0], [3, 4, 5])
    for text, match in (("none.png\n", "line 1: 'none.png' is no file"), ("", "names no images"),
                        ("a/1.png 3\n", "give the labels of the lines as --labels"),
                        ("a/1.png\na/1.png\n", "twice, in lines 1 and 2")):  # fmt: skip
        (work / "val" / "list.txt").write_text(text)
        with pytest.raises(DataError, match=match):
            values("val/list.txt")


def test_output_among_the_images_of_a_pattern_is_refused(cli: Cli, work: Path) -> None:
    pictures(work / "val")
    result = cli("calibrate", "m.onnx", "--data", "val/*/*.png", "--preset", "none", "-o", "val/a/1.png")
    assert result.code == 2
    with Image.open("val/a/1.png") as image:
        assert image.size == (8, 8)


def test_presets_and_doctor_as_json(cli: Cli) -> None:
    assert set(json.loads(cli("presets", "--json").out)) == set(PRESETS)
    assert {"subject", "works"} <= json.loads(cli("doctor", "--json").out)[0].keys()
