"""When a row of the rules holds for a node: each function gives the reason why not, or None."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from quantlab.qdq.measured import BOUNDED, KEEPS_BOUND

ELEMENTWISE = "element-wise arithmetic gains nothing from INT8 inputs"
EXACT = "its result needs more than 8 bits, TensorRT computes it in float"


def takes_nearest(node: gs.Node) -> str | None:
    """A Resize that only repeats values, and fills with the value that is 0 in INT8 too."""
    if node.attrs.get("mode", "nearest") != "nearest":
        return "it interpolates, which needs more than 8 bits"
    if node.attrs.get("extrapolation_value", 0.0) != 0:
        return "it fills with a value other than 0"
    return None


def pads_zeros(node: gs.Node) -> str | None:
    """A Pad with the value that is 0 in INT8 too."""
    value = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2].name else None
    if value is not None and not (isinstance(value, gs.Constant) and not np.any(value.values)):
        return "it pads with a value other than 0"
    return None


def is_gate(node: gs.Node) -> str | None:
    """A Mul of one value per channel with all values of the channels, as squeeze-and-excitation has it.

    The one value is made by an activation, so that it lies in a narrow range: that of a normalization does not.
    """
    shapes = [tensor.shape for tensor in node.inputs]
    if any(isinstance(tensor, gs.Constant) or shape is None for tensor, shape in zip(node.inputs, shapes, strict=True)):
        return ELEMENTWISE
    per_channel = [_is_one_per_channel(shape) for shape in shapes]
    if len(shapes[0]) != len(shapes[1]) or per_channel[0] == per_channel[1] or shapes[0][1] != shapes[1][1]:
        return ELEMENTWISE
    return None if _is_activated(node.inputs[per_channel.index(True)]) else ELEMENTWISE


def _is_activated(tensor: gs.Tensor) -> bool:
    """Whether an activation bounds a tensor, or one that it is moved, scaled or shifted from."""
    maker = tensor.inputs[0] if tensor.inputs else None
    while maker is not None and maker.op not in BOUNDED:
        given = [one for one in maker.inputs if not isinstance(one, gs.Constant)]
        if maker.op not in KEEPS_BOUND or len(given) != 1 or not given[0].inputs:
            return False
        maker = given[0].inputs[0]
    return maker is not None


def _is_one_per_channel(shape: Sequence[object]) -> bool:
    return len(shape) > 2 and shape[1] != 1 and all(size == 1 for size in shape[2:])
