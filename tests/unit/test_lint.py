"""Every code of the linter on the smallest graph that shows it; a clean graph has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse
from quantlab.qdq import import_scales, lint, requantize
from quantlab.qdq.codes import CODES

INT8 = {"s": np.float32(0.1), "z": np.int8(0), "s2": np.float32(0.2)}
WEIGHT = {"wq": np.ones((4, 4), np.int8), "ws": np.full(4, 0.1, np.float32), "wz": np.zeros(4, np.int8)}


def codes(text: str, constants: dict[str, np.ndarray], header: str | None = None) -> list[str]:
    arrays = {n: np.asarray(v) for n, v in constants.items()}
    model = parse(text, arrays, header) if header else parse(text, arrays)
    return sorted({f.code for f in lint(model)})


PAIR = """m (float[N,4] x) => (float[N,4] y) {{
    q = QuantizeLinear {a} (x, s, z)
    d = DequantizeLinear {a} (q, s, z)
    y = Relu (d)
}}"""


@pytest.mark.parametrize(
    ("constants", "expected"),
    [
        ({"s": np.float32(0.1), "z": np.int8(0)}, []),
        ({"s": np.float32(0.1), "z": np.int8(3)}, ["Q01"]),
        ({"s": np.float32(0.1), "z": np.uint8(128)}, ["Q01", "Q02"]),
        ({"s": np.float32(0.1), "z": np.uint8(0)}, ["Q02"]),
        ({"s": np.float32(0), "z": np.int8(0)}, ["Q13"]),
        ({"s": np.float32(-1), "z": np.int8(0)}, ["Q13"]),
        ({"s": np.float32(1e-40), "z": np.int8(0)}, ["Q13"]),
        ({"s": np.float32(np.nan), "z": np.int8(0)}, ["Q13"]),
        ({"s": np.float32(np.inf), "z": np.int8(0)}, ["Q13"]),
    ],
)
def test_zero_points_types_and_scales(constants: dict[str, np.ndarray], expected: list[str]) -> None:
    assert codes(PAIR.format(a=""), constants) == expected


def test_smallest_scale_is_that_of_its_type() -> None:
    smallest = np.finfo(np.float32).tiny
    below = np.nextafter(smallest, np.float32(0))
    assert codes(PAIR.format(a=""), {"s": smallest, "z": np.int8(0)}) == []
    assert codes(PAIR.format(a=""), {"s": below, "z": np.int8(0)}) == ["Q13"]
    assert codes(PAIR.format(a=""), {"s": np.float16(6e-8), "z": np.int8(0)}, opset(19)) == []  # FP16 has denormals


def test_per_channel_activation() -> None:
    constants = {"s": np.full(4, 0.1, np.float32), "z": np.zeros(4, np.int8)}
    assert codes(PAIR.format(a="<axis = 1>"), constants) == ["Q03"]
    old = codes(PAIR.format(a="<axis = 1>"), constants, '<ir_version: 6, opset_import: ["" : 12]>')
    assert old == ["Q03", "Q15"]


def opset(number: int) -> str:
    return f'<ir_version: {10 if number > 20 else 8}, opset_import: ["" : {number}]>'


@pytest.mark.parametrize(("number", "expected"), [(13, ["Q14"]), (18, ["Q14"]), (19, []), (20, [])])
def test_half_precision_scale_needs_opset_19(number: int, expected: list[str]) -> None:
    constants = {"s": np.float16(0.1), "z": np.int8(0)}
    model = parse(PAIR.format(a=""), {n: np.asarray(v) for n, v in constants.items()}, opset(number))
    found = lint(model)
    assert sorted({f.code for f in found}) == expected
    assert {f.detail for f in found} == ({f"opset {number}"} if expected else set())
    single = {"s": np.asarray(np.float32(0.1)), "z": np.asarray(np.int8(0))}
    assert not lint(parse(PAIR.format(a=""), single, opset(number)))  # FP32 scales are no matter of the opset


@pytest.mark.parametrize(("number", "expected"), [(12, ["Q15"]), (13, []), (14, [])])
def test_scales_per_channel_need_opset_13(number: int, expected: list[str]) -> None:
    layer = LAYER.format(axis=1, rest="y = MatMul (d, w)")
    assert codes(layer, INT8 | WEIGHT, opset(number)) == expected
    single = WEIGHT | {"ws": np.float32(0.1), "wz": np.int8(0)}
    assert codes(layer.replace("<axis = 1>", ""), INT8 | single, opset(number)) == []


@pytest.mark.parametrize(("number", "expected"), [(20, ["Q15"]), (21, []), (22, [])])
def test_blocked_scales_need_opset_21_and_have_no_wrong_axis(number: int, expected: list[str]) -> None:
    layer = LAYER.format(axis="0, block_size = 2", rest="y = MatMul (d, w)")  # the channels of a MatMul are axis 1
    blocks = {"ws": np.full((2, 4), 0.1, np.float32), "wz": np.zeros((2, 4), np.int8)}
    assert codes(layer, INT8 | WEIGHT | blocks, opset(number)) == expected


def test_pair_of_another_domain_is_named() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "com.microsoft" : 1]>'
    text = PAIR.format(a="").replace("= QuantizeLinear", "= com.microsoft.QuantizeLinear")
    found = lint(parse(text, {"s": np.asarray(np.float32(0.1)), "z": np.asarray(np.int8(0))}, header))
    assert [(f.code, f.node) for f in found] == [("Q15", "q")]
    assert found[0].detail == "domain 'com.microsoft': TensorRT reads the standard operators"


def test_layer_of_another_domain_that_bears_a_known_name_is_not_judged() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "my" : 1]>'
    rest = "y = my.MatMul (x, w)"  # one float operand: Q16, were it ONNX's
    assert codes(LAYER.format(axis=0, rest=rest), INT8 | WEIGHT, header) == ["Q11"]
    assert codes(LAYER.format(axis=1, rest="y = MatMul (x, w)"), INT8 | WEIGHT, header) == ["Q11", "Q16"]


def test_computed_scale() -> None:
    text = PAIR.format(a="").replace("x) =>", "x, float s) =>")
    assert codes(text, {"z": np.int8(0)}) == ["Q17"]


LAYER = """m (float[N,4] x) => (float[N,4] y) {{
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    w = DequantizeLinear <axis = {axis}> (wq, ws, wz)
    {rest}
}}"""


def test_weight_axis() -> None:
    assert codes(LAYER.format(axis=1, rest="y = MatMul (d, w)"), INT8 | WEIGHT) == []
    assert codes(LAYER.format(axis=0, rest="y = MatMul (d, w)"), INT8 | WEIGHT) == ["Q05"]
    assert codes(LAYER.format(axis=0, rest="y = Gemm <transB = 1> (d, w)"), INT8 | WEIGHT) == []


def test_grouped_transposed_convolution_needs_one_scale() -> None:
    text = """m (float[N,4,6,6] x) => (float[N,4,8,8] y) {{
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        w = DequantizeLinear <axis = 1> (kq, ws, wz)
        y = ConvTranspose <group = {group}> (d, w)
    }}"""
    constants = INT8 | {
        "ws": np.full(2, 0.1, np.float32),
        "wz": np.zeros(2, np.int8),
        "kq": np.ones((4, 2, 3, 3), np.int8),
    }
    (finding,) = lint(parse(text.format(group=2), {n: np.asarray(v) for n, v in constants.items()}))
    assert (finding.code, finding.detail) == ("Q05", "axis 1, ConvTranspose 'y' needs one scale for the whole tensor")
    one = constants | {"ws": np.float32(0.1), "wz": np.int8(0)}
    assert codes(text.format(group=2), one) == []
    whole = text.format(group=1).replace("float[N,4,8,8] y", "float[N,2,8,8] y")
    assert codes(whole, constants) == []


def test_int32_bias() -> None:
    rest = "b = DequantizeLinear (bq, s, bz)\n y = Gemm (d, w, b)"
    bias = {"bq": np.ones(4, np.int32), "bz": np.int32(0)}
    assert codes(LAYER.format(axis=1, rest=rest), INT8 | WEIGHT | bias) == ["Q04"]


def test_pair_between_layer_and_activation() -> None:
    rest = "c = MatMul (d, w)\n q2 = QuantizeLinear (c, s, z)\n d2 = DequantizeLinear (q2, s, z)\n y = Relu (d2)"
    assert codes(LAYER.format(axis=1, rest=rest), INT8 | WEIGHT) == ["Q06"]


def test_quantized_output_and_one_float_operand() -> None:
    rest = "c = MatMul (x, w)\n q2 = QuantizeLinear (c, s, z)\n y = DequantizeLinear (q2, s, z)"
    assert codes(LAYER.format(axis=1, rest=rest), INT8 | WEIGHT) == ["Q08", "Q11", "Q16"]


KERNEL = WEIGHT | {"kq": np.ones((4, 4, 1, 1), np.int8)}
RESIDUAL = """m (float[N,4,8,8] x) => (float[N,4,8,8] y) {{
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    w = DequantizeLinear <axis = 0> (kq, ws, wz)
    c = Conv (d, w)
    {behind}
    q2 = QuantizeLinear ({branch}, s, z)
    d2 = DequantizeLinear (q2, s, z)
    {add}
}}"""


def test_residual_add_with_both_inputs_quantized() -> None:
    assert codes(RESIDUAL.format(behind="", branch="c", add="y = Add (d2, d)"), INT8 | KERNEL) == ["Q07"]
    assert codes(RESIDUAL.format(behind="n = Abs (x)", branch="n", add="y = Add (d2, c)"), INT8 | KERNEL) == []
    no_layer = RESIDUAL.format(behind="n = Abs (x)", branch="n", add="t = Add (d2, d)  y = Add (t, c)")
    assert codes(no_layer, INT8 | KERNEL) == []


def test_concat_scales_doubled_pairs_and_loose_ends() -> None:
    concat = """m (float[N,4] x) => (float[N,8] y) {
        a = QuantizeLinear (x, s, z)
        b = DequantizeLinear (a, s, z)
        c = QuantizeLinear (x, s2, z)
        d = DequantizeLinear (c, s2, z)
        y = Concat <axis = 1> (b, d)
    }"""
    assert codes(concat, INT8) == ["Q09"]
    doubled = """m (float[N,4] x) => (float[N,4] y) {
        a = QuantizeLinear (x, s, z)
        b = DequantizeLinear (a, s, z)
        c = QuantizeLinear (b, s, z)
        d = DequantizeLinear (c, s, z)
        y = Relu (d)
    }"""
    assert codes(doubled, INT8) == ["Q12"]
    loose = "m (float[N,4] x) => (float[N,4] y) { a = QuantizeLinear (x, s, z)  y = Relu (x) }"
    assert codes(loose, INT8) == ["Q11"]
    entry = "m (int8[N,4] x) => (float[N,4] y) { d = DequantizeLinear (x, s, z)  y = Relu (d) }"
    assert codes(entry, INT8) == ["Q11"]


def test_shape_computation() -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        t = Shape (x)
        f = Cast <to = 1> (t)
        q = QuantizeLinear (f, s, z)
        d = DequantizeLinear (q, s, z)
        i = Cast <to = 7> (d)
        y = Reshape (x, i)
    }"""
    assert codes(text, INT8) == ["Q10"]


def test_our_own_models_lint_clean() -> None:
    result = quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), image_batches()))
    assert lint(result.model) == []


def test_finding_names_node_and_place() -> None:
    rest = "c = MatMul (d, w)\n q2 = QuantizeLinear (c, s, z)\n d2 = DequantizeLinear (q2, s, z)\n y = Relu (d2)"
    model = parse(LAYER.format(axis=1, rest=rest), {n: np.asarray(v) for n, v in (INT8 | WEIGHT).items()})
    (finding,) = lint(model)
    assert (finding.node, finding.severity) == ("q2", "warning")
    assert finding.detail == "between 'c' and Relu 'y'"


def test_lint_command_prints_reason_and_remedy_and_exits_3_on_errors(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    bad = parse(PAIR.format(a=""), {"s": np.asarray(np.float32(0.1)), "z": np.asarray(np.uint8(128))})
    onnx.save(bad, tmp_path / "bad.onnx")
    result = cli("lint", tmp_path / "bad.onnx")
    assert result.code == 3
    assert "TensorRT refuses the model" in result.out
    rows = json.loads(cli("lint", tmp_path / "bad.onnx", "--json").out)
    assert {r["code"] for r in rows} == {"Q01", "Q02"}
    onnx.save(conv_net(), tmp_path / "clean.onnx")
    assert cli("lint", tmp_path / "clean.onnx").out == "no findings\n"


# --- graphs that once were misread


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
    with pytest.raises(quantlab.QuantlabError, match="already has 2 Quant"):
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


# --- what each check looks at


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


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_pair_is_followed_through_operators_that_move_values_of_one_or_two_inputs() -> None:
    rest = "c = Concat <axis = 0> (d, d)\n y = MatMul (c, w)"
    assert codes(LAYER.format(axis=1, rest=rest), INT8 | WEIGHT) == []
    three = "c = Concat <axis = 0> (d, d, d)\n y = MatMul (c, w)"
    model = parse(LAYER.format(axis=1, rest=three), {n: np.asarray(v) for n, v in (INT8 | WEIGHT).items()})
    assert [(f.code, f.detail) for f in lint(model)] == [("Q16", "input 'c' is float")]


# --- every code on a graph that shows it

BETWEEN = "c = MatMul (d, w)\n q2 = QuantizeLinear (c, s, z)\n d2 = DequantizeLinear (q2, s, z)\n y = Relu (d2)"
SHAPE = """m (float[N,4] x) => (float[2] y) {
    t = Shape (x)
    f = Cast <to = 1> (t)
    q = QuantizeLinear (f, s, z)
    d = DequantizeLinear (q, s, z)
    y = Neg (d)
}"""
IF = """m (bool c, float[N] x) => (float[N] y) {
    y = If (c) <then_branch = a () => (float[N] t) { q = QuantizeLinear (x, s, z)  t = DequantizeLinear (q, s, z) },
                else_branch = b () => (float[N] e) { e = Neg (x) }>
}"""
UNSIGNED = {"s": np.float32(0.1), "z": np.uint8(3)}
CHANNELS = {"s": np.full(4, 0.1, np.float32), "z": np.zeros(4, np.int8)}
BIAS = {"bq": np.ones(4, np.int32), "bz": np.int32(0)}
SHOWN: dict[str, tuple[str, dict[str, np.ndarray], int]] = {
    "Q01": (PAIR.format(a=""), UNSIGNED, 13),
    "Q02": (PAIR.format(a=""), UNSIGNED, 13),
    "Q03": (PAIR.format(a="<axis = 1>"), CHANNELS, 13),
    "Q04": (LAYER.format(axis=1, rest="b = DequantizeLinear (bq, s, bz)\n y = Gemm (d, w, b)"),
            INT8 | WEIGHT | BIAS, 13),
    "Q05": (LAYER.format(axis=0, rest="y = MatMul (d, w)"), INT8 | WEIGHT, 13),
    "Q06": (LAYER.format(axis=1, rest=BETWEEN), INT8 | WEIGHT, 13),
    "Q07": (RESIDUAL.format(behind="", branch="c", add="y = Add (d2, d)"), INT8 | KERNEL, 13),
    "Q08": (PAIR.format(a="").replace("d = Deq", "y = Deq").replace("y = Relu (d)", ""), INT8, 13),
    "Q09": (PAIR.format(a="").replace("y = Relu (d)", "p = QuantizeLinear (x, s2, z) e = DequantizeLinear (p, s2, z) "
            "y = Concat <axis = 0> (d, e)"), INT8, 13),
    "Q10": (SHAPE, INT8, 13),
    "Q11": (PAIR.format(a="").replace("Relu (d)", "Relu (x)"), INT8, 13),
    "Q12": (PAIR.format(a="").replace("y = Relu (d)", "p = QuantizeLinear (d, s, z) e = DequantizeLinear (p, s, z) "
            "y = Relu (e)"), INT8, 13),
    "Q13": (PAIR.format(a=""), {"s": np.float32(0), "z": np.int8(0)}, 13),
    "Q14": (PAIR.format(a=""), {"s": np.float16(0.1), "z": np.int8(0)}, 13),
    "Q15": (PAIR.format(a="<axis = 1>"), CHANNELS, 12),
    "Q16": (LAYER.format(axis=1, rest="y = MatMul (x, w)"), INT8 | WEIGHT, 13),
    "Q17": (PAIR.format(a="").replace("x) =>", "x, float s) =>"), {"z": np.int8(0)}, 13),
    "Q18": (PAIR.format(a=""), {"s": np.float32(1e-4), "z": np.int16(0)}, 21),
    "Q19": (IF, INT8, 13),
}  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_shown_by_a_graph_and_explained(code: str) -> None:
    text, constants, number = SHOWN[code]
    findings = lint(parse(text, {n: np.asarray(v) for n, v in constants.items()}, opset(number)))
    found = [f for f in findings if f.code == code]
    assert found
    assert all(f.node and f.detail and f.severity == CODES[code].severity for f in found)
    assert CODES[code].severity in ("error", "warning")
    assert all((CODES[code].meaning, CODES[code].tensorrt, CODES[code].remedy))
    assert set(SHOWN) == set(CODES)
