"""From a module to an ONNX model, by either exporter of PyTorch."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch

from quantlab.errors import ConfigError, GraphError, first_line
from quantlab.onnx_model import opset_of
from quantlab.torch.check import quantizer_packages, quantizers_of
from quantlab.torch.feeds import Signature
from quantlab.torch.package import require_exporter
from quantlab.torch.trial import Trial, named_outputs, tensors_of

EXPORTERS = ("dynamo", "torchscript")
_TORCH = Path(torch.__file__).parent
TORCHSCRIPT_OPSET = 17
"""The latest that TensorRT 8.6 knows."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a module is written as ONNX.

    Attributes:
        exporter: `dynamo` (torch.export) or `torchscript` (tracing).
        opset: None for the exporter's own; 17 for TorchScript.
        dynamic_batch: Whether the first dimension of every input is any number of samples.
    """

    exporter: str = "dynamo"
    opset: int | None = None
    dynamic_batch: bool = True

    def __post_init__(self) -> None:
        if self.exporter not in EXPORTERS:
            raise ConfigError(f"there is no exporter '{self.exporter}'", hint=f"use {' or '.join(EXPORTERS)}")


def exported_program(
    module: torch.nn.Module, signature: Signature, trial: Trial, dynamic: bool
) -> torch.export.ExportedProgram:
    """The graph of a module, by torch.export.

    Args:
        module: On the CPU, in evaluation mode.
        signature: How it is called.
        trial: What it is called with.
        dynamic: Whether the first dimension is any number of samples.

    Returns:
        The program.

    Raises:
        GraphError: What the module does depends on its data, or on the number of samples.
    """
    args, kwargs = signature.arguments(tensors_of(trial.batch))
    shapes: Any = None
    if dynamic:
        batch = torch.export.Dim("batch")
        axes = {name: {0: batch} for name in signature.names}
        shapes = axes if signature.by_name else tuple(axes.values())
        if not signature.by_name and _is_starred(module):
            shapes = (shapes,)
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch.export's errors share no public base class
        raise _not_exported(error, bool(quantizers_of(module))) from error


def _is_starred(module: torch.nn.Module) -> bool:
    parameters = list(inspect.signature(module.forward).parameters.values())
    return bool(parameters) and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL


def _not_exported(error: Exception, has_quantizers: bool) -> GraphError:
    text, kind = str(error), type(error).__name__
    if "Constraints violated" in text or kind == "ConstraintViolationError":
        lines = [line.strip(" -") for line in text.splitlines() if line.strip().startswith("-")]
        return GraphError(
            f"the module takes one number of samples only: {lines[0] if lines else first_line(error)}",
            hint="dynamic_batch=False, or use x.shape[0] in forward in place of a number",
        )
    if "data-dependent" in text.lower() or "GuardOnDataDependent" in kind or "Dynamic control flow" in text:
        return GraphError(
            f"what the module does depends on its data, which no engine can follow: {first_line(error)}",
            hint="exporter='torchscript': the flags of quantizers are such a branch"
            if has_quantizers
            else "write the branch with torch.where, or export the part of the module without it",
        )
    return GraphError(
        f"the module cannot be exported: {kind}: {first_line(error)}",
        hint="torch.export.export(module, args) says more; exporter='torchscript' is the other way",
    )


def write_onnx(
    module: torch.nn.Module, signature: Signature, trial: Trial, options: ExportOptions
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Write a module as ONNX.

    Args:
        module: On the CPU, in evaluation mode.
        signature: How it is called.
        trial: What it is called with, and what it gives.
        options: How.

    Returns:
        The model, and what a user of it must know.

    Raises:
        ConfigError: The exporter has no such opset.
        GraphError: The module cannot be exported.
        MissingDependencyError: The exporter needs a package that is missing.
    """
    if options.exporter == "dynamo":
        require_exporter()
        program = exported_program(module, signature, trial, options.dynamic_batch)
        return _checked(_by_dynamo(program, signature, trial.outputs, options), options), ()
    proto, warned = _by_torchscript(module, signature, trial, options)
    return _checked(proto, options), warned


def _checked(proto: onnx.ModelProto, options: ExportOptions) -> onnx.ModelProto:
    """Where PyTorch cannot convert to the opset that was asked for, it logs that and writes another."""
    wanted = options.opset
    if wanted is not None and opset_of(proto) != wanted:
        raise ConfigError(
            f"the exporter '{options.exporter}' of PyTorch {torch.__version__} cannot write this module in opset "
            f"{wanted}: it wrote {opset_of(proto)}",
            hint="exporter='torchscript' writes earlier opsets, or leave opset out",
        )
    return proto


def _by_dynamo(
    program: torch.export.ExportedProgram, signature: Signature, outputs: Mapping[str, Any], options: ExportOptions
) -> onnx.ModelProto:
    try:
        with _quiet():
            written = torch.onnx.export(
                program, dynamo=True, opset_version=options.opset, input_names=list(signature.names),
                output_names=list(outputs), verbose=False,
            )  # fmt: skip
    except Exception as error:
        raise _not_written("dynamo", options, error) from error
    assert written is not None
    proto: onnx.ModelProto = written.model_proto
    return proto


def _by_torchscript(
    module: torch.nn.Module, signature: Signature, trial: Trial, options: ExportOptions
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    args, kwargs = signature.arguments(tensors_of(trial.batch))
    axes = {}
    if options.dynamic_batch:
        axes = {name: {0: "batch"} for name in (*signature.names, *trial.outputs)}
    file = io.BytesIO()
    # tracing sorts mappings by their keys: the outputs go in the order of their names
    flattened = module.register_forward_hook(lambda _module, _args, result: tuple(named_outputs(result).values()))
    with _quiet(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            torch.onnx.export(
                module, args, file, kwargs=kwargs, dynamo=False, input_names=list(signature.names),
                output_names=list(trial.outputs), dynamic_axes=axes, opset_version=options.opset or TORCHSCRIPT_OPSET,
            )  # fmt: skip
        except Exception as error:
            raise _not_written("torchscript", options, error) from error
        finally:
            flattened.remove()
    known = [_TORCH, *quantizer_packages(module)]  # their own modules ask for shapes and flags
    branches = [
        w
        for w in caught
        if issubclass(w.category, torch.jit.TracerWarning)
        and "Python" in str(w.message)
        and not any(Path(w.filename).is_relative_to(folder) for folder in known)
    ]
    warned: tuple[str, ...] = ()
    if branches:  # by a shape or by data? torch.export knows: it goes on with shapes and refuses data
        exported_program(module, signature, trial, options.dynamic_batch)
        warned = tuple(dict.fromkeys(f"traced with the shapes of the first batch: {_place(w)}" for w in branches))
    return onnx.load_model_from_string(file.getvalue()), warned


def _place(warning: warnings.WarningMessage) -> str:
    return f"{Path(warning.filename).name}:{warning.lineno}"


def _not_written(exporter: str, options: ExportOptions, error: Exception) -> GraphError | ConfigError:
    text = str(error)
    if options.opset is not None and ("opset" in text.lower() and "unsupported" in text.lower()):
        return ConfigError(
            f"the exporter '{exporter}' has no opset {options.opset}: {first_line(error)}", hint="leave opset out"
        )
    other = next(name for name in EXPORTERS if name != exporter)
    return GraphError(
        f"the exporter '{exporter}' of PyTorch {torch.__version__} cannot write the module: "
        f"{type(error).__name__}: {first_line(error)}",
        hint=f"exporter='{other}'",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch's exporters log, warn and print of their own parts; what matters here is checked on the result."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "torch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
