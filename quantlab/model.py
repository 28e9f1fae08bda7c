"""Reading ONNX models: one loader with clear errors, what goes in and out, and a hash that names a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from quantlab.errors import GraphError
from quantlab.large import LIMIT, check_model, model_bytes

Model = str | Path | onnx.ModelProto
"""What every function that takes a model accepts: a path of an ONNX file, or the loaded ModelProto."""

QDQ_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, numpy dtype and shape of a model input or output; None or a name stands for a dynamic dimension."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype.name} ({', '.join('?' if d is None else str(d) for d in self.shape)})"


def load_model(model: Model) -> onnx.ModelProto:
    """The ModelProto, checked, local functions inlined. GraphError if it is missing, empty, truncated or not ONNX."""
    if isinstance(model, onnx.ModelProto):
        proto, name = model, "model"
    else:
        path = Path(model)
        proto, name = _read(path), str(path)
    if not proto.HasField("graph") or not proto.graph.node:
        raise GraphError(f"{name} is not an ONNX model: it has no graph", hint="is this file an export that failed?")
    if proto.functions:
        if model_bytes(proto) > LIMIT:
            raise GraphError(f"{name} has local functions and more than 2 GB of weights", hint="export it without them")
        proto = onnx.inliner.inline_local_functions(proto)
    try:
        check_model(proto)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise GraphError(f"{name} is not a valid ONNX model: {reason}", hint="export the model again") from error
    return proto


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise GraphError(f"model {path} does not exist or is not a file", hint="give the path of an .onnx file")
    if path.stat().st_size == 0:
        raise GraphError(f"model {path} is empty (0 bytes)", hint="export or download it again")
    try:
        return onnx.load(str(path), format="protobuf")
    except DecodeError as error:
        raise GraphError(
            f"model {path} is truncated or not an ONNX file ({path.stat().st_size} bytes)",
            hint="export or download it again",
        ) from error
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise GraphError(
            f"model {path}: external data cannot be read: {error}", hint="keep the data file beside the model"
        ) from error


def require_float(proto: onnx.ModelProto, purpose: str) -> None:
    """GraphError if the model already has Q/DQ nodes, which `purpose` (a noun) cannot start from."""
    found = [n for n in all_nodes(proto.graph) if n.op_type in QDQ_OPS]
    if found:
        raise GraphError(
            f"the model already has {len(found)} QuantizeLinear/DequantizeLinear nodes (first: '{found[0].name}'); "
            f"{purpose} needs the FP32 model",
            hint="give the model it was made from",
        )


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the subgraphs in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from all_nodes(subgraph)


def input_specs(proto: onnx.ModelProto) -> list[TensorSpec]:
    """The inputs that a caller must feed: initializers listed as inputs are left out."""
    constant = {i.name for i in proto.graph.initializer}
    return [_spec(v) for v in proto.graph.input if v.name not in constant]


def output_specs(proto: onnx.ModelProto) -> list[TensorSpec]:
    """The graph outputs, in order."""
    return [_spec(v) for v in proto.graph.output]


def fixed_batch(proto: onnx.ModelProto) -> int | None:
    """The batch size the model was exported with, or None if it is dynamic (or there is no batch dimension)."""
    sizes = {s.shape[0] for s in input_specs(proto) if s.shape}
    size = next(iter(sizes)) if len(sizes) == 1 else None
    return size if isinstance(size, int) else None


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else np.dtype("V")
    shape = tuple(d.dim_value if d.dim_value > 0 else (d.dim_param or None) for d in tensor.shape.dim)
    return TensorSpec(value.name, dtype, shape)


def model_hash(proto: onnx.ModelProto) -> str:
    """SHA-256 of what the model computes: opsets, inputs, outputs, nodes and every weight's name, shape and values.

    Independent of how weights are stored (raw, typed, external), of producer names, doc strings and value_info, so a
    model has one hash as a file and as a ModelProto.
    """
    digest = hashlib.sha256()
    for part in _hash_parts(proto):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _hash_parts(proto: onnx.ModelProto) -> Iterator[bytes]:
    for opset in sorted(proto.opset_import, key=lambda o: o.domain):
        yield f"{opset.domain}:{opset.version}".encode()
    graph = proto.graph
    for value in (*graph.input, *graph.output):
        yield value.name.encode() + value.type.SerializeToString(deterministic=True)
    for node in graph.node:
        plain = onnx.NodeProto()
        plain.CopyFrom(node)
        plain.ClearField("doc_string")
        yield plain.SerializeToString(deterministic=True)
    for sparse in graph.sparse_initializer:
        yield sparse.SerializeToString(deterministic=True)
    for function in proto.functions:
        yield function.SerializeToString(deterministic=True)
    for tensor in sorted(graph.initializer, key=lambda t: t.name):
        yield f"{tensor.name}:{tensor.data_type}:{list(tensor.dims)}".encode()
        yield np.ascontiguousarray(numpy_helper.to_array(tensor)).tobytes()
