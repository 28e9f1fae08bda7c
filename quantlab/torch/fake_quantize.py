"""The arithmetic of a Q/DQ pair in PyTorch, with the straight-through gradient of quantization-aware training."""

from __future__ import annotations

from typing import Any

import torch

LOW, HIGH = -128, 127


class _RoundTrip(torch.autograd.Function):
    """Divides by the scale, as ONNX does; PyTorch's own fake-quantize multiplies by its inverse and rounds some ties
    to the other side."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        codes = torch.round(x / scale)
        ctx.save_for_backward((codes >= LOW) & (codes <= HIGH))
        return (codes.clamp(LOW, HIGH) + 0.0) * scale  # integers have no negative zero

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None


class FakeQuantize(torch.nn.Module):
    """A Q/DQ pair: what int8 keeps of a tensor, in float32.

    Args:
        scale: float32 > 0, of shape () or (channels,).
        axis: Of the channels; None for one scale.
        tensor: The tensor or weight of the ONNX model that has the pair.
    """

    scale: torch.Tensor

    def __init__(self, scale: torch.Tensor, axis: int | None, tensor: str) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.axis = axis
        self.tensor = tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Quantize and dequantize; gradients pass where no value was cut off."""
        scale = self.scale
        if self.axis is not None:
            scale = scale.reshape([-1 if axis == self.axis else 1 for axis in range(x.ndim)])
        kept: torch.Tensor = _RoundTrip.apply(x, scale)
        return kept

    def extra_repr(self) -> str:
        """What `print` shows."""
        kind = f"scale={float(self.scale)}" if self.axis is None else f"{len(self.scale)} scales, axis={self.axis}"
        return f"{self.tensor!r}, {kind}"
