"""The trtexec command line that builds an INT8 engine from what quantlab wrote, for TensorRT 8.6, 10 and 11."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from quantlab.calibration import TrtCache, table_from_cache
from quantlab.data import BatchSize
from quantlab.errors import ConfigError, DataError
from quantlab.nearest import nearest
from quantlab.onnx_model import TensorSpec, has_qdq, input_specs, load_model, require_float

TENSORRT = (8, 10, 11)
"""The major versions whose options are known."""


@dataclass(frozen=True, slots=True)
class TrtexecOptions:
    """What the command line shall say.

    Attributes:
        tensorrt: The major version.
        batch: The largest and best served batch of a dynamic model, whose smallest is 1.
        shapes: Input -> exact shape, for dynamic dimensions other than the batch.
        fp16: What is not INT8 may run in FP16; a strongly typed network (the only kind in TensorRT 11) takes that from
            the model instead.
    """

    tensorrt: int = 10
    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fp16: bool = True
    strongly_typed: bool = False
    save_engine: Path | None = None
    timing_cache: Path | None = None
    cuda_graph: bool = False
    export_profile: Path | None = None

    def __post_init__(self) -> None:
        if self.tensorrt not in TENSORRT:
            raise ConfigError(f"TensorRT {self.tensorrt} is not known", hint="use 8 (for 8.6), 10 or 11")
        if self.strongly_typed and self.tensorrt < 10:
            raise ConfigError("TensorRT 8 has no strongly typed networks", hint="leave out --strongly-typed")
        if self.batch is not None and self.batch < 1:
            raise ConfigError(f"batch {self.batch}, expected at least 1", hint="--batch 32")


def trtexec_command(
    model: str | Path, cache: str | Path | None = None, options: TrtexecOptions | None = None
) -> list[str]:
    """The command line for a Q/DQ model, or for an FP32 model with its calibration cache.

    trtexec makes up scales, without a word, where it finds neither Q/DQ nor a cache: that, and a cache that does not
    fit the model or that this TensorRT refuses, is an error here.

    Args:
        model: The file.
        cache: The calibration cache of an FP32 model.
        options: What else it shall say.

    Returns:
        The arguments, the program first.

    Raises:
        ConfigError: There are no scales, or the options do not fit the model.
        DataError: The cache does not fit the model or this TensorRT.
        GraphError: A cache was given for a Q/DQ model.
    """
    options = options or TrtexecOptions()
    proto = load_model(model)
    command = ["trtexec", f"--onnx={model}"]
    int8 = ["--int8", *(["--fp16"] if options.fp16 else [])]
    if cache is not None:
        _check_cache(Path(cache), model, proto, options)
        command += [*int8, f"--calib={cache}"]
    elif not has_qdq(proto):
        raise ConfigError(
            f"{model} has no Q/DQ nodes, and no calibration cache was given: nothing says how to quantize it",
            hint="--cache calibration.cache, or a model of quantlab quantize",
        )
    elif options.tensorrt < 11 and options.strongly_typed:
        command.append("--stronglyTyped")
    elif options.tensorrt < 11:
        command += int8
    command += _shapes(proto, options)
    if options.save_engine is not None:
        command.append(f"--saveEngine={options.save_engine}")
    if options.timing_cache is not None:
        command.append(f"--timingCacheFile={options.timing_cache}")
    return [*command, *measure_options(options)]


def measure_options(options: TrtexecOptions) -> list[str]:
    """The arguments that say how trtexec measures: those of builds too.

    Args:
        options: What it shall say.

    Returns:
        The arguments.
    """
    found = ["--useCudaGraph"] if options.cuda_graph else []
    if options.export_profile is not None:  # without a run of its own, the times of layers are in the measured ones
        found += [f"--exportProfile={options.export_profile}", "--separateProfileRun"]
    return found


def _check_cache(cache: Path, model: str | Path, proto: onnx.ModelProto, options: TrtexecOptions) -> None:
    """An error unless trtexec of this version will take the cache, and for this model."""
    if options.tensorrt >= 11:
        raise ConfigError(
            f"TensorRT {options.tensorrt} has no calibration caches",
            hint=f"quantlab migrate {model} --table {cache} -o {Path(model).with_suffix('.qdq.onnx')}",
        )
    if options.strongly_typed:
        raise ConfigError(
            "a strongly typed network takes no calibration cache", hint="leave out --strongly-typed or --cache"
        )
    require_float(proto, "a calibration cache")
    loaded = TrtCache.load(cache)
    table_from_cache(loaded, str(cache)).check_names(proto)
    header = re.fullmatch(r"TRT-(\d+)-EntropyCalibration2", loaded.header)
    if header is None:  # trtexec reads a cache through an entropy calibrator, version 2, and no other
        raise DataError(
            f"{cache} begins with '{loaded.header}', trtexec reads EntropyCalibration2 only",
            hint=f"quantlab migrate {model} --table {cache} --calibrator EntropyCalibration2 -o NEW.cache",
        )
    if options.tensorrt == 10 and int(header[1]) < 10000:
        # Reported for 10.3: "Calibration table does not match calibrator algorithm type", then a failed calibration.
        raise DataError(
            f"{cache} begins with '{loaded.header}', and TensorRT 10 refuses a cache of TensorRT 8",
            hint=f"write it for your version: quantlab migrate {model} --table {cache} --tensorrt 10.16.1 -o NEW.cache",
        )


def _shapes(proto: onnx.ModelProto, options: TrtexecOptions) -> list[str]:
    """--minShapes, --optShapes and --maxShapes."""
    return [f"--{kind}Shapes={text}" for kind, text in profile_texts(proto, options).items()]


def profile_texts(proto: onnx.ModelProto, options: TrtexecOptions) -> dict[str, str]:
    """The shapes of the dynamic inputs as one text each.

    Args:
        proto: The model.
        options: Of which batch and shapes count.

    Returns:
        `min`, `opt` and `max` -> `input:1x3x8x8,...`; nothing where all shapes are fixed.

    Raises:
        ConfigError: They do not fit the model.
    """
    specs = input_specs(proto)
    dynamic = [spec for spec in specs if not all(isinstance(d, int) for d in spec.shape)]
    names = [spec.name for spec in dynamic]
    if unknown := [name for name in options.shapes if name not in names]:
        raise ConfigError(
            f"shapes name '{unknown[0]}', which is no dynamic input of the model",
            hint=f"{nearest(unknown[0], names)}dynamic inputs: {', '.join(names) or 'none'}",
        )
    if not dynamic:
        if options.batch not in (None, BatchSize.of(specs).fixed):
            raise ConfigError(
                f"batch {options.batch}, but the shapes of the model are fixed: {specs[0]}",
                hint="leave out --batch, or export the model with a dynamic batch",
            )
        return {}
    if options.batch is not None and set(names) == set(options.shapes):
        raise ConfigError(
            f"batch {options.batch} does nothing: every dynamic input has a shape of its own",
            hint="leave out --batch, or the shapes",
        )
    ranges = {spec.name: _range(spec, options) for spec in dynamic}
    return {
        kind: ",".join(f"{name}:{'x'.join(map(str, three[k]))}" for name, three in ranges.items())
        for k, kind in enumerate(("min", "opt", "max"))
    }


def needed_options(proto: onnx.ModelProto, batch: int) -> str:
    """What `quantlab trtexec` has to be told of the dynamic inputs of a model.

    Args:
        proto: The model.
        batch: The largest that is served.

    Returns:
        Options, with a blank before each; '' where all shapes are fixed.
    """
    dynamic = [spec for spec in input_specs(proto) if not all(isinstance(d, int) for d in spec.shape)]
    others = [spec for spec in dynamic if not all(isinstance(d, int) for d in spec.shape[1:])]
    shapes = ",".join(_example(spec).removeprefix("--shapes ") for spec in others)
    return (f" --batch {batch}" if len(others) < len(dynamic) else "") + (f" --shapes {shapes}" if shapes else "")


def _range(spec: TensorSpec, options: TrtexecOptions) -> tuple[tuple[int, ...], ...]:
    """The smallest, the best served and the largest shape of an input."""
    if "," in spec.name or "'" in spec.name:
        raise ConfigError(f"trtexec cannot read a shape for an input named {spec.name!r}", hint="rename the input")
    if spec.name in options.shapes:
        shape = options.shapes[spec.name]
        fits = len(shape) == len(spec.shape) and all(
            got == want if isinstance(want, int) else got > 0 for got, want in zip(shape, spec.shape, strict=True)
        )
        if not fits:
            raise ConfigError(f"shape {shape} for input '{spec.name}' does not fit {spec}", hint=_example(spec))
        return (shape,) * 3
    rest = tuple(d for d in spec.shape[1:] if isinstance(d, int))
    if len(rest) != len(spec.shape) - 1:
        raise ConfigError(f"input '{spec.name}' has dynamic dimensions besides the batch: {spec}", hint=_example(spec))
    if options.batch is None:
        raise ConfigError(f"input '{spec.name}' has a dynamic batch: {spec}", hint="--batch 32")
    return (1, *rest), (options.batch, *rest), (options.batch, *rest)


def _example(spec: TensorSpec) -> str:
    sizes = (str(d) if isinstance(d, int) else f"<{d or 'size'}>" for d in spec.shape)
    return f"--shapes {spec.name}:{'x'.join(sizes)}"
