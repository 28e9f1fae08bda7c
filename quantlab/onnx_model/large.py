"""Models of any size. Protobuf cannot serialize a message above 2 GB, so that onnx and ONNX Runtime fail on such a
model in memory; here the big weights are set aside while they look at the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from quantlab.errors import ConfigError, first_line
from quantlab.files import check_writable, open_output, scratch_folder, together, write_bytes
from quantlab.onnx_model.nodes import all_nodes, node_label
from quantlab.onnx_model.plugins import set_plugins_aside

BIG = 1 << 16
"""Bytes from which a constant is set aside. Shapes and axes, whose values shape inference needs, are far smaller."""
LIMIT = 2**31 - 2**20
"""Bytes of weights above which a model is stored with its weights in a file beside it."""
_PACKED = {
    getattr(TensorProto, name) for name in ("INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2") if name in dir(TensorProto)
}
DATA_SUFFIX = ".data"


def weight_bytes(tensor: TensorProto) -> int:
    """Size of a constant's values."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    return int(tensor.ByteSize())


def model_bytes(proto: onnx.ModelProto) -> int:
    """Size of a model as one file: exact below 2 GB, the sum of its parts above."""
    total = sum(weight_bytes(t) for t in proto.graph.initializer)
    return total if total > LIMIT else int(proto.ByteSize())


def serialized(proto: onnx.ModelProto) -> bytes | None:
    """A model as one message; None above LIMIT. To ask for its size first would serialize it twice."""
    if sum(weight_bytes(t) for t in proto.graph.initializer) > LIMIT:
        return None
    content = bytes(proto.SerializeToString())
    return content if len(content) <= LIMIT else None


def copy_model(proto: onnx.ModelProto, with_weights: bool = True) -> onnx.ModelProto:
    """Copy a model.

    Args:
        proto: The model.
        with_weights: All of it; else every initializer of BIG bytes or more is a graph input in place of a constant.

    Returns:
        The copy.
    """
    copied = onnx.ModelProto()
    _copy_fields(copied, proto, "graph")
    _copy_fields(copied.graph, proto.graph, "initializer")
    inputs = {i.name for i in proto.graph.input}
    for tensor in proto.graph.initializer:
        if with_weights or weight_bytes(tensor) < BIG:
            copied.graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            copied.graph.input.append(value)
    return copied


def _copy_fields(target: Any, source: Any, but: str) -> None:
    """All set fields except one, each on its own: no message that holds the weights is ever copied as a whole."""
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if isinstance(value, (int, float, str, bytes)):
            setattr(target, field.name, value)
        elif hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        else:
            getattr(target, field.name).CopyFrom(value)


def infer_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """`onnx.shape_inference.infer_shapes`, for a model of any size."""
    result = copy_model(proto)
    set_shapes(result)
    return result


def set_shapes(proto: onnx.ModelProto) -> None:
    """`infer_shapes` in place: for a model that nobody else has."""
    inferred = onnx.shape_inference.infer_shapes(copy_model(proto, with_weights=False))
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(inferred.graph.value_info)
    for mine, found in zip(proto.graph.output, inferred.graph.output, strict=True):
        mine.CopyFrom(found)


def check_model(proto: onnx.ModelProto, full_check: bool = False) -> None:
    """`onnx.checker.check_model`, for a model of any size.

    Args:
        proto: The model.
        full_check: Infer its shapes too.

    Raises:
        onnx.checker.ValidationError: It is not valid; see `why_invalid` for the reason as data.
    """
    for tensor in proto.graph.initializer:
        size = weight_bytes(tensor)
        if BIG <= size <= LIMIT:
            onnx.checker.check_tensor(tensor)
        elif size > LIMIT and tensor.data_type not in _PACKED and tensor.HasField("raw_data"):
            wanted = prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            if wanted != size:
                raise onnx.checker.ValidationError(
                    f"initializer '{tensor.name}' has {size} bytes, its shape needs {wanted}"
                )
    light = copy_model(proto, with_weights=False)
    set_plugins_aside(light)
    for node in all_nodes(light.graph):
        node.name = node_label(node)  # by which the checker says where
    shaped = [o for o in light.graph.output if o.type.WhichOneof("value") not in (None, "tensor_type") or has_shape(o)]
    del light.graph.output[:]  # the checker wants a shape of every output; nothing else does
    light.graph.output.extend(shaped)
    onnx.checker.check_model(light, full_check=full_check)


def why_invalid(proto: onnx.ModelProto, full_check: bool = True) -> str | None:
    """Ask onnx what is wrong with a model.

    Args:
        proto: The model, of any size.
        full_check: Infer its shapes too.

    Returns:
        What onnx finds and at which node, or None for a valid model.
    """
    try:
        check_model(proto, full_check=full_check)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        where = next((line for line in str(error).splitlines() if "Name: " in line), "")
        return f"{first_line(error)} ({where.removeprefix('==> Context: ')})" if where else first_line(error)
    return None


def has_shape(value: onnx.ValueInfoProto) -> bool:
    """Whether an input or output says how many dimensions it has."""
    return bool(value.type.tensor_type.HasField("shape"))


def save_model(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model file atomically; above LIMIT its weights go to `path` + '.data', and both appear together.

    Args:
        proto: The model.
        path: The file.

    Raises:
        ConfigError: A file cannot be written, or the one for the weights is another model's.
    """
    if sum(weight_bytes(t) for t in proto.graph.initializer) <= LIMIT:
        write_bytes(path, proto.SerializeToString(deterministic=True))
        return
    data = path.with_name(path.name + DATA_SUFFIX)
    check_data_file(path)
    light = onnx.ModelProto()
    _copy_fields(light, proto, "graph")
    _copy_fields(light.graph, proto.graph, "initializer")
    with together():
        with open_output(data) as file:
            for tensor in proto.graph.initializer:
                light.graph.initializer.append(_moved_out(tensor, file, data.name))
        write_bytes(path, light.SerializeToString(deterministic=True))


def check_data_file(path: Path) -> None:
    """ConfigError if the file for the weights of a large model at `path` cannot be written, or is another model's."""
    data = path.with_name(path.name + DATA_SUFFIX)
    check_writable(data)
    if data.exists() and not path.exists():
        raise ConfigError(
            f"{data} exists without {path.name}: it may be another model's",
            hint="choose another output name, or remove it",
        )


def _moved_out(tensor: TensorProto, file: Any, location: str) -> TensorProto:
    """The tensor itself if small or not raw, else a reference to its bytes, which are appended to `file`."""
    if len(tensor.raw_data) < BIG:
        return tensor
    offset = file.tell()
    file.write(tensor.raw_data)
    reference = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    reference.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", len(tensor.raw_data))):
        reference.external_data.add(key=key, value=str(value))
    return reference


@contextmanager
def as_file(proto: onnx.ModelProto) -> Iterator[Path]:
    """The model as a file in a temporary folder, for libraries that take nothing else above 2 GB."""
    with scratch_folder() as folder:
        path = folder / "model.onnx"
        save_model(proto, path)
        yield path
