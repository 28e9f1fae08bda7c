"""The verbs for PyTorch: export a module, quantize it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quantlab.api import calibrate
from quantlab.api import quantize as quantize_onnx
from quantlab.api.calibration import Algorithm
from quantlab.errors import ConfigError, DataError, GraphError, in_batch
from quantlab.numerics import sqnr_db
from quantlab.onnx_model import has_qdq
from quantlab.ort import Session, beyond
from quantlab.qdq import CODES, MIN_SQNR_DB, Selection, WeightStyle, lint
from quantlab.qdq.codes import ERROR
from quantlab.torch.check import check_module, on_cpu, quantizers_of, unwrapped
from quantlab.torch.exported import Exported
from quantlab.torch.exporting import ExportOptions, write_onnx
from quantlab.torch.feeds import ModuleBatches, signature_of
from quantlab.torch.names import module_names
from quantlab.torch.result import QuantizedModule
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
    quantizers = quantizers_of(copied)
    trial = try_batch(copied, signature, batch, options.dynamic_batch, bool(quantizers))
    proto, warned = write_onnx(copied, signature, trial, options)
    if quantizers and not has_qdq(proto):
        raise GraphError(
            f"the module has quantizers (first: '{quantizers[0]}'), the export of them has no Q/DQ nodes",
            hint="export it by the package that made them, as the page on PyTorch says",
        )
    warned = (*warned, *_differences(proto, trial), *_refused(proto))
    names = module_names(proto, {name for name, _ in copied.named_modules()}, set(copied.state_dict()))
    return Exported(proto, names, batches, warned, copied, options, trial)


def quantize(
    exported: Exported, algorithm: Algorithm, selection: Selection | None, weights: WeightStyle | None
) -> QuantizedModule:
    """See `quantlab.torch.quantize`."""
    table = calibrate(exported.model, exported.batches, algorithm)
    next(iter(exported.batches))  # a loader that can be read only once has lost its first batch, and gives none now
    return QuantizedModule(exported, table, quantize_onnx(exported.model, table, selection=selection, weights=weights))


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
    warned = []
    for name, wanted in trial.outputs.items():
        same = name in found and close(found[name], wanted)
        # PyTorch multiplies by the inverse of a scale where ONNX divides: a tie becomes another step, and these add up
        sqnr = _sqnr_db(found[name], wanted) if name in found and has_qdq(proto) else -np.inf
        if not same and sqnr < MIN_SQNR_DB:
            raise GraphError(
                f"output '{name}' of the exported model is not that of the module",
                hint="export by the other exporter, and report this module to PyTorch",
            )
        if not same:
            warned.append(
                f"output '{name}' of the export has {sqnr:.1f} dB SQNR against the module's: ties of rounding"
            )
    return tuple(warned)


def _refused(proto: Any) -> tuple[str, ...]:
    """What TensorRT will not take of the Q/DQ that a training has left."""
    found = Counter(finding.code for finding in lint(proto)) if has_qdq(proto) else Counter[str]()
    findings = [
        f"{n} {code} ({CODES[code].meaning})" for code, n in sorted(found.items()) if CODES[code].severity == ERROR
    ]
    if not findings:
        return ()
    return (f"TensorRT refuses the Q/DQ of the training: {', '.join(findings)}; quantlab.qdq.repair places them anew",)


def _sqnr_db(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    if found.shape != wanted.shape:
        return -np.inf
    signal, noise = np.square(wanted, dtype=np.float64).sum(), np.square(found - wanted, dtype=np.float64).sum()
    return float(sqnr_db(np.asarray([signal]), np.asarray([noise]))[0])
