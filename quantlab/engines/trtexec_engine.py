"""The trtexec command line that runs and measures an engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantlab.engines.engine import Engine, EngineRecord
from quantlab.engines.profiles import Limits, choose_profile
from quantlab.engines.trtexec import TrtexecOptions, measure_options
from quantlab.errors import BuildError, ConfigError
from quantlab.nearest import nearest


def trtexec_run_command(engine: str | Path, options: TrtexecOptions | None = None) -> list[str]:
    """The command line for an engine with its record.

    Args:
        engine: The file.
        options: `batch`, `shapes`, `cuda_graph` and `export_profile`; what a build would take is refused.

    Returns:
        The arguments, the program first.

    Raises:
        BuildError: The engine or its record cannot be read.
        ConfigError: It was built by another TensorRT, or an option does not fit.
        DataError: No profile of the engine takes these shapes.
    """
    options, record = options or TrtexecOptions(), Engine.load(engine).record
    if options.strongly_typed or options.save_engine is not None or options.timing_cache is not None:
        raise ConfigError("an engine is built already", hint="leave out what is for a build")
    if not record.inputs:
        raise BuildError(
            f"the record of engine {engine} does not say what goes in: it is of an earlier quantlab",
            hint="build it again with quantlab build",
        )
    major = int(record.tensorrt.split(".")[0])
    if major > options.tensorrt or (major < options.tensorrt and not record.options.get("version_compatible")):
        raise ConfigError(
            f"the engine was built by TensorRT {record.tensorrt}, no trtexec of TensorRT {options.tensorrt} runs it",
            hint=f"take the trtexec of TensorRT {record.tensorrt}: --tensorrt {major}",
        )
    command = ["trtexec", f"--loadEngine={engine}", *_shapes(record, options)]
    return [*command, *measure_options(options)]


def _shapes(record: EngineRecord, options: TrtexecOptions) -> list[str]:
    """--shapes and the number of the profile that holds them; none where all shapes are fixed."""
    dynamic = {binding.name: binding.shape for binding in record.inputs if -1 in binding.shape}
    if unknown := [name for name in options.shapes if name not in dynamic]:
        raise ConfigError(
            f"shapes name '{unknown[0]}', which is no dynamic input of the engine",
            hint=f"{nearest(unknown[0], list(dynamic))}dynamic inputs: {', '.join(dynamic) or 'none'}",
        )
    if not dynamic:
        if options.batch is not None:
            raise ConfigError("the shapes of the engine are fixed", hint="leave out --batch")
        return []
    profiles: list[Mapping[str, Any]] = list(record.options["profiles"])
    limits = [{name: _limits(profile, name) for name in dynamic} for profile in profiles]
    shapes = {name: limits[0][name][1] for name in dynamic} | dict(options.shapes)
    if options.batch is not None:
        shapes |= {name: (options.batch, *shapes[name][1:]) for name, shape in dynamic.items() if shape[0] == -1}
    number = choose_profile(limits, shapes)
    text = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
    return [f"--shapes={text}", *([f"--useProfile={number}"] if number else [])]


def _limits(profile: Mapping[str, Any], name: str) -> Limits:
    low, best, high = (tuple(profile[kind][name]) for kind in ("min", "opt", "max"))
    return low, best, high
