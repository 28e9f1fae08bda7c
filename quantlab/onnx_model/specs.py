"""What goes into a model and what comes out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A model input or output.

    Attributes:
        name: Its name.
        dtype: The type of its values.
        shape: Its dimensions; None or a name stands for a dynamic one.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype.name} ({', '.join('?' if d is None else str(d) for d in self.shape)})"


def input_specs(proto: onnx.ModelProto) -> list[TensorSpec]:
    """The inputs that a caller must feed: initializers listed as inputs are left out."""
    constant = {i.name for i in proto.graph.initializer}
    return [_spec(v) for v in proto.graph.input if v.name not in constant]


def output_specs(proto: onnx.ModelProto) -> list[TensorSpec]:
    """The graph outputs, in order."""
    return [_spec(v) for v in proto.graph.output]


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else np.dtype("V")
    shape = tuple(d.dim_value if d.dim_value > 0 else (d.dim_param or None) for d in tensor.shape.dim)
    return TensorSpec(value.name, dtype, shape)
