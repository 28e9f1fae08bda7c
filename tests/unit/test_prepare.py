"""Preparation: what is folded, renamed and converted before Q/DQ is placed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import conv_net, floats, parse, quantized, run
from quantlab.errors import GraphError
from quantlab.qdq import EVERYTHING, prepare


def test_batch_norm_is_folded_and_the_numbers_stay() -> None:
    text = """m (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        c = Conv (x, w, b)
        n = BatchNormalization (c, gamma, beta, mean, var)
        y = Relu (n)
    }"""
    weights = {"w": floats(4, 3, 1, 1), "b": floats(4, seed=1), "gamma": floats(4, seed=2), "beta": floats(4, seed=3)}
    weights |= {"mean": floats(4, seed=4), "var": np.abs(floats(4, seed=5)) + np.float32(0.1)}
    model = parse(text, weights)
    prepared = prepare(model)
    assert [n.op_type for n in prepared.graph.node] == ["Conv", "Relu"]
    batch = {"x": floats(2, 3, 8, 8)}
    np.testing.assert_allclose(run(prepared, batch)[0], run(model, batch)[0], rtol=1e-5, atol=1e-5)
    result = quantized(model, [batch])
    assert [n.op_type for n in result.model.graph.node][-2:] == ["Conv", "Relu"]


def test_batch_norm_after_a_conv_with_another_consumer_stays() -> None:
    text = """m (float[N,3,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] z) {
        c = Conv (x, w)
        y = BatchNormalization (c, g, g, g, g)
        z = Relu (c)
    }"""
    prepared = prepare(parse(text, {"w": floats(4, 3, 1, 1), "g": np.ones(4, np.float32)}))
    assert "BatchNormalization" in [n.op_type for n in prepared.graph.node]


@pytest.mark.parametrize(
    ("node", "opset"),
    [
        ("y, m2, v2 = BatchNormalization <training_mode = 1> (c, g, z, z, g)", 15),
        ("y = BatchNormalization <training_mode = 1> (c, g, z, z, g)", 15),
        ("y, m2, v2, m3, v3 = BatchNormalization (c, g, z, z, g)", 13),  # five outputs were the sign of it
    ],
)
def test_batch_norm_in_training_mode_is_not_folded(node: str, opset: int) -> None:
    text = f"m (float[N,3,8,8] x) => (float[N,4,8,8] y) {{ c = Conv (x, w)  {node} }}"
    weights = {"w": floats(4, 3, 1, 1), "g": np.ones(4, np.float32), "z": np.zeros(4, np.float32)}
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    assert "BatchNormalization" in [n.op_type for n in prepare(parse(text, weights, header)).graph.node]


def test_folded_weight_takes_no_name_that_is_in_use() -> None:
    text = """m (float[N,3,8,8] x) => (float[N,3,8,8] y) {
        c = Conv (x, w)
        n = BatchNormalization (c, g, z, z, g)
        y = Conv (n, Conv_0_folded_weight)
    }"""
    weights = {"w": floats(3, 3, 1, 1), "g": np.ones(3, np.float32), "z": np.zeros(3, np.float32)}
    model = parse(text, weights | {"Conv_0_folded_weight": floats(3, 3, 1, 1, seed=7)})
    model.graph.node[0].name = "Conv_0"
    batch = {"x": floats(1, 3, 8, 8)}
    np.testing.assert_allclose(run(prepare(model), batch)[0], run(model, batch)[0], rtol=1e-4, atol=1e-4)


def test_constants_are_folded_and_shapes_disappear() -> None:
    text = """m (float[2,3,8,8] x) => (float[2,3,10,10] y) {
        zeros = ConstantOfShape (four)
        pads = Cast <to = 7> (zeros)
        both = Concat <axis = 0> (pads, ends)
        y = Pad (x, both)
    }"""
    weights = {"four": np.array([4], np.int64), "ends": np.array([0, 0, 2, 2], np.int64)}
    assert [n.op_type for n in prepare(parse(text, weights)).graph.node] == ["Pad"]


def test_unnamed_and_doubled_node_names_become_unique() -> None:
    model = conv_net()
    for node in model.graph.node[:3]:
        node.name = "same"
    names = [n.name for n in prepare(model).graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_old_opset_is_converted() -> None:
    header = '<ir_version: 6, opset_import: ["" : 11]>'
    text = "m (float[N,6] x) => (float[N,4] y) { y = Gemm <transB = 1> (x, w) }"
    model = parse(text, {"w": floats(4, 6)}, header)
    result = quantized(model, [{"x": floats(2, 6)}])
    assert result.model.opset_import[0].version == 13
    onnx.checker.check_model(result.model, full_check=True)


def test_model_that_the_converter_renames_can_be_quantized() -> None:
    header = '<ir_version: 4, opset_import: ["" : 9]>'
    text = "m (float[N,3,4,4] x) => (float[N,4,8,8] y) { u = Upsample (x, s)  y = Conv (u, w) }"
    weights = {"s": np.array([1, 1, 2, 2], np.float32), "w": floats(4, 3, 1, 1)}
    model = parse(text, weights, header)
    result = quantized(model, [{"x": floats(1, 3, 4, 4)}], selection=EVERYTHING)
    assert len(result.placement.weights) == 1


def test_initializer_that_is_also_an_input_is_reported() -> None:
    text = "m (float[N,6] x, float[6,4] w) => (float[N,4] y) { y = MatMul (x, w) }"
    result = quantized(parse(text, {"w": floats(6, 4)}), [{"x": floats(2, 6)}])
    assert any("input 'w' has a default value" in warning for warning in result.warnings)


def test_model_whose_declared_shapes_are_wrong_is_refused() -> None:
    text = "m (float[2,4,8,8] x) => (float[2,4,9,9] y) { y = Conv (x, w) }"
    with pytest.raises(GraphError, match="shapes that the FP32 model declares contradict its nodes"):
        quantized(parse(text, {"w": floats(4, 4, 1, 1)}), [{"x": floats(2, 4, 8, 8)}])


CONV_THEN = "m (float[N,3,8,8] x) => (float[A,B,C,D] y{more}) {{ c = Conv (x, w)  {node} }}"
W = {"w": floats(4, 3, 1, 1)}


def ops(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in prepare(model).graph.node]


def test_division_by_zero_is_left_as_it_is() -> None:
    values = np.array([1, 2, 0, 4], np.float32).reshape(4, 1, 1)
    text = CONV_THEN.format(more="", node="y = Div (c, k)")
    assert ops(parse(text, W | {"k": values})) == ["Conv", "Div"]
    assert ops(parse(text, W | {"k": values + 1})) == ["Conv"]


@pytest.mark.parametrize(("group", "folded"), [(1, True), (2, False)])
def test_grouped_transposed_convolution_is_not_folded(group: int, folded: bool) -> None:
    text = f"""m (float[N,4,6,6] x) => (float[A,B,C,D] y) {{
        c = ConvTranspose <group = {group}> (x, w)
        y = BatchNormalization (c, g, b, m, v)
    }}"""
    channels = 2 * group
    weights = {"w": floats(4, 2, 3, 3), "g": floats(channels, seed=1), "b": floats(channels, seed=2)}
    weights |= {"m": floats(channels, seed=3), "v": np.abs(floats(channels, seed=4)) + np.float32(0.1)}
    model, batch = parse(text, weights), {"x": floats(2, 4, 6, 6)}
    assert ops(model) == (["ConvTranspose"] if folded else ["ConvTranspose", "BatchNormalization"])
    np.testing.assert_allclose(run(prepare(model), batch)[0], run(model, batch)[0], rtol=1e-4, atol=1e-4)


def test_epsilon_of_a_batch_norm_counts() -> None:
    node = "y = BatchNormalization <epsilon = 0.5> (c, g, g, g, g)"
    model, batch = (
        parse(CONV_THEN.format(more="", node=node), W | {"g": np.ones(4, np.float32)}),
        {"x": floats(1, 3, 8, 8)},
    )
    assert ops(model) == ["Conv"]
    np.testing.assert_allclose(run(prepare(model), batch)[0], run(model, batch)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("node", "more"), [("y = Mul (c, k)  z = Relu (c)", ", float[A,B,C,D] z"), ("y = Mul (c, k)", ", float[A,B,C,D] c")]
)
def test_convolution_whose_result_others_want_is_not_folded(node: str, more: str) -> None:
    model = parse(CONV_THEN.format(more=more, node=node), W | {"k": np.float32([2])})
    assert "Mul" in ops(model)
    batch = {"x": floats(1, 3, 8, 8)}
    for want, got in zip(run(model, batch), run(prepare(model), batch), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("domain", ["", "my."])
def test_convolution_of_another_domain_is_nobodys_to_fold_into(domain: str) -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "my" : 1]>'
    text = CONV_THEN.format(more="", node="y = Mul (c, k)").replace("= Conv", f"= {domain}Conv")
    assert ops(parse(text, W | {"k": np.float32([2])}, header)) == (["Conv"] if not domain else ["Conv", "Mul"])


def test_product_is_not_folded_into_a_layer_that_is_no_convolution() -> None:
    text = "m (float[N,6] x) => (float[N,4] y) { c = MatMul (x, w)  y = Mul (c, k) }"
    assert ops(parse(text, {"w": floats(6, 4), "k": np.float32([2])})) == ["MatMul", "Mul"]


def test_computed_weight_or_bias_is_not_folded_into() -> None:
    text = "m (float[N,3,8,8] x, float[4] b) => (float[A,B,C,D] y) { c = Conv (x, w, b)  y = Mul (c, k) }"
    assert ops(parse(text, W | {"k": np.float32([2])})) == ["Conv", "Mul"]


def test_scaling_that_would_add_dimensions_stays() -> None:
    text = "m (float[N,3,8,8] x) => (float[A,B,C,D,E] y) { c = Conv (x, w)  y = Mul (c, k) }"
    assert ops(parse(text, W | {"k": np.ones((1, 1, 1, 1, 1), np.float32)})) == ["Conv", "Mul"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("m (float[N,4] x) => (float[N,4] y) { a = Cast <to = 1> (x)  y = Relu (a) }", ["Relu"]),
        ("m (float[N,4] x) => (double[N,4] y) { a = Cast <to = 11> (x)  y = Neg (a) }", ["Cast", "Neg"]),
        ("m (float[N,4] x) => (float[N,4] y) { a = Relu (x)  y = Cast <to = 1> (a) }", ["Relu", "Cast"]),  # its name
    ],
)
def test_cast_without_effect_goes_unless_it_names_an_output(text: str, left: list[str]) -> None:
    assert ops(parse(text)) == left


@pytest.mark.parametrize(("opset", "now"), [(12, 13), (13, 13), (14, 14), (17, 17)])
def test_opset_is_raised_to_thirteen_and_never_further(opset: int, now: int) -> None:
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    model = parse("m (float[N,4] x) => (float[N,4] y) { y = Relu (x) }", header=header)
    assert prepare(model).opset_import[0].version == now
    assert model.opset_import[0].version == opset


def test_scaling_of_an_input_or_behind_a_computed_weight_stays() -> None:
    assert ops(parse("m (float[N,4] x) => (float[N,4] y) { y = Mul (x, k) }", {"k": np.float32([2])})) == ["Mul"]
    text = "m (float[N,3,8,8] x, float[4,3,1,1] v) => (float[A,B,C,D] y) { c = Conv (x, v)  y = Mul (c, k) }"
    assert ops(parse(text, {"k": np.float32([2])})) == ["Conv", "Mul"]


def test_slices_with_computed_ends_are_not_merged() -> None:
    text = """m (float[2,4,8,8] x, int64[1] e) => (float[A,B,C,D] y) {
        s = Slice (x, b, e, two)
        y = Slice (s, b, four, three)
    }"""
    numbers = {"b": np.array([0]), "two": np.array([2]), "three": np.array([3]), "four": np.array([4])}
    assert ops(parse(text, numbers)) == ["Slice", "Slice"]


def test_cast_of_a_tensor_whose_type_is_not_known_stays() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "my" : 1]>'
    text = "m (float[N,4] x) => (double[N,4] y) { a = my.Foo (x)  b = Cast <to = 11> (a)  y = Neg (b) }"
    assert ops(parse(text, header=header)) == ["Foo", "Cast", "Neg"]


def test_nodes_keep_their_order_where_no_shuffle_is_absorbed() -> None:
    # the later of two convolutions takes the sum of both: another order would be another network to TensorRT
    text = """m (float[N,4,8,8] x) => (float[N,4,8,8] y) {
        a = Conv (x, w)  r = Relu (a)  b = Conv (r, w)  c = Conv (x, w)  s = Add (b, c)  y = Relu (s)
    }"""
    prepared = prepare(parse(text, {"w": floats(4, 4, 1, 1)}))
    assert [n.output[0] for n in prepared.graph.node] == ["a", "r", "b", "c", "s", "y"]
