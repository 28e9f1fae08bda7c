"""What becomes of a module: its FP32 export, and its Q/DQ model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from quantlab.calibration import CalibrationTable
from quantlab.onnx_model import save_model
from quantlab.qdq import Placement, Quantized
from quantlab.tabular import Rows, Tabular
from quantlab.torch.names import ModuleNames

if TYPE_CHECKING:
    import torch

    from quantlab.torch.exporting import ExportOptions
    from quantlab.torch.feeds import ModuleBatches
    from quantlab.torch.trial import Trial


@dataclass(frozen=True, slots=True)
class Exported:
    """A module as ONNX.

    Attributes:
        model: The exported model.
        modules: Which module every node and tensor comes from.
        batches: The loader, as batches for the model.
        warnings: Facts that a user of the model must know.
        module: The copy that was exported, on the CPU.
        options: How it was exported.
        trial: The first batch, and what the module made of it.
    """

    model: onnx.ModelProto
    modules: ModuleNames
    batches: ModuleBatches
    warnings: tuple[str, ...]
    module: torch.nn.Module
    options: ExportOptions
    trial: Trial

    def save(self, path: str | Path) -> None:
        """Write the ONNX model atomically."""
        save_model(self.model, Path(path))


@dataclass(frozen=True, slots=True)
class QuantizedModule(Tabular):
    """A module as Q/DQ model.

    Attributes:
        exported: Its FP32 export, with the names of its modules and the batches.
        table: The calibrated ranges.
        quantized: The Q/DQ model and what was decided.
    """

    exported: Exported
    table: CalibrationTable
    quantized: Quantized

    @property
    def model(self) -> onnx.ModelProto:
        """The Q/DQ model."""
        return self.quantized.model

    @property
    def placement(self) -> Placement:
        """The quantized tensors and weights, and the nodes that stay float, with the reason."""
        return self.quantized.placement

    @property
    def modules(self) -> ModuleNames:
        """Which module every node and tensor comes from."""
        return self.exported.modules

    @property
    def batches(self) -> ModuleBatches:
        """The loader, as batches for the models."""
        return self.exported.batches

    @property
    def warnings(self) -> tuple[str, ...]:
        """Facts that a user of the model must know."""
        return (*self.exported.warnings, *self.table.warnings, *self.quantized.warnings)

    def to_rows(self) -> Rows:
        """The rows of the placement, each with its module."""
        rows = self.placement.to_rows()
        where = rows.columns.index("node")
        named = tuple((self.modules.nodes.get(str(row[where])), *row) for row in rows.rows)
        return Rows(("module", *rows.columns), named, rows.caption)

    def save(self, path: str | Path) -> None:
        """Write the Q/DQ model atomically: what `quantlab build` and `trtexec` take."""
        save_model(self.model, Path(path))

    def fake_quantized(self) -> Any:
        """The module with the same scales as fake-quantize, as torch.fx.GraphModule. See `quantlab.torch.fake`.

        Raises:
            GraphError: A quantized tensor has no counterpart in the module, which is named.
        """
        from quantlab.torch.fake import fake_quantized

        return fake_quantized(self)
