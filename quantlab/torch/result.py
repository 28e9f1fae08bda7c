"""What becomes of a module: its Q/DQ model, and the module with the same scales."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from quantlab.calibration import CalibrationTable
from quantlab.onnx_model import save_model
from quantlab.qdq import Placement, Quantized
from quantlab.tabular import Rows, Tabular
from quantlab.torch.exported import Exported
from quantlab.torch.names import ModuleNames

if TYPE_CHECKING:
    from quantlab.torch.feeds import ModuleBatches


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

        return fake_quantized(self.exported, self.quantized)
