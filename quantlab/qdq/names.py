"""What tensors are called that the FP32 model does not have."""

from __future__ import annotations

ALIGNED = "__aligned"
"""What is appended to the name of a tensor or constant that got more channels, all zero."""


def calibrated_name(tensor: str) -> str:
    """The tensor of the FP32 model that has the range of a tensor of the prepared one."""
    return tensor.removesuffix(ALIGNED)
