"""PyTorch: from a module and a loader to a Q/DQ model, and back to the module as fake-quantize.

PyTorch is imported when one of these is called, not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quantlab.arguments import guard
from quantlab.qdq import Selection, WeightStyle
from quantlab.torch.exported import Exported
from quantlab.torch.names import ModuleNames
from quantlab.torch.package import require_torch
from quantlab.torch.result import QuantizedModule

if TYPE_CHECKING:
    from quantlab.api.calibration import Algorithm

__all__ = ["Exported", "ModuleNames", "QuantizedModule", "export", "quantize", "with_torch_operators"]


def export(
    module: Any,
    loader: Any,
    *,
    inputs: Sequence[str] | None = None,
    exporter: str = "dynamo",
    opset: int | None = None,
    dynamic_batch: bool = True,
) -> Exported:
    """Write a module as ONNX, with the names of its modules, and compare the two on the first batch.

    Args:
        module: A torch.nn.Module in evaluation mode, on any device; it stays as it is.
        loader: A DataLoader, or anything that can be read again and again and gives batches: tensors, tuples (inputs
            and perhaps labels) or mappings of them.
        inputs: The arguments of `forward` that the elements of a batch feed, where the loader leaves that open.
        exporter: 'dynamo' (torch.export) or 'torchscript'.
        opset: None for the exporter's own.
        dynamic_batch: Take any number of samples, else that of the first batch.

    Returns:
        The model, its names and its batches.

    Raises:
        ConfigError: The module or an argument cannot be used as it is.
        DataError: The loader's batches are not what the module takes.
        GraphError: The module cannot be exported, or the export computes something else.
        MissingDependencyError: There is no PyTorch, or one too old.
    """
    require_torch()
    from quantlab.torch import way
    from quantlab.torch.exporting import ExportOptions

    return way.export(module, loader, inputs, ExportOptions(exporter, opset, dynamic_batch))


def quantize(
    module: Any,
    loader: Any,
    algorithm: Algorithm = "entropy",
    *,
    inputs: Sequence[str] | None = None,
    selection: Selection | None = None,
    weights: WeightStyle | None = None,
    exporter: str = "dynamo",
    opset: int | None = None,
    dynamic_batch: bool = True,
) -> QuantizedModule:
    """Export a module, calibrate it on a loader and put Q/DQ nodes in.

    Args:
        module: As `export`.
        loader: As `export`; all of it is calibrated with.
        algorithm: As `quantlab.calibrate`.
        inputs: As `export`.
        selection: Which nodes to quantize or to leave in float.
        weights: How weights are quantized.
        exporter: As `export`.
        opset: As `export`.
        dynamic_batch: As `export`.

    Returns:
        The Q/DQ model, its table and placement, and the names of the modules.

    Raises:
        ConfigError: As `export`, or there is no such algorithm.
        DataError: As `export`, or data are not finite.
        GraphError: As `export`, or the module has quantizers already.
        MissingDependencyError: There is no PyTorch, or one too old.
    """
    require_torch()
    from quantlab.torch import way

    exported = export(module, loader, inputs=inputs, exporter=exporter, opset=opset, dynamic_batch=dynamic_batch)
    return way.quantize(exported, algorithm, selection, weights)


def with_torch_operators(module: Any) -> Any:
    """A copy of a fake-quantized module with PyTorch's own operators for the pairs, for Torch-TensorRT.

    They multiply by the inverse of a scale where ONNX divides: a value next to a tie may become the neighbouring step.

    Args:
        module: What `QuantizedModule.fake_quantized` gives.

    Returns:
        The copy, which `torch.jit.trace` and Torch-TensorRT take.

    Raises:
        ConfigError: It is no fake-quantized module.
        MissingDependencyError: There is no PyTorch, or one too old.
    """
    require_torch()
    from quantlab.torch.fake_quantize import with_torch_operators as copied

    return copied(module)


guard(globals())
