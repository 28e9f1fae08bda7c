"""Can this module be exported as it is? Asked before an exporter sees it, so that the error names the remedy."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import torch

from quantlab.errors import ConfigError, GraphError, first_line

_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
"""Classes that only hold a module -> the attribute that it is in."""
_CONVERTED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")


def unwrapped(module: Any) -> torch.nn.Module:
    """The module itself, out of torch.compile and DataParallel.

    Args:
        module: What the user gave.

    Returns:
        A module whose names are those that the user knows.

    Raises:
        ConfigError: It is no module, or one that has been compiled to TorchScript.
    """
    while type(module).__name__ in _WRAPPERS and isinstance(module, torch.nn.Module):
        module = getattr(module, _WRAPPERS[type(module).__name__])
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(
            f"module is a {type(module).__name__}, expected torch.nn.Module", hint="give the module, not its weights"
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise ConfigError(
            "module is compiled to TorchScript, which the exporters do not take", hint="give the module it was made of"
        )
    return module


def check_module(module: torch.nn.Module) -> None:
    """Refuse a module whose numbers would not be those of the exported model.

    Args:
        module: What is to be exported.

    Raises:
        ConfigError: It is in training mode, on no device, not dense float32, converted to INT8, or has
            observers that still change scales.
        GraphError: A parameter is not finite.
    """
    for name, part in module.named_modules():
        if type(part).__module__.startswith(_CONVERTED) and type(part).__name__ != "FloatFunctional":
            raise ConfigError(
                f"'{name}' is a {type(part).__name__} of {type(part).__module__}: PyTorch's own INT8 for the CPU",
                hint="give the float module, or the one with fake-quantize, before convert or quantize_dynamic",
            )
    # a graph of torch.export has no mode: what it does in either is written in it, and its `eval` refuses to be called
    training = [name or "the module itself" for name, part in module.named_modules() if part.training]
    if training and "eval" not in vars(module):
        raise ConfigError(
            f"the module is in training mode ({len(training)} of its modules; first: {training[0]})",
            hint="module.eval()",
        )
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin):
            raise ConfigError(f"'{name}' is lazy: it has no shape yet", hint="run one batch through the module first")
        if tensor.is_meta:
            raise ConfigError(
                f"'{name}' is on the meta device: it has no values", hint="load the weights: module.to_empty, then load"
            )
        if tensor.dtype in (torch.float16, torch.bfloat16, torch.float64):
            raise ConfigError(
                f"'{name}' is {str(tensor.dtype).removeprefix('torch.')}, expected float32",
                hint="module.float(); TensorRT chooses FP16 when it builds",
            )
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise ConfigError(
                f"'{name}' is a tensor of {tensor.dtype}, {tensor.layout}, expected dense float32",
                hint="give the module before it was made sparse or quantized, or use x.to_dense(), x.dequantize()",
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()) and name in _weights(module):
            raise GraphError(f"parameter '{name}' has NaN or infinity", hint="load other weights")
    for name, part in module.named_modules():
        enabled = getattr(part, "observer_enabled", None)
        if isinstance(enabled, torch.Tensor) and bool(enabled.any()):
            raise ConfigError(
                f"the observer of '{name}' still changes its scale with every batch",
                hint="module.apply(torch.ao.quantization.disable_observer)",
            )
        if type(part).__name__ == "FusedMovingAvgObsFakeQuantize":
            raise ConfigError(
                f"'{name}' is a {type(part).__name__}, which no exporter of PyTorch can write",
                hint="prepare the module with torch.ao.quantization.FakeQuantize in its QConfig, and load the "
                "state_dict of this one: the names are the same",
            )


def _weights(module: torch.nn.Module) -> frozenset[str]:
    """Parameters and the buffers that are saved with them; others may hold infinity, as masks do."""
    return frozenset(module.state_dict())


def on_cpu(module: torch.nn.Module) -> torch.nn.Module:
    """A copy on the CPU, where ONNX Runtime calibrates; the user's module stays where it is.

    Args:
        module: What is to be exported.

    Returns:
        The copy.

    Raises:
        ConfigError: It cannot be copied.
    """
    try:
        return copy.deepcopy(module).cpu()
    except Exception as error:  # what a user keeps in a module may refuse in any way
        raise ConfigError(
            f"the module cannot be copied: {first_line(error)}", hint="take what is no parameter out of the module"
        ) from error


def quantizers_of(module: torch.nn.Module) -> list[str]:
    """The names of what quantizes in a module, be it torch.ao's, ModelOpt's or Brevitas'."""
    kinds = ("FakeQuantize", "FusedMovingAvgObsFakeQuantize", "TensorQuantizer", "SequentialQuantizer")
    return [
        name
        for name, part in module.named_modules()
        if type(part).__name__ in kinds or type(part).__module__.startswith("brevitas.proxy")
    ]


def quantizer_packages(module: torch.nn.Module) -> list[Path]:
    """The folders of the packages that these quantizers are from."""
    names = {type(module.get_submodule(name)).__module__.partition(".")[0] for name in quantizers_of(module)}
    files = [getattr(sys.modules.get(name), "__file__", None) for name in sorted(names)]
    return [Path(file).parent for file in files if file]
