"""Preparation: what is folded, renamed and converted before Q/DQ is placed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import conv_net, floats, parse, quantized, run
from quantlab.errors import GraphError
from quantlab.qdq import prepare


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


def test_batch_norm_in_training_mode_is_not_folded() -> None:
    text = """m (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        c = Conv (x, w)
        y, m2, v2 = BatchNormalization <training_mode = 1> (c, g, z, z, g)
    }"""
    weights = {"w": floats(4, 3, 1, 1), "g": np.ones(4, np.float32), "z": np.zeros(4, np.float32)}
    header = '<ir_version: 8, opset_import: ["" : 15]>'
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
    assert len(quantized(model, [{"x": floats(1, 3, 4, 4)}]).placement.weights) == 1


def test_initializer_that_is_also_an_input_is_reported() -> None:
    text = "m (float[N,6] x, float[6,4] w) => (float[N,4] y) { y = MatMul (x, w) }"
    result = quantized(parse(text, {"w": floats(6, 4)}), [{"x": floats(2, 6)}])
    assert any("input 'w' has a default value" in warning for warning in result.warnings)


def test_model_whose_declared_shapes_are_wrong_is_told_so() -> None:
    text = "m (float[2,4,8,8] x) => (float[2,4,9,9] y) { y = Conv (x, w) }"
    with pytest.raises(GraphError, match="shapes that the FP32 model declares contradict its nodes"):
        quantized(parse(text, {"w": floats(4, 4, 1, 1)}), [{"x": floats(2, 4, 8, 8)}])
