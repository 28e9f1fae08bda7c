"""What becomes FP16 and what stays float32, and why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from fp16_parts import HEADER, kept, lines, scalar, types
from models import floats, initializers, parse, run
from quantlab.fp16 import to_fp16
from quantlab.fp16.policy import FP16, FP32


def test_attention_mask_with_the_lowest_float32_gives_no_nan() -> None:
    text = """m (float[N,4] x, int64[N,4] mask) => (float[N,4] y) {
        m0 = Cast <to = 1> (mask)
        m1 = Sub (one, m0)
        m2 = Mul (m1, lowest)
        s = Add (x, m2)
        p = Softmax (s)
        y = Mul (p, x)
    }"""
    model = parse(text, {"one": scalar(1), "lowest": scalar(np.finfo(np.float32).min)})
    result = to_fp16(model)
    batch = {"x": floats(2, 4), "mask": np.array([[1, 1, 0, 0], [0, 0, 0, 0]])}
    got = run(result.model, batch)[0]
    np.testing.assert_allclose(got, run(model, batch)[0], rtol=4 * 2**-11, atol=2**-14)
    assert list(kept(result)) == ["m0", "m1", "m2", "s", "p"]


def test_constant_that_vanishes_keeps_its_node() -> None:
    model = parse("m (float[N,4] x) => (float[N,4] y) { a = Relu (x)\n b = Add (a, e)\n y = Div (x, b) }",
                  {"e": scalar(1e-12)})  # fmt: skip
    result = to_fp16(model)
    assert kept(result) == {
        "b": "its constant 'e' is 1e-12, which is 0 in FP16",
        "y": "it reads what 'b' gives, which FP16 may not hold",
    }
    batch = {"x": np.zeros((1, 4), np.float32)}
    np.testing.assert_array_equal(run(result.model, batch)[0], run(model, batch)[0])
    assert initializers(result.model)["e"].dtype == np.float32


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("y = Exp (x)", "what Exp computes easily exceeds FP16"),
        ("y = Mul (x, x)", "what Mul computes easily exceeds FP16"),
        ("y = Pow (x, k)", "what Pow computes easily exceeds FP16"),
        ("y = RandomNormalLike (x)", "its output type is an attribute of its own"),
        ("a, s, z = DynamicQuantizeLinear (x)\n y = Mul (x, s)", "ONNX has no FP16 DynamicQuantizeLinear"),
        ("y = ConstantOfShape <value = float[1] {1e6}> (n)", "its constant 'value' has values above FP16's 65504"),
    ],
)
def test_unsafe_or_unknown_operator_stays_float32(line: str, reason: str) -> None:
    model = parse(f"m (float[2,4] x) => (float[2,4] y) {{ {line} }}", {"k": scalar(3), "n": np.array([2, 4])}, HEADER)
    assert next(iter(kept(to_fp16(model)).values())) == reason


def test_operators_that_have_fp16_are_converted_with_their_attributes() -> None:
    text = """m (float[2,3,4,4] x, uint8[2,3,4,4] c) => (float[2,3,8,8] y) {
        a = Cast <to = 1> (c)
        n = Shape (x)
        o = ConstantOfShape (n)
        h = Constant <value_float = 0.5> ()
        b = Pow (x, h)
        d = Add (a, o)
        e = Add (b, d)
        f = Clip (e, low, high)
        y = Resize (f, , scales)
    }"""
    numbers = {"low": scalar(0), "high": scalar(6), "scales": np.array([1, 1, 2, 2], np.float32)}
    model = parse(text, numbers, HEADER)
    result = to_fp16(model)
    made = types(result.model)
    assert result.kept == ()
    assert {made[name] for name in ("a", "o", "h", "b", "f", "y_fp16", "low")} == {FP16}
    assert made["scales"] == FP32  # ONNX has them in float32 only
    batch = {"x": np.abs(floats(2, 3, 4, 4)), "c": np.full((2, 3, 4, 4), 3, np.uint8)}
    np.testing.assert_allclose(run(result.model, batch)[0], run(model, batch)[0], rtol=4 * 2**-11)


def test_sizes_computed_in_float_stay_exact() -> None:
    text = """m (float[N,4] x) => (int64[2] y) {
        n = Shape (x)
        a = Cast <to = 1> (n)
        b = Mul (a, two)
        y = Cast <to = 7> (b)
    }"""
    model = parse(text, {"two": scalar(2)})
    result = to_fp16(model)
    assert run(result.model, {"x": floats(2049, 4)})[0].tolist() == [4098, 8]
    assert set(kept(result).values()) == {"it computes with integers, which FP16 holds up to 2048 only"}


def test_unknown_operators_and_types_stay_float32() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "other" : 1]>'
    text = "m (float[N,4] x) => (float[N,4] y) { a = Neg (x)\n b = other.Foo (a)\n c = Relu (b)\n y = Neg (c) }"
    result = to_fp16(parse(text, header=header))
    assert kept(result) == {
        "b": "whether operator Foo of domain 'other' takes FP16 is not known",
        "c": "the type of 'b' is not known",
        "y": "the type of 'c' is not known",
    }
    assert lines(result.model) == ["Cast(x)", "Neg(x_fp16)", "Cast(a)", "Foo(a_fp32)", "Relu(b)", "Neg(c)"]


@pytest.mark.parametrize("io", ["float32", "float16"])
def test_subgraphs_stay_float32_with_casts_around(io: str) -> None:
    text = """m (float[2,4] x, bool c) => (float[2,4] y) {
        a = Mul (x, k)
        b = If (c) <
            then_branch = t () => (float[2,4] u) { u = Neg (a) },
            else_branch = e () => (float[2,4] v) { v = Add (a, k) }
        >
        y = Add (b, k)
    }"""
    model = parse(text, {"k": floats(2, 4)})
    result = to_fp16(model, io)
    assert kept(result) == {"b": "its subgraphs are not converted"}
    assert {"k", "k_fp16"} <= set(initializers(result.model))
    for condition in (False, True):
        batch = {"x": floats(2, 4, seed=1), "c": np.array(condition)}
        got = run(result.model, batch | {"x": batch["x"].astype(io)})[0]
        np.testing.assert_allclose(got, run(model, batch)[0], rtol=6 * 2**-11, atol=2**-9)


def test_fp16_parts_stay_and_their_casts_go_where_nothing_needs_them() -> None:
    text = """m (float[N,4] x, float16[N,4] z) => (float[N,4] y, float16[N,4] w) {
        a = Cast <to = 10> (x)
        b = Relu (a)
        w = Add (b, z)
        c = Cast <to = 1> (w)
        d = Neg (c)
        y = Exp (d)
    }"""
    result = to_fp16(parse(text))
    assert lines(result.model) == ["Cast(x)", "Relu(x_fp16)", "Add(b,z)", "Neg(w)", "Cast(d)", "Exp(d_fp32)"]
    assert [v.type.tensor_type.elem_type for v in result.model.graph.output] == [FP32, FP16]
    assert [v.type.tensor_type.elem_type for v in result.model.graph.input] == [FP32, FP16]


def test_int32_bias_that_exceeds_fp16_stays_float32() -> None:
    text = """m (float[N,16] x) => (float[N,8] y) {
        w = DequantizeLinear (codes, s)
        b = DequantizeLinear (bias, bs)
        y = Gemm (x, w, b)
    }"""
    weights = {"codes": np.ones((16, 8), np.int8), "s": np.asarray(np.float32(0.1))}
    bias = {"bias": np.full(8, 200_000_000, np.int32), "bs": np.asarray(np.float32(5e-4))}
    model = parse(text, weights | bias)
    result = to_fp16(model)
    assert any("exceed FP16's 65504" in reason or "stays float32" in reason for _, reason in result.kept)
    np.testing.assert_allclose(run(result.model, {"x": np.zeros((2, 16), np.float32)})[0], 1e5, rtol=1e-3)


@pytest.mark.parametrize(
    ("exponent", "stays"),
    [(1, False), (1.5, True), (2, True), (-2, True), (0.5, False), (-1, False), (0, False), (None, True)],
)
def test_power_above_one_easily_exceeds_fp16(exponent: float | None, stays: bool) -> None:
    given = "" if exponent is not None else ", float k"
    model = parse(f"m (float[N,4] x{given}) => (float[N,4] y) {{ y = Pow (x, k) }}",
                  {} if exponent is None else {"k": scalar(exponent)})  # fmt: skip
    assert kept(to_fp16(model)) == ({"y": "what Pow computes easily exceeds FP16"} if stays else {})


@pytest.mark.parametrize(
    ("line", "again"),
    [
        ("b = Pow (a, k)", True),  # k: 0.5
        ("b = Pow (a, l)", False),  # 0.6
        ("b = Sqrt (a)", True),
        ("b = Softmax (a)", True),
        ("b = Tanh (a)", True),
        ("b = Clip (a, zero, k)", True),
        ("b = Clip (a, zero)", False),
        ("b = Clip (a, zero, big)", False),
        ("b = Div (a, x)", True),
        ("b = Div (a, k)", False),
        ("b = Relu (a)", False),
        ("b = Mul (a, k)", False),
    ],
)
def test_what_follows_a_large_value_is_fp16_again_behind_what_bounds_it(line: str, again: bool) -> None:
    numbers = {"k": scalar(0.5), "l": scalar(0.6), "zero": scalar(0), "big": scalar(1e6)}
    result = to_fp16(parse(f"m (float[N,4] x) => (float[N,4] y) {{ a = Exp (x)  {line}  y = Neg (b) }}", numbers))
    reasons = kept(result)
    assert reasons["a"] == "what Exp computes easily exceeds FP16"
    assert "b" in reasons  # it reads the large value
    assert ("y" not in reasons) == again


@pytest.mark.parametrize(
    ("kind", "exact"),
    [
        ("bool", True),
        ("int8", True),
        ("uint8", True),
        ("int16", False),
        ("uint16", False),
        ("int32", False),
        ("int64", False),
    ],
)
def test_integers_that_fp16_holds_may_become_fp16(kind: str, exact: bool) -> None:
    model = parse(f"m ({kind}[N,4] x) => (float[N,4] y) {{ a = Cast <to = 1> (x)  y = Neg (a) }}")
    reason = "it computes with integers, which FP16 holds up to 2048 only"
    assert kept(to_fp16(model)) == ({} if exact else {"a": reason, "y": reason})


def test_sine_of_a_position_is_an_ordinary_number() -> None:
    text = """m (int64[N] t) => (float[N] y) {
        p = Cast <to = 1> (t)
        a = Mul (p, rate)
        s = Sin (a)
        y = Neg (s)
    }"""
    assert list(kept(to_fp16(parse(text, {"rate": scalar(0.1)})))) == ["p", "a", "s"]


def test_constant_that_is_infinite_anyway_is_no_reason() -> None:
    model = parse("m (float[N,4] x) => (float[N,4] y) { y = Add (x, k) }", {"k": scalar(-np.inf)})
    assert kept(to_fp16(model)) == {}
    for value, stays in ((65504.0, False), (65519.0, False), (65520.0, True)):  # FP16 rounds up to 65519 down
        model = parse("m (float[N,4] x) => (float[N,4] y) { y = Add (x, k) }", {"k": scalar(value)})
        assert kept(to_fp16(model)) == ({"y": "its constant 'k' has values above FP16's 65504"} if stays else {})


def test_weight_of_one_value_that_vanishes_is_no_reason() -> None:
    tiny = np.full((1, 1, 1, 1), 1e-12, np.float32)
    assert kept(to_fp16(parse("m (float[N,1,4,4] x) => (float[N,1,4,4] y) { y = Conv (x, w) }", {"w": tiny}))) == {}
    two = parse("m (float[N,2] x) => (float[N,2] y) { y = Add (x, k) }", {"k": np.float32([1e-12, 1])})
    assert kept(to_fp16(two)) == {}


def test_product_of_two_tensors_is_no_square() -> None:
    text = "m (float[N,4] x, float[N,4] z) => (float[N,4] y) { y = Mul (x, z) }"
    assert kept(to_fp16(parse(text))) == {}
    cast = "m (float[N,4] x) => (float[N,4] y) { h = Cast <to = 10> (x)  a = Cast <to = 1> (h)  y = Mul (x, a) }"
    assert kept(to_fp16(parse(cast))) == {"y": "what Mul computes easily exceeds FP16"}  # one tensor, by way of Casts


SUMS = (
    "Exp", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp",
    "Sinh", "Cosh",
)  # fmt: skip


@pytest.mark.parametrize("line", [*(f"{op} (x)" for op in SUMS), "CumSum (x, axis)"])
def test_operator_that_adds_up_easily_exceeds_fp16(line: str) -> None:
    model = parse(f"m (float[2,4] x) => (float[A,B] y) {{ y = {line} }}", {"axis": np.asarray(np.int64(0))}, HEADER)
    assert kept(to_fp16(model)) == {"y": f"what {line.split()[0]} computes easily exceeds FP16"}


BOUNDING = (
    "Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh", "Erf", "Sqrt", "Log", "Reciprocal", "Sin", "Cos",
)  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        *(f"{op} (a)" for op in BOUNDING),
        "LayerNormalization (a, g)",
        "RMSNormalization (a, g)",
        "InstanceNormalization (a, g, g)",
        "GroupNormalization <num_groups = 2> (a, g, g)",
    ],
)
def test_operator_that_bounds_its_result_ends_what_is_too_large(line: str) -> None:
    header = '<ir_version: 11, opset_import: ["" : 23]>'
    text = f"m (float[2,4,4] x) => (float[2,4,4] y) {{ a = Exp (x)  b = {line}  y = Neg (b) }}"
    model = parse(text, {"g": np.ones(4, np.float32)}, header)
    # onnx does not infer the type of a GroupNormalization
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("b", FP32, [2, 4, 4]))
    result = to_fp16(model)
    assert list(kept(result)) == ["a", "b"]
    assert types(result.model)["b"] == FP32


def test_operator_of_another_domain_that_bears_a_known_name_is_unknown() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "other" : 1]>'
    result = to_fp16(parse("m (float[N,4] x) => (float[N,4] y) { y = other.Relu (x) }", header=header))
    assert kept(result) == {"y": "whether operator Relu of domain 'other' takes FP16 is not known"}


def test_constants_and_casts_between_integers_compute_with_no_positions() -> None:
    text = """m (float[N,4] x, int64[N] t) => (float[N,4] y, int32[N] u) {
        c = Mul (k, k2)
        y = Add (x, c)
        u = Cast <to = 6> (t)
    }"""
    assert kept(to_fp16(parse(text, {"k": floats(4), "k2": floats(4, seed=1)}))) == {}


def test_fp16_constant_that_a_float32_node_reads_is_there_in_both_types() -> None:
    text = """m (float[N,4] x, float16[N,4] z) => (float[N,4] y, float16[N,4] w) {
        w = Add (z, k)
        c = Cast <to = 1> (k)
        e = Exp (x)
        y = Add (e, c)
    }"""
    values = floats(4).astype(np.float16)
    result = to_fp16(parse(text, {"k": values}))
    made = initializers(result.model)
    assert {name: made[name].dtype for name in made} == {"k": np.float16, "k_fp32": np.float32}
    np.testing.assert_array_equal(made["k_fp32"], values.astype(np.float32))
    assert lines(result.model) == ["Add(z,k)", "Exp(x)", "Add(e,k_fp32)"]


def test_constant_nodes_of_integers_stay_nodes() -> None:
    text = """m (float[2,4] x) => (float[A,B] y) {
        s = Constant <value = int64[2] {4, 2}> ()
        t = Constant <value_int = 1> ()
        k = Constant <value = float[1] {0.5}> ()
        r = Reshape (x, s)
        a = Mul (r, k)
        y = Gather (a, t)
    }"""
    result = to_fp16(parse(text.replace("float[A,B] y", "float[A] y")))
    assert [n.op_type for n in result.model.graph.node].count("Constant") == 2
    assert {name: v.dtype for name, v in initializers(result.model).items()} == {"k": np.float16}


def test_product_of_two_positions_is_exact_and_one_with_a_weight_is_not() -> None:
    text = """m (int64[4,4] t, int64[4,4] u) => (float[4,4] y) {{
        p = Cast <to = 1> (t)
        r = Cast <to = 1> (u)
        y = MatMul (p, {other})
    }}"""
    reasons = [kept(to_fp16(parse(text.format(other=other), {"w": floats(4, 4)}))) for other in ("r", "w")]
    assert ["y" in found for found in reasons] == [True, False]
