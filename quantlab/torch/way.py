"""The verbs for PyTorch: export a module, quantize it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from quantlab.api import calibrate
from quantlab.api import quantize as quantize_onnx
from quantlab.api.calibration import Algorithm
from quantlab.errors import ConfigError, DataError, GraphError, in_batch
from quantlab.ort import Session, beyond
from quantlab.qdq import Selection, WeightStyle
from quantlab.torch.check import check_module, on_cpu, unwrapped
from quantlab.torch.exporting import ExportOptions, write_onnx
from quantlab.torch.feeds import ModuleBatches, signature_of
from quantlab.torch.names import module_names
from quantlab.torch.result import Exported, QuantizedModule
from quantlab.torch.trial import Trial, close, try_batch


def export(module: Any, loader: Any, inputs: Sequence[str] | None, options: ExportOptions) -> Exported:
    """See `quantlab.torch.export`."""
    module = unwrapped(module)
    check_module(module)
    first = _first(loader)
    signature = signature_of(module, first, inputs)
    batches = ModuleBatches(loader, signature)
    with in_batch(0):
        batch, _ = batches.split(first)
    copied = on_cpu(module)
    trial = try_batch(copied, signature, batch, options.dynamic_batch)
    proto, told = write_onnx(copied, signature, trial, options)
    told = (*told, *_differences(proto, trial))
    names = module_names(proto, {name for name, _ in copied.named_modules()}, set(copied.state_dict()))
    return Exported(proto, names, batches, told, copied, options, trial)


def quantize(
    exported: Exported, algorithm: Algorithm, selection: Selection | None, weights: WeightStyle | None
) -> QuantizedModule:
    """See `quantlab.torch.quantize`."""
    table = calibrate(exported.model, exported.batches, algorithm)
    return QuantizedModule(
        exported, table, quantize_onnx(exported.model, table, selection=selection, weights=weights)
    )


def _first(loader: Any) -> Any:
    if isinstance(loader, torch.Tensor):
        raise ConfigError("loader is a tensor, expected batches", hint="give a DataLoader, or a list of batches")
    if isinstance(loader, Iterator) or not (isinstance(loader, Iterable) or hasattr(loader, "__getitem__")):
        raise ConfigError(
            f"loader is a {type(loader).__name__}, which cannot be read again and again",
            hint="pass the DataLoader itself, not iter(loader), or a list of batches",
        )
    for element in loader:
        return element
    raise DataError("the loader is empty", hint="give at least one batch")


def _differences(proto: Any, trial: Trial) -> tuple[str, ...]:
    """Refuse an export that computes something else than the module."""
    if beyond(proto).notices():
        return ("ONNX Runtime does not run all of the export: its outputs were not compared with the module's",)
    found = Session(proto, optimize=False).run(trial.batch)
    for name, wanted in trial.outputs.items():
        if name not in found or not close(found[name], wanted):
            raise GraphError(
                f"output '{name}' of the exported model is not that of the module",
                hint="export by the other exporter, and report this module to PyTorch",
            )
    return ()
