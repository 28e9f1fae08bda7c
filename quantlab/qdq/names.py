"""What tensors are called that the FP32 model does not have."""

from __future__ import annotations

import re
from collections.abc import Container

ALIGNED = "__aligned"
"""What is appended to the name of a tensor or constant that got more channels, all zero."""


_ALIGNED = re.compile(rf"{ALIGNED}(_\d+)?$")


def calibrated_name(tensor: str, known: Container[str] = ()) -> str:
    """The tensor whose range a tensor of the prepared model has.

    Args:
        tensor: In the prepared model.
        known: Tensors with a range.

    Returns:
        Itself if it has one, as in a model that was quantized before; else the one of the FP32 model.
    """
    return tensor if tensor in known else _ALIGNED.sub("", tensor)
