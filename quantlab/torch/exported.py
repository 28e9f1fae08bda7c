"""A module as ONNX, with what is needed to go back to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from quantlab.onnx_model import save_model
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
