"""trtexec's spellings, devices and plugins: of every command that builds or runs engines."""

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
from quantlab.cli import COMMANDS, trtexec_names
from quantlab.cli import cli as group
from quantlab.cli.as_json import json_option
from quantlab.cli.common import finish_common
from quantlab.cli.config_file import config_option, written_config
from quantlab.cli.trtexec_names import OF_COMMANDS, SPELLINGS, EngineCommand, TrtexecCommand, mib
from quantlab.engines.options import BuildOptions, tactic_mask
from quantlab.engines.plugins import VISIBLE, choose_device, load_plugins
from quantlab.errors import ConfigError

Cli = Callable[..., CliResult]
ENGINES = ("audit", "bench", "build", "compare", "profile", "run", "tune")
"""Commands that build or run engines."""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(conv_net(), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", floats(4, 3, 8, 8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(name: str) -> click.Command:
    found = group.get_command(click.Context(group), name)
    assert found is not None
    return found


def options_of(name: str) -> set[str]:
    return {option for parameter in command(name).params for option in parameter.opts}


def test_commands_of_engines_take_a_device_and_plugins() -> None:
    for name in ENGINES:
        assert isinstance(command(name), EngineCommand), name
    for name in (name for name in COMMANDS if isinstance(command(name), EngineCommand)):
        assert {"--device", "--plugins"} <= options_of(name)


@pytest.mark.parametrize("name", ENGINES)
def test_device_and_plugins_are_taken_before_anything_else(
    cli: Cli, work: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "3")
    needed = {
        "compare": ["m.onnx", "m.onnx", "--data", "x.npy", "-o", "r"],
        "tune": ["m.onnx", "--table", "m.onnx", "--data", "x.npy", "-o", "r"],
        "profile": ["m.onnx", "--table", "m.onnx", "-o", "p.json"],
        "run": ["m.onnx", "--data", "x.npy", "-o", "y.npz"],
        "build": ["m.onnx", "-o", "m.engine"],
        "audit": ["m.onnx", "m.onnx"],
        "bench": ["m.onnx"],
    }[name]
    device = cli(name, *needed, "--device", "1")
    assert (device.code, "there is no device 1" in device.err) == (2, True), device.err
    plugins = cli(name, *needed, "--dynamicPlugins=m.onnx")
    assert (plugins.code, "plugin library m.onnx cannot be loaded" in plugins.err) == (2, True), plugins.err


def test_spellings_of_trtexec_lead_to_options_that_there_are() -> None:
    every = {option for name in COMMANDS if isinstance(command(name), TrtexecCommand) for option in options_of(name)}
    assert set(SPELLINGS.values()) <= every
    for name, spellings in OF_COMMANDS.items():
        assert set(spellings.values()) <= options_of(name)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("build", "m.onnx", "--onnx=m.onnx"), "first argument"),
        (("build", "m.onnx", "--dumpProfile"), "quantlab bench ENGINE --dump-profile"),
        (("build", "m.onnx", "--sparsity=force"), "--sparsity=enable"),
        (("build", "m.onnx", "--exportTimes=e.engine"), "quantlab bench ENGINE -o FILE"),
        (("bench", "m.onnx", "--saveEngine=e.engine"), "quantlab build MODEL"),
        (("run", "m.onnx", "--loadInputs=x:x.bin"), "--data inputs.npz"),
        (("build", "m.onnx", "--hardwareCompatibilityLevel=ampere+"), "quantlab trtexec MODEL"),
        (("trtexec", "m.onnx", "--fp8"), "quantlab is for INT8"),
        (("build", "m.onnx", "--workspace=4096"), "--mem-pool-size workspace:MIB"),
        (("bench", "m.onnx", "--batch=8"), "--shapes input:32x3x224x224"),
        (("compare", "m.onnx", "--batch"), "--batch-size 32"),
        (("profile", "m.onnx", "--batch"), "--batch-size 32"),
        (("audit", "m.onnx", "--batch=8"), "--shapes input:32x3x224x224"),
        (("build", "m.onnx", "--maxBatch=8"), "--max-shapes input:32x3x224x224"),
        (("audit", "m.onnx", "--workspace=4096"), "quantlab audit --help"),
    ],
)
def test_option_of_trtexec_that_is_something_else_here_gets_the_remedy(
    cli: Cli, work: Path, arguments: tuple[str, ...], remedy: str
) -> None:
    before = sorted(work.iterdir())
    result = cli(*arguments)
    option = arguments[2].split("=")[0]
    assert (result.code, option in result.err.splitlines()[0], remedy in result.err) == (2, True, True), result.err
    assert sorted(work.iterdir()) == before


def test_what_a_command_does_anyway_is_no_error() -> None:
    context = click.Context(command("build"))
    command("build").parse_args(context, ["m.onnx", "--skipInference", "--buildOnly", "--saveEngine=e", "--vc"])
    assert (str(context.params["output"]), context.params["version_compatible"]) == ("e", True)
    context = click.Context(command("trtexec"))
    command("trtexec").parse_args(context, ["m.onnx", "--saveEngine=e", "--useCudaGraph", "--timingCacheFile=t"])
    assert (str(context.params["save_engine"]), context.params["cuda_graph"]) == ("e", True)


# --- values


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("1.5G", 1536), ("64K", 0.0625), ("2M", 2), ("1048576B", 1)])
def test_sizes_of_memory_pools(text: str, size: float) -> None:
    assert mib(text) == size


@pytest.mark.parametrize("sources", [("cublas", "-cudnn"), ("+cublas", "cudnn"), ("+-cublas",), ("+",), ("",)])
def test_tactic_sources_are_named_with_signs_or_without(sources: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="tactic source"):
        BuildOptions(tactic_sources=sources)


@pytest.mark.parametrize(
    ("sources", "mask"), [(("cudnn",), 0b100), (("+cudnn", "-cublas"), 0b1100), (("-jit_convolutions",), 0b0001)]
)
def test_signed_tactic_sources_change_those_of_tensorrt(sources: tuple[str, ...], mask: int) -> None:
    known = {"CUBLAS": 0, "CUDNN": 2, "JIT_CONVOLUTIONS": 3}
    assert tactic_mask(sources, known, default=0b1001) == mask
    with pytest.raises(ConfigError, match="this TensorRT has no tactic source 'cublas_lt'"):
        tactic_mask(("cublas_lt",), known, default=0)


# --- devices and plugins


def test_device_is_one_of_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "4,7")
    choose_device(1)
    assert os.environ[VISIBLE] == "7"
    for index in (1, -1):
        with pytest.raises(ConfigError, match=f"there is no device {index}: "):
            choose_device(index)
    for hidden in ("", "-1", "-1,0"):  # of which CUDA sees none
        monkeypatch.setenv(VISIBLE, hidden)
        with pytest.raises(ConfigError, match="there is no device 0: CUDA_VISIBLE_DEVICES lets 0 be seen"):
            choose_device(0)
    monkeypatch.delenv(VISIBLE)
    choose_device(2)
    assert os.environ[VISIBLE] == "2"
    monkeypatch.delenv(VISIBLE)


def test_plugin_library_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.so").write_bytes(b"no library")
    with pytest.raises(ConfigError, match="plugin library .* cannot be loaded"):
        load_plugins([tmp_path / "p.so"])
    with pytest.raises(ConfigError, match="does not exist"):
        load_plugins([tmp_path / "q.so"])


def test_plugins_and_device_are_part_of_a_configuration_that_repeats_a_run(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr(trtexec_names, "load_plugins", lambda plugins: seen.append((*plugins,)))
    monkeypatch.setattr(trtexec_names, "choose_device", lambda index: seen.append((index,)))

    @click.command("again", cls=EngineCommand)
    @json_option
    @config_option
    @click.pass_context
    def again(ctx: click.Context, as_json: bool) -> None:
        (work / "again.toml").write_text(written_config(ctx, work))

    again(["--plugins", "a.so", "--plugins", "b.so", "--device", "1", "--json"], standalone_mode=False)
    again(["--config", "again.toml"], standalone_mode=False)
    assert seen == [(1,), (Path("a.so"), Path("b.so"))] * 2
    assert "json" not in (work / "again.toml").read_text()
    (work / "one.toml").write_text('plugins = "a.so"\n')
    again(["--config", "one.toml"], standalone_mode=False)
    assert seen[4:] == [(Path("a.so"),)]
    (work / "odd.toml").write_text('plugins = ["a.so", 3]\n')
    with pytest.raises(ConfigError, match=r"odd.toml has plugins = \['a.so', 3\].*a list of texts"):
        again(["--config", "odd.toml"], standalone_mode=False)
    finish_common(0)
