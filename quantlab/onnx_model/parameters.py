"""What the inputs and attributes of a QuantizeLinear or DequantizeLinear say, wherever the node was read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class QdqParameters:
    """Constant parameters of one Q or DQ node.

    Attributes:
        scale: Floating point, of shape (), (1,) or (C,); of the rank of the tensor for blocked quantization.
        zero_point: Integers in the shape of `scale`; 0 of shape () where the node has none.
        code_type: The integer type of the codes.
        axis: The channel axis as the node gives it (ONNX: 1 by default); it may count from the end.
        block_size: Values per scale along `axis`; 0 where scales are not blocked.
    """

    scale: NDArray[Any]
    zero_point: NDArray[Any]
    code_type: np.dtype[Any]
    axis: int = 1
    block_size: int = 0

    @property
    def is_symmetric(self) -> bool:
        """Whether every zero point is 0."""
        return not np.any(self.zero_point)

    def channel_axis(self, ndim: int) -> int | None:
        """The axis of the scales in a tensor of `ndim` dimensions, counted from the front; None for one scale."""
        return None if self.scale.size == 1 else self.axis % ndim

    def spread(self, parameter: NDArray[Any], ndim: int) -> NDArray[Any]:
        """Reshape one of the parameters so that it broadcasts against the tensor it belongs to.

        Args:
            parameter: `scale`, `zero_point`, or another array of shape (), (1,) or (C,).
            ndim: The number of dimensions of the tensor.

        Returns:
            Shape () for one value, else (1, ..., C, ..., 1) with C at the channel axis.
        """
        if parameter.size == 1:
            return parameter.reshape(())
        axis = self.axis % ndim
        return parameter.reshape([-1 if a == axis else 1 for a in range(ndim)])


def code_type(
    zero_point: NDArray[Any] | None, output_dtype: int = 0, codes: np.dtype[Any] | None = None
) -> np.dtype[Any]:
    """The integer type of the codes of a Q or DQ node.

    Args:
        zero_point: Of the node, None if it has none.
        output_dtype: The attribute of a QuantizeLinear (an ONNX element type), 0 if it has none.
        codes: The type of constant codes that a DequantizeLinear reads, None if they are not constant.

    Returns:
        The type of the zero point, else of `output_dtype`, else of the codes, else uint8 (the default of ONNX).
    """
    if zero_point is not None:
        return np.dtype(zero_point.dtype)
    if output_dtype:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(output_dtype))
    return codes if codes is not None else np.dtype(np.uint8)
