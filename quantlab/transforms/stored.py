"""The weight of a quantized layer, as codes and scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.errors import GraphError
from quantlab.onnx_model import GraphView
from quantlab.qdq.rules import row_of


@dataclass(frozen=True, slots=True)
class IntegerWeight:
    """A weight behind a DequantizeLinear.

    Attributes:
        codes: int64, of the shape of the weight.
        scale: float64, per index of `axis`.
        axis: Of the outputs.
        dequantize: The node that gives it.
    """

    codes: NDArray[np.int64]
    scale: NDArray[np.float64]
    axis: int
    dequantize: onnx.NodeProto


def weight_tensor(view: GraphView, dequantize: onnx.NodeProto) -> str:
    """Find what a weight is stored in.

    Args:
        view: Of the model.
        dequantize: The node that gives the weight.

    Returns:
        The initializer with its codes, or with the floats before its QuantizeLinear.
    """
    q = view.maker(dequantize.input[0], "QuantizeLinear")
    return str((q or dequantize).input[0])


def integer_weight(view: GraphView, layer: onnx.NodeProto) -> IntegerWeight:
    """Read the weight of a layer.

    Args:
        view: Of the model.
        layer: A quantized layer.

    Returns:
        Its codes, those that its QuantizeLinear makes where floats are stored.

    Raises:
        GraphError: It is not symmetric int8.
    """
    row = row_of(layer.op_type, layer.domain)
    dq = view.maker(layer.input[row.weight_input or 1], "DequantizeLinear")
    stored = None if dq is None else view.weight(dq)
    given = None if dq is None else view.parameters(dq)
    if dq is None or stored is None or given is None or given.code_type != np.int8 or not given.is_symmetric:
        raise GraphError(f"the weight of '{layer.name}' is not symmetric int8", hint="quantize it with quantlab")
    scale = given.spread(given.scale.astype(np.float64), stored.ndim)
    if stored.dtype != np.int8:
        ratio = stored.astype(np.float32) / scale.astype(np.float32)
        stored = np.clip(np.rint(ratio), -128, 127)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in layer.attribute}
    axis = row.axis(attributes, stored.ndim) or 0
    per_output = np.broadcast_to(scale, [n if a == axis else 1 for a, n in enumerate(stored.shape)]).reshape(-1)
    return IntegerWeight(stored.astype(np.int64), per_output.copy(), axis, dq)
