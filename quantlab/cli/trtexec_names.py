"""trtexec's spellings of the options of engines: `--minShapes=x:1x3x8x8` is `--min-shapes x:1x3x8x8`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click

from quantlab.cli.common import NAMES
from quantlab.cli.file_check import FileCommand, check_files
from quantlab.cli.file_types import FILE
from quantlab.engines.plugins import choose_device, load_plugins
from quantlab.errors import ConfigError

SPELLINGS: Mapping[str, str] = MappingProxyType(
    {
        "--minShapes": "--min-shapes",
        "--optShapes": "--opt-shapes",
        "--maxShapes": "--max-shapes",
        "--noTF32": "--no-tf32",
        "--memPoolSize": "--mem-pool-size",
        "--timingCacheFile": "--timing-cache",
        "--layerPrecisions": "--layer-precisions",
        "--layerOutputTypes": "--layer-output-types",
        "--precisionConstraints": "--precision-constraints",
        "--useDLACore": "--use-dla-core",
        "--allowGPUFallback": "--allow-gpu-fallback",
        "--profilingVerbosity": "--profiling-verbosity",
        "--builderOptimizationLevel": "--builder-optimization-level",
        "--versionCompatible": "--version-compatible",
        "--stronglyTyped": "--strongly-typed",
        "--tacticSources": "--tactic-sources",
        "--calib": "--cache",
        "--saveEngine": "--output",
        "--warmUp": "--warm-up",
        "--infStreams": "--streams",
        "--useCudaGraph": "--use-cuda-graph",
        "--noDataTransfers": "--no-data-transfers",
        "--dynamicPlugins": "--plugins",
        "--staticPlugins": "--plugins",
        "--exportTimes": "--output",
    }
)
"""trtexec's -> ours; those that are spelled alike are not listed."""
_OTHERWISE = {
    "--onnx": "the model is the first argument",
    "--loadEngine": "the engine is an argument",
    "--workspace": "--memPoolSize=workspace:MIB",
    "--loadInputs": "--data inputs.npz",
    "--dumpProfile": "quantlab audit ENGINE MODEL shows the time of every layer",
    "--separateProfileRun": "quantlab audit ENGINE MODEL shows the time of every layer",
    "--dumpLayerInfo": "quantlab audit ENGINE MODEL shows every layer",
    "--exportLayerInfo": "quantlab audit ENGINE MODEL -o FILE",
    "--exportProfile": "quantlab audit ENGINE MODEL -o FILE",
    "--exportOutput": "quantlab run ENGINE --data inputs.npz -o FILE.npz",
    "--fp8": "quantlab is for INT8",
    "--bf16": "quantlab is for INT8, FP16 and FP32",
    "--int4": "quantlab is for INT8",
    "--calibProfile": "the last of the profiles is the calibration profile",
}
"""Of trtexec, and what does the same here."""


class EngineCommand(FileCommand):
    """A command of engines: it takes trtexec's spellings beside its own, a device, and libraries of plugins."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        device = click.Option(["--device"], type=int, help="The GPU, as CUDA counts them.  [default: 0]")
        plugins = click.Option(["--plugins"], type=FILE, multiple=True, help="A library of plugins; may be repeated.")
        self.params = [*self.params[: -len(NAMES)], device, plugins, *self.params[-len(NAMES) :]]

    def invoke(self, ctx: click.Context) -> Any:
        """Choose the device and load the plugins, then run."""
        device, plugins = ctx.params["device"], ctx.params["plugins"]
        check_files(self, ctx.params)
        if device is not None:
            choose_device(device)
        load_plugins(plugins)
        ctx.params = {name: value for name, value in ctx.params.items() if name not in ("device", "plugins")}
        return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the spellings of the command in the place of trtexec's.

        Args:
            ctx: As click's.
            args: As they were typed.

        Returns:
            As click's.
        """
        return super().parse_args(ctx, [part for arg in args for part in _ours(arg, self)])


def _ours(arg: str, command: click.Command) -> list[str]:
    name, equals, value = arg.partition("=")
    known = {option for parameter in command.params for option in parameter.opts}
    if name in _OTHERWISE and name not in known:
        raise ConfigError(f"{name} is trtexec's", hint=_OTHERWISE[name])
    if name == "--sparsity" and equals:
        if value not in ("disable", "enable"):
            raise ConfigError(f"--sparsity={value}: weights are not changed here", hint="--sparsity=enable")
        return ["--sparsity"] if value == "enable" else []
    ours = SPELLINGS.get(name)
    if ours is None or ours not in known:
        return [arg]
    return [ours, value] if equals else [ours]


def mib(text: str) -> float:
    """A size as trtexec has it: in MiB, or with B, K, M or G behind it.

    Raises:
        ValueError: It is no number, infinite or less than 0.
    """
    units = {"B": 2.0**-20, "K": 2.0**-10, "M": 1.0, "G": 2.0**10}
    unit = units.get(text[-1:].upper())
    size = float(text) if unit is None else float(text[:-1]) * unit
    if not 0 <= size < math.inf:
        raise ValueError(f"{text} is no size")
    return size


def pool(name: str) -> str:
    """trtexec's name of a memory pool as quantlab has it: dlaLocalDRAM is dla_local_dram, dlaSRAM dla_managed_sram."""
    names = {"dlasram": "dla_managed_sram", "dlalocaldram": "dla_local_dram", "dlaglobaldram": "dla_global_dram"}
    return names.get(name.casefold(), name)
