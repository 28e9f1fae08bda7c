"""What the scales and zero points of Q/DQ nodes say, and what they make of constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from quantlab.errors import GraphError
from quantlab.onnx_model import QdqParameters, code_type
from quantlab.qdq.graph import node_label


def parameters_of(node: gs.Node) -> QdqParameters:
    """Scale and zero point (in float64) of a QuantizeLinear, or of a DequantizeLinear of stored codes; GraphError if
    it cannot be taken apart."""
    if len(node.inputs) < 2:
        raise GraphError(f"'{node_label(node)}' has no scale", hint="export the model again")
    scale, zero_point = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 and node.inputs[2].name else None
    if not isinstance(scale, gs.Constant) or not (zero_point is None or isinstance(zero_point, gs.Constant)):
        raise GraphError(f"the scale of '{node_label(node)}' is computed", hint="use static quantization")
    if not scale.values.size or (zero_point is not None and not zero_point.values.size):
        raise GraphError(f"the scale or zero point of '{node_label(node)}' is empty", hint="calibrate the float model")
    if scale.values.dtype != np.float32:
        raise GraphError(
            f"the scale of '{node_label(node)}' is {scale.values.dtype}, so its remainder is not FP32",
            hint="quantize for an FP32 remainder (ModelOpt: high_precision_dtype='fp32')",
        )
    if node.attrs.get("block_size", 0):
        raise GraphError(
            f"'{node_label(node)}' has a scale per block, which TensorRT's INT8 has not", hint="per channel"
        )
    if not np.isfinite(scale.values).all() or (scale.values < 0).any():
        raise GraphError(
            f"a scale of '{node_label(node)}' is NaN, infinite or negative", hint="calibrate the float model"
        )
    zeros = None if zero_point is None else zero_point.values
    if node.op == "QuantizeLinear":
        dtype = code_type(zeros, int(node.attrs.get("output_dtype", 0)))
    else:
        dtype = code_type(zeros, codes=np.dtype(node.inputs[0].values.dtype))
    if dtype not in (np.int8, np.uint8, np.int16, np.uint16, np.int32):
        raise GraphError(f"'{node_label(node)}' has {dtype} codes, not INT8", hint="start from the float version")
    offsets = np.zeros(()) if zeros is None else zeros.astype(np.float64)
    return QdqParameters(scale.values.astype(np.float64), offsets, dtype, int(node.attrs.get("axis", 1)))


def range_of(q: gs.Node) -> tuple[float, float, bool]:
    """(smallest, largest value that a QuantizeLinear can represent, over all its channels; whether it is symmetric).

    A symmetric signed range is given without its lowest code, so that amax / 127 is an int8 scale again.
    """
    given = parameters_of(q)
    info = np.iinfo(given.code_type)
    symmetric = info.min < 0 and given.is_symmetric
    lowest = -info.max if symmetric else info.min
    low = float(np.min((lowest - given.zero_point) * given.scale))
    high = float(np.max((info.max - given.zero_point) * given.scale))
    if max(-low, high) > float(np.finfo(np.float32).max):
        raise GraphError(f"the range of '{node_label(q)}' is beyond float32", hint="calibrate the float model")
    return low, high, symmetric


def codes_of(values: NDArray[Any], q: gs.Node) -> NDArray[Any]:
    """Quantize a float constant.

    Args:
        values: The constant.
        q: The QuantizeLinear that reads it.

    Returns:
        Its codes.

    Raises:
        GraphError: As `parameters_of`.
    """
    given = parameters_of(q)
    info = np.iinfo(given.code_type)
    scale = given.spread(given.scale, values.ndim).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.rint(values.astype(np.float32) / scale)
    codes = np.clip(np.nan_to_num(ratio) + given.spread(given.zero_point, values.ndim), info.min, info.max)
    return np.asarray(codes, given.code_type)


def dequantized(values: NDArray[Any], node: gs.Node) -> NDArray[np.float32]:
    """`(q - zero_point) * scale`, rounded once: a symmetric code of 127 is `amax`, as `amax_from_scale` has it.

    Args:
        values: Codes.
        node: The node whose scale, zero point and axis hold.

    Returns:
        The float values.

    Raises:
        GraphError: As `parameters_of`.
    """
    given = parameters_of(node)
    scale, zero_point = given.spread(given.scale, values.ndim), given.spread(given.zero_point, values.ndim)
    exact = (values.astype(np.float64) - zero_point) * scale
    if np.abs(exact).max(initial=0) > np.finfo(np.float32).max:
        raise GraphError(f"the weight of '{node_label(node)}' is beyond float32", hint="calibrate the float model")
    return np.asarray(exact, np.float32)
