"""A hash that names a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper


def model_hash(proto: onnx.ModelProto) -> str:
    """SHA-256 of what the model computes: opsets, inputs, outputs, nodes and every weight's name, shape and values.

    Independent of how weights are stored (raw, typed, external), of producer names, doc strings and value_info, so a
    model has one hash as a file and as a ModelProto.
    """
    digest = hashlib.sha256()
    for part in _parts(proto):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _parts(proto: onnx.ModelProto) -> Iterator[bytes]:
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
