"""Inputs that a model declares without a number of dimensions, which ONNX Runtime takes: it follows from their use."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from quantlab.errors import GraphError
from quantlab.onnx_model.large import copy_model

_MOST = 6
"""Dimensions that an input is tried with."""


def with_ranks(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Give every input a number of dimensions, all of them dynamic.

    Args:
        proto: The model, which stays as it is.

    Returns:
        The model itself where all inputs have a shape; else a copy.

    Raises:
        GraphError: The operators take an input with any number of dimensions, or with none.
    """
    if not _without(proto):
        return proto
    result, light = copy_model(proto), copy_model(proto, with_weights=False)
    constants = {tensor.name: tensor.dims for tensor in proto.graph.initializer}
    for name in [name for name in _without(proto) if name in constants]:
        for model in (result, light):
            _set_shape(model, name, constants[name])
    while names := _without(light):
        possible = {name: [rank for rank in range(_MOST + 1) if _takes(light, name, rank)] for name in names}
        known = {name: ranks[0] for name, ranks in possible.items() if len(ranks) == 1}
        if not known:
            name, ranks = next(iter(possible.items()))
            takes = f"takes {', '.join(map(str, ranks))}" if ranks else f"takes none of 0 to {_MOST}"
            raise GraphError(
                f"input '{name}' has no shape, and its number of dimensions does not follow from the network, which "
                f"{takes}",
                hint="export the model with the shape of its inputs, or add it: onnx.helper.make_tensor_value_info",
            )
        for name, rank in known.items():
            for model in (result, light):
                _set_shape(model, name, [None] * rank)
    return result


def _without(proto: onnx.ModelProto) -> list[str]:
    """Inputs that are tensors of an unknown number of dimensions."""
    tensors = [value for value in proto.graph.input if value.type.WhichOneof("value") == "tensor_type"]
    return [value.name for value in tensors if not value.type.tensor_type.HasField("shape")]


def _set_shape(proto: onnx.ModelProto, name: str, sizes: Sequence[int | None]) -> None:
    for value in proto.graph.input:
        if value.name == name:
            value.type.tensor_type.shape.SetInParent()
            value.type.tensor_type.shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=size) for size in sizes)


def _takes(light: onnx.ModelProto, name: str, rank: int) -> bool:
    """Whether the shapes of all tensors can be told, as far as they follow, with so many dimensions of an input."""
    tried = onnx.ModelProto()
    tried.CopyFrom(light)
    _set_shape(tried, name, [None] * rank)
    try:
        onnx.shape_inference.infer_shapes(tried, strict_mode=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return False
    return True
