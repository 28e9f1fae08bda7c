"""The arithmetic of a Q/DQ pair in PyTorch, with the straight-through gradient of quantization-aware training."""

from __future__ import annotations

import copy
from typing import Any

import torch

from quantlab.errors import ConfigError

LOW, HIGH = -128, 127


class _RoundTrip(torch.autograd.Function):  # type: ignore[misc]
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


class FakeQuantize(torch.nn.Module):  # type: ignore[misc]
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


class TorchFakeQuantize(torch.nn.Module):  # type: ignore[misc]
    """The same with PyTorch's own operators, which Torch-TensorRT and PyTorch's exporters know as a Q/DQ pair. They
    multiply by the inverse of the scale, so that a value next to a tie may become the neighbouring step.

    Args:
        pair: What it stands for.
    """

    scale: torch.Tensor
    zero_point: torch.Tensor

    def __init__(self, pair: FakeQuantize) -> None:
        super().__init__()
        self.register_buffer("scale", pair.scale.clone())
        self.register_buffer("zero_point", torch.zeros(pair.scale.shape, dtype=torch.int32))
        self.axis = pair.axis
        self.step = float(pair.scale) if pair.axis is None else 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Quantize and dequantize."""
        if self.axis is None:
            return torch.fake_quantize_per_tensor_affine(x, self.step, 0, LOW, HIGH)
        return torch.fake_quantize_per_channel_affine(x, self.scale, self.zero_point, self.axis, LOW, HIGH)


def with_torch_operators(module: torch.nn.Module) -> torch.nn.Module:
    """A copy of a fake-quantized module with PyTorch's own operators in place of quantlab's pairs.

    Args:
        module: What `fake_quantized` gives.

    Returns:
        The copy, for `torch.jit.trace` and Torch-TensorRT.

    Raises:
        ConfigError: It has no pairs.
    """
    if not isinstance(module, torch.nn.Module) or not any(isinstance(p, FakeQuantize) for p in module.modules()):
        raise ConfigError(
            f"a {type(module).__name__} without pairs of quantlab cannot be rewritten",
            hint="give what fake_quantized() returns",
        )
    copied = copy.deepcopy(module)
    for name, part in list(copied.named_modules()):
        if isinstance(part, FakeQuantize):
            owner, _, attribute = name.rpartition(".")
            setattr(copied.get_submodule(owner), attribute, TorchFakeQuantize(part))
    return copied
