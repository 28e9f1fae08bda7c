"""What exporters get wrong and has one meaning all the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from models import floats, parse, run
from quantlab.errors import GraphError
from quantlab.onnx_model import load_model
from quantlab.onnx_model.mend import mended


def linear() -> onnx.ModelProto:
    return parse(
        "m (float[N,4] x) => (float[N,4] y) { a = MatMul (x, w)  b = Relu (a)  y = Neg (b) }", {"w": floats(4, 4)}
    )


def namesakes(model: onnx.ModelProto) -> None:
    for node, name in zip(model.graph.node, ("n", "n_2", "n"), strict=True):
        node.name = name


def alias(model: onnx.ModelProto) -> None:
    model.opset_import[0].domain = "ai.onnx"
    model.graph.node[0].domain = "ai.onnx"


def backwards(model: onnx.ModelProto) -> None:
    model.graph.node.extend([model.graph.node[k] for k in (2, 1, 0)])
    del model.graph.node[:3]


def twice(model: onnx.ModelProto) -> None:
    model.graph.node.append(model.graph.node[0])
    model.graph.initializer.append(model.graph.initializer[0])


def huge_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2**31


def without_rank(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


@pytest.mark.parametrize("spoil", [namesakes, alias, backwards, twice, huge_output, without_rank])
def test_what_has_one_meaning_is_mended_and_gives_the_same(spoil: Callable[[onnx.ModelProto], None]) -> None:
    spoilt = linear()
    spoil(spoilt)
    before = spoilt.SerializeToString()
    model = load_model(spoilt)
    batch = {"x": floats(2, 4)}
    np.testing.assert_array_equal(run(model, batch)[0], run(linear(), batch)[0])
    assert spoilt.SerializeToString() == before
    assert mended(model) is model  # nothing is left to mend


def test_nodes_of_one_name_get_names_that_nobody_has() -> None:
    model = linear()
    namesakes(model)
    assert [node.name for node in load_model(model).graph.node] == ["n", "n_2", "n_3"]


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ({"value_float": 0.5}, np.float32),
        ({"value_floats": [0.5, 1.0, 2.0, 4.0]}, np.float32),
        ({"value_int": 3}, np.int64),
        ({"value_ints": [1, 2]}, np.int64),
    ],
)
def test_constants_of_plain_numbers_keep_their_type(given: dict[str, object], dtype: type) -> None:
    model = linear()
    model.graph.node.append(helper.make_node("Constant", [], ["c"], **given))
    tensor = helper.get_attribute_value(load_model(model).graph.node[-1].attribute[0])
    value = onnx.numpy_helper.to_array(tensor)
    assert (value.dtype, value.tolist()) == (dtype, next(iter(given.values())))


def test_rank_of_an_input_follows_from_the_network_or_is_asked_for() -> None:
    """Of a constant that is listed as an input too; of one input that follows only from another's."""
    model = parse(
        "m (float[N,3,8,8] x, float[N,4] z, float[4,3,3,3] w) => (float y, float u)"
        " { y = Conv (x, w)  c = Concat <axis = 1> (z, k)  u = Gemm (c, v) }",
        {"w": floats(4, 3, 3, 3), "k": floats(2, 4), "v": floats(8, 4)},
    )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    shapes = {v.name: len(v.type.tensor_type.shape.dim) for v in load_model(model).graph.input}
    assert shapes == {"x": 4, "z": 2, "w": 4}
    model = parse("m (float[N,4] x) => (float y) { y = Relu (x) }", {})
    without_rank(model)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(GraphError, match=r"input 'x' has no shape, .* which takes 0, 1, 2, 3, 4, 5, 6 Hint: export"):
        load_model(model)
    size = model.graph.input[0].type.tensor_type.shape.dim.add()
    for wrong in (2**31, -5):
        size.dim_value = wrong
        with pytest.raises(
            GraphError, match=f"input 'x' has a dimension of {wrong}, which is none of the 0 to 2.31 - 1"
        ):
            load_model(model)
