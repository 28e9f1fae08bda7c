"""The hash of a model: the same for the same network however it is stored, another for every change of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper, numpy_helper

from models import conv_net, parse
from quantlab.onnx_model import infer_shapes, load_model, model_hash

WITH_FUNCTION = """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
m (float[N,4] x) => (float[N,4] y) {{ y = mine.Twice (x) }}
<domain: "mine", opset_import: ["" : 17]>
Twice (t) => (u) {{ u = {op} (t, t) }}"""


def changed(change: Callable[[onnx.ModelProto], object]) -> str:
    model = conv_net()
    change(model)
    return model_hash(model)


def typed(model: onnx.ModelProto) -> None:
    """Weights as numbers, not as bytes."""
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, values.shape, values.ravel().tolist()))


def shuffled(model: onnx.ModelProto) -> None:
    tensors = list(model.graph.initializer)
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors[::-1])


@pytest.mark.parametrize(
    "change",
    [
        typed,
        shuffled,
        lambda m: setattr(m, "producer_name", "another exporter"),
        lambda m: setattr(m, "doc_string", "about"),
        lambda m: setattr(m.graph.node[0], "doc_string", "stack trace"),
        lambda m: setattr(m.graph, "name", "main"),
        lambda m: m.graph.value_info.extend(infer_shapes(m).graph.value_info),
        lambda m: m.metadata_props.add(key="a", value="b"),
    ],
    ids=["typed", "order", "producer", "about", "trace", "name", "shapes", "metadata"],
)
def test_what_does_not_change_the_network_does_not_change_the_hash(change: Callable[[onnx.ModelProto], object]) -> None:
    assert changed(change) == model_hash(conv_net())


def other_weight(model: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(model.graph.initializer[0]).copy()
    values.flat[0] = np.nextafter(values.flat[0], np.float32(9))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, model.graph.initializer[0].name))


def other_shape(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.dims[:] = [tensor.dims[1], tensor.dims[0], *tensor.dims[2:]]


@pytest.mark.parametrize(
    "change",
    [
        other_weight,
        other_shape,
        lambda m: setattr(m.graph.initializer[0], "name", "other"),
        lambda m: setattr(m.graph.node[0], "op_type", "ConvTranspose"),
        lambda m: setattr(m.graph.node[0].attribute[0], "name", "strides"),
        lambda m: m.graph.node[1].input.reverse() or m.graph.node.pop(),
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 10),
        lambda m: setattr(m.graph.output[0], "name", "s"),
        lambda m: setattr(m.opset_import[0], "version", 14),
        lambda m: m.graph.sparse_initializer.add().values.CopyFrom(m.graph.initializer[0]),
    ],
    ids=["weight", "shape", "tensor", "operator", "attribute", "nodes", "type", "output", "opset", "sparse"],
)
def test_what_changes_the_network_changes_the_hash(change: Callable[[onnx.ModelProto], object]) -> None:
    assert changed(change) != model_hash(conv_net())


def test_local_functions_count() -> None:
    hashes = [model_hash(onnx.parser.parse_model(WITH_FUNCTION.format(op=op))) for op in ("Add", "Mul", "Add")]
    assert hashes[0] == hashes[2] != hashes[1]


def test_file_with_weights_beside_it_has_the_hash_of_the_model(tmp_path: Path) -> None:
    onnx.save(conv_net(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert model_hash(load_model(tmp_path / "m.onnx")) == model_hash(conv_net())


def test_hash_stays_the_same_over_versions() -> None:
    """Stored tables name their model by it."""
    model = parse("m (float[N] x) => (float[N] y) { y = Relu (x) }")
    assert model_hash(model) == "ac56fd1fafe560851761abad1cf5f081a0247f667a117abd1c87de9870c76139"
