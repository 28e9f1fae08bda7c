"""What of a model has no meaning: refused with the node or tensor that it is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod

import onnx
from onnx import TensorProto, helper

from quantlab.errors import GraphError
from quantlab.onnx_model.nodes import all_nodes, node_label, subgraphs_of

EXPORT = "export the model again"
_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
_LARGEST = 2**31 - 1
"""Of a dimension and of a tensor, in ONNX Runtime and TensorRT."""


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    yield proto.graph
    for node in proto.graph.node:
        yield from subgraphs_of(node)


def check_values(proto: onnx.ModelProto) -> None:
    """Inputs and outputs: their types and dimensions."""
    if not proto.graph.output:
        raise GraphError("the model has no outputs, so it computes nothing", hint=EXPORT)
    for what, values in (("input", proto.graph.input), ("output", proto.graph.output)):
        for name, times in Counter(value.name for value in values).items():
            if times > 1:
                raise GraphError(f"the model has {times} {what}s '{name}'", hint=f"give every {what} a name of its own")
        for value in values:
            kind = value.type.WhichOneof("value")
            if what == "input" and (kind != "tensor_type" or not value.type.tensor_type.elem_type):
                shown = kind.removesuffix("_type") if kind and kind != "tensor_type" else "value of unknown type"
                raise GraphError(
                    f"input '{value.name}' is a {shown}; only tensors can be fed",
                    hint="export the model with tensors as inputs",
                )
            if kind != "tensor_type":
                continue
            if value.type.tensor_type.elem_type not in TensorProto.DataType.values():
                number = value.type.tensor_type.elem_type
                raise GraphError(f"{what} '{value.name}' has element type {number}, which ONNX does not have",
                                 hint="update onnx, or export the model again")  # fmt: skip
            for size in value.type.tensor_type.shape.dim if what == "input" else ():
                if is_no_size(size):
                    raise GraphError(
                        f"input '{value.name}' has a dimension of {size.dim_value}, which is none of the 0 to 2^31 - 1 "
                        "that ONNX Runtime and TensorRT take",
                        hint="export the model with a dynamic or smaller dimension",
                    )


def is_no_size(dim: onnx.TensorShapeProto.Dimension) -> bool:
    """Whether a dimension has a size that no tensor can have."""
    return dim.HasField("dim_value") and not -1 <= dim.dim_value <= _LARGEST


def check_tensors(proto: onnx.ModelProto) -> None:
    """Constants: their types, dimensions and the bytes that they hold."""
    for graph in _graphs(proto):
        for tensor in graph.initializer:
            _check_tensor(tensor)
    for node in all_nodes(proto.graph):
        for value in node.attribute:
            for tensor in (*([value.t] if value.HasField("t") else ()), *value.tensors):
                _check_tensor(tensor, f"constant of node '{node_label(node)}'")


def _check_tensor(tensor: TensorProto, what: str = "") -> None:
    what = what or f"initializer '{tensor.name}'"
    if tensor.data_type not in _TYPES:
        raise GraphError(f"{what} has element type {tensor.data_type}, which ONNX does not have",
                         hint="update onnx, or export the model again")  # fmt: skip
    if tensor.HasField("segment"):
        raise GraphError(f"{what} is stored in segments", hint="save the model with a current version of onnx")
    if any(size < 0 for size in tensor.dims):
        raise GraphError(f"{what} has the shape {list(tensor.dims)}", hint=EXPORT)
    if not tensor.HasField("raw_data") or tensor.data_location == TensorProto.EXTERNAL:
        return
    if tensor.data_type == TensorProto.STRING:
        raise GraphError(f"{what} holds strings as raw bytes", hint=EXPORT)
    wanted = -(-prod(tensor.dims) * _bits(tensor.data_type) // 8)
    if len(tensor.raw_data) != wanted:
        raise GraphError(
            f"{what} has {len(tensor.raw_data)} bytes, its shape {list(tensor.dims)} needs {wanted}",
            hint="the file is damaged: download or export it again",
        )


def _bits(data_type: int) -> int:
    name = TensorProto.DataType.Name(data_type)
    packed = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    return packed.get(name) or 8 * int(helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def check_makers(proto: onnx.ModelProto) -> None:
    """Every tensor of the main graph is made once, and before it is read."""
    made = {value.name: "an input" for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if not tensor.name:
            raise GraphError(
                f"an initializer of shape {list(tensor.dims)} of graph '{proto.graph.name or 'main'}' has no name",
                hint=EXPORT,
            )
        made[tensor.name] = "an initializer"
    for node in proto.graph.node:
        if not node.op_type:
            raise GraphError(f"node '{node_label(node)}' has no operator", hint=EXPORT)
        for name in node.input:
            if name and name not in made:
                raise GraphError(f"node '{node_label(node)}' ({node.op_type}) reads '{name}', which nothing makes",
                                 hint="export the model again, or add the missing input or initializer")  # fmt: skip
        for name in filter(None, node.output):
            if name in made:
                raise GraphError(
                    f"tensor '{name}' is made by {made[name]} and again by node '{node_label(node)}' ({node.op_type})",
                    hint="give the two different names",
                )
            made[name] = f"node '{node_label(node)}' ({node.op_type})"
    for output in proto.graph.output:
        if output.name not in made:
            raise GraphError(f"output '{output.name}' is made by no node", hint=EXPORT)
