"""Models without their large weights: a skeleton keeps how large the values are, and seeded values take their place.

    python skeleton.py fill SKELETON.onnx MODEL.onnx
    python skeleton.py batch MODEL.onnx SEED BATCH.npz

A skeleton is a ModelProto. Every large tensor in it has a `doc_string` that begins with MARK and says how its values
come back; its `raw_data` holds the few numbers that this takes. `fill` gives the same bytes on every machine. Needs
numpy and onnx only.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LARGE = 4096
"""Tensors of fewer elements keep their values."""

MARK = "skeleton:"
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
SMALL_INTEGERS = (TensorProto.INT8, TensorProto.UINT8)
FEW_VALUES = 16
"""A tensor of no more distinct values than this, or floats that repeat this often, are a mask, a grid of coordinates or
an initial state, not a weight: packed as they are."""

_UNIFORMS = 8  # summed for one value: near enough to a normal one, up to 4.9 standard deviations


class _Needed(TypedDict):
    kind: str
    axis: int


class How(_Needed, total=False):
    """How the values of a tensor come back: `kind` is 'normal' or 'packed', `axis` that of the standard deviations.

    `seed` is the name that seeds them, if it is not the tensor's own.
    """

    seed: str


def strip(model: onnx.ModelProto, base: onnx.ModelProto | None = None) -> onnx.ModelProto:
    """Take the large weights out of a model.

    Args:
        model: The model, which is left as it is.
        base: A skeleton whose filled weights this model has in part (it was made out of that model): those weights get
            the same values again, under whatever name.

    Returns:
        The skeleton. Large Constant nodes have become initializers, and notes of where in the source a node comes from
        (they hold paths) are gone. Per index of one axis the values have the standard deviation that they had; integers
        of more than 8 bits, tensors of few distinct values and scales are real.
    """
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(model)
    _forget_origins(skeleton.graph)
    _large_constants_to_initializers(skeleton.graph)
    known = _by_values(base) if base is not None else {}
    kept, by_last_axis = _scales(skeleton.graph), _by_last_axis(skeleton.graph)
    for tensor in skeleton.graph.initializer:
        if int(np.prod(tensor.dims)) < LARGE or len(tensor.dims) < 2 or tensor.name in kept:
            continue
        same = known.get(_digest(tensor.dims, numpy_helper.to_array(tensor).tobytes()))
        if same is None:
            _strip_tensor(tensor, -1 if tensor.name in by_last_axis else 0)
        else:
            how = _how(same)
            assert how is not None
            _store(tensor, {**how, "seed": how.get("seed", same.name)}, same.raw_data)
    return skeleton


def fill(skeleton: onnx.ModelProto) -> onnx.ModelProto:
    """Put values back.

    Args:
        skeleton: What `strip` gave; it is left as it is. A model that is no skeleton comes back as it is.

    Returns:
        The model: the same bytes from the same skeleton, whatever the machine and the version of NumPy.
    """
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    for tensor in model.graph.initializer:
        how = _how(tensor)
        if how is not None:
            tensor.raw_data = _values(tensor, how)
            tensor.ClearField("doc_string")
    return model


def made_up_batch(model: onnx.ModelProto, seed: int) -> dict[str, NDArray[Any]]:
    """One batch for a model of fixed input shapes.

    Args:
        model: The model or its skeleton.
        seed: Repeats the batch.

    Returns:
        Input name -> array. Floats of rank 4 are smooth images, other floats smooth signals; a mask is all ones, token
        types are zeros, other integers are valid indices of the table that they select from.
    """
    generator = np.random.default_rng(seed)
    weights = {t.name for t in model.graph.initializer}
    batch: dict[str, NDArray[Any]] = {}
    for value in model.graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        shape = tuple(int(d.dim_value) for d in kind.shape.dim)
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if np.issubdtype(dtype, np.floating):
            batch[value.name] = smooth(shape, generator).astype(dtype)
        elif "mask" in value.name:
            batch[value.name] = np.ones(shape, dtype)
        elif "type" in value.name:
            batch[value.name] = np.zeros(shape, dtype)
        else:
            batch[value.name] = generator.integers(0, _table_length(model.graph, value.name), shape).astype(dtype)
    return batch


def smooth(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    """Images (N, C, H, W) or signals (N, C, L) whose neighbours are alike, of mean 0 and deviation 1, with noise."""
    values: NDArray[Any] = generator.standard_normal((*shape[:2], *(-(-n // 16) + 1 for n in shape[2:])))
    for axis, length in enumerate(shape[2:], start=2):
        place = np.linspace(0, values.shape[axis] - 1, length)
        low = np.minimum(place.astype(int), values.shape[axis] - 2)
        part = (place - low).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        values = np.take(values, low, axis) * (1 - part) + np.take(values, low + 1, axis) * part
    noisy: NDArray[np.float32] = (values / values.std() + 0.1 * generator.standard_normal(shape)).astype(np.float32)
    return noisy


def _how(tensor: onnx.TensorProto) -> How | None:
    if not tensor.doc_string.startswith(MARK):
        return None
    how: How = json.loads(tensor.doc_string[len(MARK) :])
    return how


def _strip_tensor(tensor: onnx.TensorProto, axis: int) -> None:
    values = numpy_helper.to_array(tensor)
    least = FEW_VALUES if tensor.data_type in SMALL_INTEGERS else max(FEW_VALUES, values.size // FEW_VALUES)
    made_up = tensor.data_type in (*FLOATS, *SMALL_INTEGERS) and len(np.unique(values)) > least
    if made_up:
        others = tuple(a for a in range(values.ndim) if a != axis % values.ndim)
        # about zero, not about the mean: it is the mean square that a layer hands on
        stored = np.sqrt(np.mean(np.square(values.astype(np.float64)), axis=others)).astype("<f4").tobytes()
    else:
        stored = zlib.compress(values.astype(values.dtype.newbyteorder("<")).tobytes(), 9)
        if 2 * len(stored) > values.nbytes:
            return  # nothing is won
    _store(tensor, {"kind": "normal" if made_up else "packed", "axis": axis}, stored)


def _store(tensor: onnx.TensorProto, how: How, stored: bytes) -> None:
    dims, data_type, name = list(tensor.dims), tensor.data_type, tensor.name
    tensor.Clear()  # also the typed fields, if the values were there
    tensor.dims.extend(dims)
    tensor.data_type, tensor.name, tensor.raw_data = data_type, name, stored
    tensor.doc_string = MARK + json.dumps(how, sort_keys=True)


def _values(tensor: onnx.TensorProto, how: How) -> bytes:
    if how["kind"] == "packed":
        return zlib.decompress(tensor.raw_data)
    shape = tuple(tensor.dims)
    deviation = np.frombuffer(tensor.raw_data, "<f4")
    values: NDArray[Any] = _normal(how.get("seed", tensor.name), shape) * deviation.reshape(
        [-1 if a == how["axis"] % len(shape) else 1 for a in range(len(shape))]
    )
    if tensor.data_type in SMALL_INTEGERS:
        limits = (-127, 127) if tensor.data_type == TensorProto.INT8 else (0, 255)
        values = np.clip(np.rint(values), *limits)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    data: bytes = values.astype(dtype.newbyteorder("<")).tobytes()
    return data


def _normal(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Values of deviation 1, seeded by a name.

    Not `standard_normal`: NumPy keeps the stream of raw bits the same for ever, but not that of its distributions, and
    those call the C library's logarithm, which is not the same everywhere. A sum of integers is.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    count = int(np.prod(shape))
    raw = np.random.PCG64(seed).random_raw(count * _UNIFORMS // 4).astype("<u8", copy=False)
    total = raw.view("<u2").reshape(_UNIFORMS, count).sum(axis=0, dtype=np.int32)
    centred = (2 * total - np.int32(_UNIFORMS * 65535)).astype(np.float32)  # below 2 ** 24: exact
    deviation = np.sqrt(_UNIFORMS * (2.0**32 - 1) / 3)
    unit: NDArray[np.float32] = (centred * np.float32(1 / deviation)).reshape(shape)
    return unit


def _by_values(base: onnx.ModelProto) -> dict[bytes, onnx.TensorProto]:
    stripped = ((t, _how(t)) for t in base.graph.initializer)
    return {_digest(t.dims, _values(t, how)): t for t, how in stripped if how is not None}


def _digest(dims: Iterable[int], values: bytes) -> bytes:
    return hashlib.sha256(repr(list(dims)).encode() + values).digest()


def _forget_origins(graph: onnx.GraphProto) -> None:
    for message in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        if "metadata_props" in message.DESCRIPTOR.fields_by_name:  # since onnx 1.16
            message.ClearField("metadata_props")
    for node in graph.node:
        node.ClearField("doc_string")


def _large_constants_to_initializers(graph: onnx.GraphProto) -> None:
    for node in list(graph.node):
        if node.op_type != "Constant" or node.attribute[0].name != "value":
            continue
        value = node.attribute[0].t
        if int(np.prod(value.dims)) >= LARGE:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
            graph.node.remove(node)


def _scales(graph: onnx.GraphProto) -> set[str]:
    """Scales and zero points: latency does not depend on them, but whether an engine can be built does."""
    pairs = (n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear"))
    return {name for node in pairs for name in node.input[1:]}


def _by_last_axis(graph: onnx.GraphProto) -> set[str]:
    """Weights whose outputs, or whose features, lie along their last axis."""
    found: set[str] = set()
    for node, index in _uses(graph):
        if (node.op_type == "MatMul" and index == 1) or (node.op_type == "Gather" and index == 0):
            found.add(node.input[index])
        transposed = next((a.i for a in node.attribute if a.name == "transB"), 0)
        if node.op_type == "Gemm" and index == 1 and not transposed:
            found.add(node.input[index])
    through = {n.output[0]: n.input[0] for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for name in list(found):
        while name in through:
            name = through[name]
            found.add(name)
    return found


def _uses(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, int]]:
    for node in graph.node:
        for index in range(len(node.input)):
            yield node, index


def _table_length(graph: onnx.GraphProto, name: str) -> int:
    lengths = {t.name: t.dims[0] for t in graph.initializer if t.dims}
    tables = [n.input[0] for n in graph.node if n.op_type == "Gather" and n.input[1] == name]
    return min((lengths[t] for t in tables if t in lengths), default=2)


def main(arguments: list[str]) -> None:
    """See the top of the file."""
    if len(arguments) == 3 and arguments[0] == "fill":
        filled = fill(onnx.load(arguments[1]))
        Path(arguments[2]).write_bytes(filled.SerializeToString(deterministic=True))
    elif len(arguments) == 4 and arguments[0] == "batch":
        arrays: dict[str, Any] = made_up_batch(onnx.load(arguments[1]), int(arguments[2]))
        np.savez(arguments[3], **arrays)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
