"""No output of a command is one of its inputs: every parameter that names a file says so by its type."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
import pytest

from conftest import CliResult
from models import conv_net, floats
from quantlab.cli import COMMANDS, cli
from quantlab.cli.file_check import FileCommand, check_files
from quantlab.cli.file_type import FileType
from quantlab.cli.file_types import InputCode, InputFile, InputText, NamedInput, OutputFile, OutputFolder
from quantlab.errors import ConfigError

Cli = Callable[..., CliResult]
NO_FILES = {
    "engine_cache", "budget", "calibrator", "exclude", "fail_under", "include", "latency",
    "layer_output_types",
    "layer_precisions", "max_shapes", "mem_pool_size", "method", "min_shapes", "objective", "opt_shapes", "part",
    "precision_constraints", "preset", "profiling_verbosity", "served_at", "shapes", "tactic_sources", "tensorrt",
    "name", "versions",
}  # fmt: skip
"""Parameters that are text and name no file."""


def commands() -> list[click.Command]:
    context = click.Context(cli)
    found = [cli.get_command(context, name) for name in COMMANDS]
    return [command for command in found if command is not None]


@pytest.mark.parametrize("command", commands(), ids=lambda c: c.name)
def test_every_parameter_says_whether_it_names_a_file(command: click.Command) -> None:
    """A new option of text is refused here until it has a type of file, or is named above."""
    assert isinstance(command, FileCommand)
    for parameter in command.params:
        if isinstance(parameter.type, (click.Path, click.File)):
            pytest.fail(f"{parameter.name} must have one of the types of quantlab.cli.file_types")
        if isinstance(parameter.type, click.types.StringParamType):
            assert parameter.name in NO_FILES, f"{parameter.name}: does it name a file?"
        if parameter.name == "output":
            assert isinstance(parameter.type, (OutputFile, OutputFolder))


def test_every_type_of_file_reads_or_writes() -> None:
    kinds = {type(p.type) for command in commands() for p in command.params if isinstance(p.type, FileType)}
    for kind in kinds:
        one = kind(("a.json",)) if kind is OutputFolder else kind()
        assert [*one.reads("x.py:Name"), *one.writes("x.py:Name")], kind


def outputs_of(command: click.Command) -> list[click.Parameter]:
    return [p for p in command.params if isinstance(p.type, (OutputFile, OutputFolder))]


def inputs_of(command: click.Command) -> list[click.Parameter]:
    return [
        p for p in command.params if isinstance(p.type, (InputFile, InputText)) and not isinstance(p.type, InputCode)
    ]


@pytest.mark.skipif(os.name != "posix", reason="needs links")
@pytest.mark.parametrize("command", [c for c in commands() if outputs_of(c)], ids=lambda c: c.name)
def test_no_output_is_an_input_by_any_name(command: click.Command, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for output in outputs_of(command):
        assert isinstance(output.type, FileType)
        name = output.type.names[0] if isinstance(output.type, OutputFolder) and output.type.names else "kept.part"
        file = tmp_path / name
        file.write_bytes(b"precious")
        (tmp_path / "sub" / name).unlink(missing_ok=True)
        os.link(file, tmp_path / "sub" / name)
        for spelled in (file, tmp_path / "sub" / ".." / name, tmp_path / "sub" / name):
            for given in inputs_of(command):
                value = spelled.parent if isinstance(output.type, OutputFolder) else spelled
                one = str(file) if isinstance(given.type, (InputText, NamedInput)) else file
                values = {output.name or "": value, given.name or "": (one,) if given.nargs == -1 else one}
                with pytest.raises(ConfigError, match="is the input"):
                    check_files(command, values)
        assert file.read_bytes() == b"precious"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(conv_net(), "m.onnx", save_as_external_data=True, location="w.json", size_threshold=0)
    np.save("x.npy", floats(4, 3, 8, 8))
    np.savez("x.npz", x=floats(4, 3, 8, 8))
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "0.png").write_bytes(b"image")
    (tmp_path / "list.txt").write_text("images/a/0.png\n")
    (tmp_path / "own.py").write_text("A = 1\n")
    (tmp_path / "c.toml").write_text("")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ptq.toml").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("calibrate", "m.onnx", "--data", "x.npz:x", "--order-independent", "-o", "x.npz"), "is the input x.npz"),
        (("calibrate", "m.onnx", "--data", "x.npy", "-o", "w.json"), "output w.json is the input w.json"),
        (("calibrate", "m.onnx", "--data", "images", "-o", "images/a/t.cache"), "would be taken for an image"),
        (("sensitivity", "m.onnx", "--table", "t.json", "--data", "images", "-o", "s.json", "--plot",
          "images/a/0.png"), "is the input images/a/0.png"),
        (("quantize", "m.onnx", "--table", "t.json", "-o", "q.onnx", "--placement", "q.onnx.data"), "are one file"),
        (("quantize", "m.onnx", "--table", "t.json", "-o", "q.onnx", "--placement", "Q.onnx"), "are one file"),
        (("build", "m.onnx", "--cache", "e.json", "-o", "e"), "are one file"),
        (("calibrate", "m.onnx", "--data", "x.npy", "--algorithm", "own.py:A", "--log-file", "own.py", "-o", "t.json"),
         "is the input own.py"),
        (("compare", "m.onnx", "--data", "x.npy", "--calibration", "x.npy", "--backends", "ort:fp32, ort:qdq:own.py:A",
          "--log-file", "own.py", "-o", "r"), "is the input own.py"),
        (("calibrate", "m.onnx", "--data", "list.txt", "--log-file", "images/a/0.png", "-o", "t.json"),
         "is the input images/a/0.png"),
        (("ptq", "m.onnx", "--data", "x.npy", "--config", "c.toml", "--log-file", "c.toml", "-o", "out"),
         "is the input c.toml"),
        (("ptq", "m.onnx", "--data", "x.npy", "--classes", "out/ptq.toml", "-o", "out"), "is the input out/ptq.toml"),
        (("ptq", "m.onnx", "--data", "x.npy", "--log-file", "out/preprocess.json", "-o", "out"), "are one file"),
        (("ptq", "m.onnx", "--data", "x.npy", "--classes", "out/work/mse.json", "-o", "out"), "come and go"),
        (("ptq", "m.onnx", "--data", "x.npy", "--timing-cache", "out/engines/t", "-o", "out"), "come and go"),
    ],
)  # fmt: skip
def test_neighbours_and_images_are_inputs_too(cli: Cli, data: Path, words: tuple[str, ...], said: str) -> None:
    before = {p: p.read_bytes() for p in data.rglob("*") if p.is_file()}
    done = cli(*words)
    assert (done.code, said in done.err) == (2, True), done.err
    assert {p: p.read_bytes() for p in data.rglob("*") if p.is_file()} == before
