"""What each check of the linter looks at, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from lint_parts import INT8, KERNEL, LAYER, PAIR, RESIDUAL, WEIGHT, codes, ints, opset
from models import floats, parse
from quantlab.qdq import import_scales, lint, requantize


def test_codes_of_another_size_and_pairs_in_subgraphs_are_found() -> None:
    sixteen = codes(
        PAIR.format(a=""), {"s": np.float32(1e-4), "z": np.int16(0)}, '<ir_version: 10, opset_import: ["" : 21]>'
    )
    assert sixteen == ["Q18"]
    inner = """m (bool c, float[N] x) => (float[N] y) {
        y = If (c) <then_branch = a () => (float[N] t) { q = QuantizeLinear (x, s, z)  t = DequantizeLinear (q, s, z) },
                    else_branch = b () => (float[N] e) { e = Neg (x) }>
    }"""
    model = parse(inner, {n: np.asarray(v) for n, v in INT8.items()})
    assert {f.code for f in lint(model)} == {"Q19"}
    with pytest.raises(quantlab.QuantlabError, match="nothing in the model can be INT8: If: it holds a subgraph"):
        quantlab.calibrate(model, [{"c": np.asarray(True), "x": floats(3)}])
    outer = inner.replace("y = If (c)", "q0 = QuantizeLinear (x, s, z)\n d0 = DequantizeLinear (q0, s, z)\n y = If (c)")
    mixed = parse(outer, {n: np.asarray(v) for n, v in INT8.items()})
    with pytest.raises(quantlab.QuantlabError, match="inside If, Loop or Scan"):
        requantize(mixed)


def test_type_of_codes_is_taken_from_output_dtype_without_a_zero_point() -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        a = Neg (x)
        q = QuantizeLinear <output_dtype = 3> (a, s)
        d = DequantizeLinear (q, s)
        y = MatMul (d, w)
    }"""
    header = '<ir_version: 10, opset_import: ["" : 21]>'
    model = parse(text, {"s": np.asarray(np.float32(0.05)), "w": floats(4, 4)}, header)
    assert {f.code for f in lint(model)} == {"Q16"}
    result = requantize(model)
    assert "Clip" not in [n.op_type for n in result.model.graph.node]
    assert import_scales(model).amax["a"] / np.float32(127) == np.float32(0.05)


def test_constants_computed_in_the_graph_are_no_dynamic_scales() -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        s1 = Mul (s, s2)
        z1 = Cast <to = 3> (zi)
        q = QuantizeLinear (x, s1, z1)
        d = DequantizeLinear (q, s1, z1)
        y = Relu (d)
    }"""
    assert codes(text, INT8 | {"zi": np.int64(0)}) == []


def test_weight_behind_a_transpose_is_quantized() -> None:
    rest = "t = Transpose <perm = [1,0]> (w)\n y = MatMul (d, t)"
    assert codes(LAYER.format(axis=0, rest=rest), INT8 | WEIGHT) == []


def test_constant_node_as_weight_does_not_crash() -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        wq = Constant <value = int8[4,4] {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}> ()
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        w = DequantizeLinear <axis = 0> (wq, ws, wz)
        y = MatMul (d, w)
    }"""
    assert codes(text, INT8 | {k: v for k, v in WEIGHT.items() if k != "wq"}) == ["Q05"]


def test_arithmetic_between_a_pair_and_its_layer_is_found() -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        m = Mul (d, half)
        w = DequantizeLinear <axis = 1> (wq, ws, wz)
        y = MatMul (m, w)
    }"""
    found = lint(parse(text, INT8 | WEIGHT | {"half": np.asarray(np.float32(0.5))}))
    assert [(f.code, f.detail) for f in found] == [("Q16", "Mul 'm' lies between it and the Q/DQ of input 'm'")]


def test_residual_add_behind_a_batch_norm_with_both_inputs_quantized() -> None:
    norm = "n = BatchNormalization (c, one, zero, zero, one)"
    vectors = {"one": np.ones(4, np.float32), "zero": np.zeros(4, np.float32)}
    text = RESIDUAL.format(behind=norm, branch="n", add="y = Add (d2, d)")
    assert codes(text, INT8 | KERNEL | vectors) == ["Q07"]


HEADS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "BatchNormalization")

FUSED = (
    "Relu", "Sigmoid", "HardSigmoid", "Clip", "LeakyRelu", "PRelu", "HardSwish", "Tanh", "Elu", "Selu", "Softplus",
    "Mish", "BatchNormalization",
)  # fmt: skip


def between(head: str, activation: str) -> onnx.ModelProto:
    """head - pair - activation, each with as many inputs as it needs."""
    more = {"Conv": ", k", "ConvTranspose": ", k", "Gemm": ", m", "MatMul": ", m", "Add": ", x", "PRelu": ", v"}
    more["BatchNormalization"] = ", v, v, v, v"
    text = f"""m (float[4,4] x) => (float[4,4] y) {{
        a = {head} (x{more.get(head, "")})
        q = QuantizeLinear (a, s, z)
        d = DequantizeLinear (q, s, z)
        y = {activation} (d{more.get(activation, "")})
    }}"""
    constants = INT8 | {"m": np.ones((4, 4), np.float32), "v": np.ones(4, np.float32)}
    constants |= {"k": np.ones((4, 4, 1, 1), np.float32)}
    text = text.replace("float[4,4]", "float[4,4,1,1]") if "Conv" in head else text
    return parse(text, {n: np.asarray(v) for n, v in constants.items()}, opset(18))


@pytest.mark.parametrize("activation", FUSED)
@pytest.mark.parametrize("head", HEADS)
def test_pair_between_what_tensorrt_fuses_is_found(head: str, activation: str) -> None:
    found = [(f.node, f.detail) for f in lint(between(head, activation)) if f.code == "Q06"]
    assert found == [("q", f"between 'a' and {activation} 'y'")]


@pytest.mark.parametrize(("head", "activation"), [("Softmax", "Relu"), ("Conv", "Softmax"), ("Mul", "Abs")])
def test_pair_between_what_tensorrt_does_not_fuse_is_fine(head: str, activation: str) -> None:
    text = f"m (float[4,4] x) => (float[4,4] y) {{ a = {head} (x, x)  y = {activation} (a) }}"
    assert not [f for f in lint(between(head, activation) if head != "Mul" else parse(text)) if f.code == "Q06"]


def test_pair_that_others_read_too_breaks_no_fusion() -> None:
    rest = "c = MatMul (d, w)\n q2 = QuantizeLinear (c, s, z)\n d2 = DequantizeLinear (q2, s, z)\n r = Relu (d2)\n"
    assert codes(LAYER.format(axis=1, rest=f"{rest} y = Mul (r, r)"), INT8 | WEIGHT) == ["Q06"]
    assert codes(LAYER.format(axis=1, rest=f"{rest} y = Mul (r, d2)"), INT8 | WEIGHT) == []


def test_sixteen_bit_pair_is_reported_once() -> None:
    constants = {"s": np.asarray(np.float32(1e-4)), "z": np.asarray(np.int16(0))}
    assert [(f.code, f.node) for f in lint(parse(PAIR.format(a=""), constants, opset(21)))] == [("Q18", "q")]
    constants["z"] = np.asarray(np.uint8(0))
    assert [(f.code, f.node) for f in lint(parse(PAIR.format(a=""), constants, opset(21)))] == [("Q02", "q")]


def test_scales_per_channel_of_a_float_weight_are_no_activations() -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        a = QuantizeLinear <axis = 1> (f, ws, wz)
        w = DequantizeLinear <axis = 1> (a, ws, wz)
        y = MatMul (d, w)
    }"""
    assert codes(text, INT8 | WEIGHT | {"f": np.ones((4, 4), np.float32)}) == []


def test_concat_of_a_float_and_an_int8_input_has_no_scales_to_compare() -> None:
    text = """m (float[N,4] x) => (float[N,12] y) {
        a = QuantizeLinear (x, s, z)
        b = DequantizeLinear (a, s, z)
        c = QuantizeLinear (x, s2, z)
        d = DequantizeLinear (c, s2, z)
        y = Concat <axis = 1> (b, d, x)
    }"""
    assert codes(text, INT8) == []


def test_pair_far_behind_a_shape_is_found() -> None:
    text = """m (float[N,4] x) => (float[1] y) {
        t0 = Shape (x)
        t1 = Gather (t0, one)
        t2 = Unsqueeze (t1, zero)
        t3 = Squeeze (t2, zero)
        t4 = Mul (t3, one)
        t5 = Add (t4, one)
        f = Cast <to = 1> (t5)
        q = QuantizeLinear (f, s, z)
        d = DequantizeLinear (q, s, z)
        y = Neg (d)
    }"""
    found = lint(parse(text, {n: np.asarray(v) for n, v in INT8.items()} | {"one": ints(1), "zero": ints(0)}))
    assert [(f.code, f.detail) for f in found] == [("Q10", "behind Shape 't0'")]
    other = text.replace("t0 = Shape (x)", "h = Neg (x)  t0 = Cast <to = 7> (h)")
    assert codes(other, INT8 | {"one": ints(1), "zero": ints(0)}) == []


def test_batch_norm_between_a_pair_and_its_layer_is_not_called_arithmetic() -> None:
    rest = "n = BatchNormalization (d, one, zero, zero, one)\n y = MatMul (n, w)"
    vectors = {"one": np.ones(4, np.float32), "zero": np.zeros(4, np.float32)}
    model = parse(LAYER.format(axis=1, rest=rest), {n: np.asarray(v) for n, v in (INT8 | WEIGHT | vectors).items()})
    assert [f.detail for f in lint(model) if f.code == "Q16"] == ["input 'n' is float"]


def test_layer_without_any_pair_is_not_reported() -> None:
    text = "m (float[N,4] x) => (float[N,4] y) { a = MatMul (x, w)  q = QuantizeLinear (a, s, z) " \
        " y = DequantizeLinear (q, s, z) }"  # fmt: skip
    assert codes(text, INT8 | {"w": np.ones((4, 4), np.float32)}) == ["Q08"]


def test_pair_is_followed_through_operators_that_move_values_of_one_or_two_inputs() -> None:
    rest = "c = Concat <axis = 0> (d, d)\n y = MatMul (c, w)"
    assert codes(LAYER.format(axis=1, rest=rest), INT8 | WEIGHT) == []
    three = "c = Concat <axis = 0> (d, d, d)\n y = MatMul (c, w)"
    model = parse(LAYER.format(axis=1, rest=three), {n: np.asarray(v) for n, v in (INT8 | WEIGHT).items()})
    assert [(f.code, f.detail) for f in lint(model)] == [("Q16", "input 'c' is float")]


def test_of_a_subgraph_the_pairs_alone_are_named() -> None:
    text = """m (bool c, float[N] x) => (float[N] y) {
        y = If (c) <
            then_branch = a () => (float[N] t) { q = QuantizeLinear (x, s, z)  t = DequantizeLinear (q, s, z) },
            else_branch = b () => (float[N] e) { e = Neg (x) }
        >
    }"""
    model = parse(text, {n: np.asarray(v) for n, v in INT8.items()})
    assert [(f.code, f.node, f.detail) for f in lint(model)] == [
        ("Q19", "q", "in a subgraph"), ("Q19", "t", "in a subgraph"),
    ]  # fmt: skip
    plain = text.replace("q = QuantizeLinear (x, s, z)  t = DequantizeLinear (q, s, z)", "t = Abs (x)")
    assert lint(parse(plain)) == []
