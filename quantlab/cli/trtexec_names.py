"""trtexec's spellings of the options of engines: `--minShapes=x:1x3x8x8` is `--min-shapes x:1x3x8x8`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click

from quantlab.cli.common import NAMES
from quantlab.cli.config_file import GIVEN
from quantlab.cli.file_check import FileCommand, check_files, known_values
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
        "--vc": "--version-compatible",
        "--stronglyTyped": "--strongly-typed",
        "--tacticSources": "--tactic-sources",
        "--calib": "--cache",
        "--warmUp": "--warm-up",
        "--infStreams": "--streams",
        "--useCudaGraph": "--use-cuda-graph",
        "--noDataTransfers": "--no-data-transfers",
        "--dumpProfile": "--dump-profile",
        "--dynamicPlugins": "--plugins",
        "--staticPlugins": "--plugins",
        "--setPluginsToSerialize": "--plugins",
    }
)
"""trtexec's -> ours, where a command has it; those that are spelled alike are not listed."""
OF_COMMANDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "build": {"--saveEngine": "--output"},
        "bench": {"--exportTimes": "--output"},
        "trtexec": {
            "--saveEngine": "--save-engine",
            "--useCudaGraph": "--cuda-graph",
            "--maxBatch": "--batch",
            "--exportProfile": "--export-profile",
        },
    }
)
"""Command -> trtexec's spellings that mean something of that command only: an engine is no list of times."""
_ANYWAY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "build": ("--skipInference", "--buildOnly", "--explicitBatch"),
        "bench": ("--separateProfileRun",),
    }
)
"""Command -> what it does without being asked."""
_INSTEAD: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "--batch": ("--shapes input:32x3x224x224", "--batch-size 32"),
        "--maxBatch": ("--max-shapes input:32x3x224x224", "--batch-size 32"),
        "--workspace": ("--mem-pool-size workspace:MIB",),
        "--loadInputs": ("--data inputs.npz",),
        "--layerDeviceTypes": ("--use-dla-core N --allow-gpu-fallback decides for all layers",),
        "--useProfile": ("--shapes chooses the profile that holds them",),
    }
)
"""Of trtexec, and what does the same in a command that has the option: the first that it has."""
_LAYERS = "quantlab audit ENGINE MODEL -o FILE"
_RUN = "quantlab run ENGINE --data inputs.npz -o FILE.npz"
_TIMES = "quantlab bench ENGINE -o FILE writes percentiles, and the median of every round"
_OTHERWISE: Mapping[str, str] = MappingProxyType(
    {
        "--onnx": "the model is the first argument",
        "--model": "the model is the first argument, as ONNX",
        "--uff": "export the model as ONNX",
        "--deploy": "export the model as ONNX",
        "--saveEngine": "quantlab build MODEL -o FILE.engine",
        "--loadEngine": "the engine is an argument of quantlab run, bench and audit",
        "--dumpProfile": "quantlab bench ENGINE --dump-profile, or quantlab audit ENGINE MODEL",
        "--separateProfileRun": "quantlab bench ENGINE --dump-profile",
        "--exportProfile": "quantlab bench ENGINE --dump-profile -o FILE",
        "--dumpLayerInfo": _LAYERS,
        "--exportLayerInfo": _LAYERS,
        "--dumpOutput": _RUN,
        "--dumpRawBindingsToFile": _RUN,
        "--exportOutput": _RUN,
        "--exportTimes": _TIMES,
        "--loadTimes": _TIMES,
        "--percentile": _TIMES,
        "--avgRuns": _TIMES,
        "--skipInference": "quantlab build does not run the engine",
        "--buildOnly": "quantlab build does not run the engine",
        "--fp8": "quantlab is for INT8",
        "--int4": "quantlab is for INT8",
        "--bf16": "quantlab is for INT8, FP16 and FP32",
        "--calibProfile": "the last of the profiles is the calibration profile",
        "--minShapesCalib": "the last --opt-shapes are the calibration shapes",
        "--optShapesCalib": "the last --opt-shapes are the calibration shapes",
        "--maxShapesCalib": "the last --opt-shapes are the calibration shapes",
        "--inputIOFormats": "inputs and outputs are linear; their types are the model's (quantlab fp16 --io float16)",
        "--outputIOFormats": "inputs and outputs are linear; their types are the model's (quantlab fp16 --io float16)",
        "--safe": "build with trtexec: quantlab trtexec MODEL",
        "--noBuilderCache": "without --timing-cache nothing is kept",
        "--getPlanVersionOnly": "quantlab inspect ENGINE",
        "--timeDeserialize": "quantlab bench tells the time of the build, not of loading",
        "--useRuntime": "quantlab takes the whole TensorRT",
        "--leanDLLPath": "quantlab takes the whole TensorRT",
    }
)
"""Of trtexec, and what does the same here, or why nothing does."""
_ABSENT = (
    "--allocationStrategy", "--allowWeightStreaming", "--asyncFileReader", "--avgTiming", "--consistency",
    "--cpuOnly", "--directIO", "--disableAndDistributive", "--disableCompilationCache",
    "--distributiveIndependence", "--dumpOptimizationProfile", "--dumpRefit", "--errorOnTimingCacheMiss",
    "--excludeLeanRuntime", "--exposeDMA", "--hardwareCompatibilityLevel", "--heuristic", "--idleTime",
    "--ignoreParsedPluginLibs", "--l2LimitForTiling", "--markDebug", "--markUnfusedTensorsAsDebugTensors",
    "--maxAuxStreams", "--maxNbTactics", "--maxTactics", "--minTiming", "--nativeInstanceNorm",
    "--persistentCacheRatio", "--pluginInstanceNorm", "--preview", "--profile", "--refitFromOnnx",
    "--remoteAutoTuningConfig", "--restricted", "--runtimePlatform", "--saveAllDebugTensors",
    "--saveDebugTensors", "--sleepTime", "--stripAllWeights", "--stripWeights", "--tempdir",
    "--tempfileControls", "--tilingOptimizationLevel", "--timeRefit", "--useManagedMemory", "--useSpinWait",
    "--weightStreamingBudget", "--weightless",
)  # fmt: skip
"""Of trtexec, and nothing here."""


class TrtexecCommand(FileCommand):
    """A command that takes trtexec's spellings beside its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the spellings of the command in the place of trtexec's.

        Args:
            ctx: As click's.
            args: As they were typed.

        Returns:
            As click's.
        """
        return super().parse_args(ctx, [part for arg in args for part in _ours(arg, self)])


class EngineCommand(TrtexecCommand):
    """A command that builds or runs engines: it takes a device and libraries of plugins too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        device = click.Option(["--device"], type=int, help="The GPU, as CUDA counts them.  [default: 0]")
        plugins = click.Option(["--plugins"], type=FILE, multiple=True, help="A library of plugins; may be repeated.")
        self.params = [*self.params[: -len(NAMES)], device, plugins, *self.params[-len(NAMES) :]]

    def invoke(self, ctx: click.Context) -> Any:
        """Choose the device and load the plugins, then run."""
        device, plugins = ctx.params["device"], ctx.params["plugins"]
        check_files(self, known_values(ctx))
        if device is not None:
            choose_device(device)
        load_plugins(plugins)
        ctx.meta[GIVEN] = {"device": device, "plugins": plugins}  # for a configuration that repeats the run
        ctx.params = {name: value for name, value in ctx.params.items() if name not in ("device", "plugins")}
        return super().invoke(ctx)


def _ours(arg: str, command: click.Command) -> list[str]:
    name, equals, value = arg.partition("=")
    known = {option for parameter in command.params for option in parameter.opts}
    if name == "--sparsity" and equals and name in known:
        if value not in ("disable", "enable"):
            raise ConfigError(f"--sparsity={value}: weights are not changed here", hint="--sparsity=enable")
        return [name] if value == "enable" else []
    if name in known or not name.startswith("--"):
        return [arg]
    of_command = command.name or ""
    ours = OF_COMMANDS.get(of_command, {}).get(name) or SPELLINGS.get(name)
    if ours in known:
        assert ours is not None
        return [ours, value] if equals else [ours]
    if name in _ANYWAY.get(of_command, ()):
        return []
    if ways := [way for way in _INSTEAD.get(name, ()) if way.split()[0] in known]:
        raise ConfigError(f"{name} is trtexec's", hint=ways[0])
    if name in _OTHERWISE:
        raise ConfigError(f"{name} is trtexec's", hint=_OTHERWISE[name])
    if name in _ABSENT:
        hint = "quantlab trtexec MODEL prints a command line that it can be added to"
        raise ConfigError(f"{name} is trtexec's, and nothing here does that", hint=hint)
    return [arg]


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
