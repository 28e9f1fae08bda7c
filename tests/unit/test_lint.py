"""The smallest graphs on which each code of the linter does and does not hold."""

from __future__ import annotations

import numpy as np
import pytest

from lint_parts import INT8, KERNEL, LAYER, PAIR, RESIDUAL, WEIGHT, codes, opset
from models import parse
from quantlab.qdq import lint


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


def test_weight_axis() -> None:
    assert codes(LAYER.format(axis=1, rest="y = MatMul (d, w)"), INT8 | WEIGHT) == []
    assert codes(LAYER.format(axis=0, rest="y = MatMul (d, w)"), INT8 | WEIGHT) == ["Q05"]
    assert codes(LAYER.format(axis=0, rest="y = Gemm <transB = 1> (d, w)"), INT8 | WEIGHT) == []


def test_grouped_transposed_convolution_needs_one_scale() -> None:
    text = """m (float[N,4,6,6] x) => (float[A,B,C,D] y) {{
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        w = DequantizeLinear <axis = 1> (kq, ws, wz)
        c = ConvTranspose <group = {group}> (d, w)
        q2 = QuantizeLinear (c, s, z)  # a grouped kernel writes INT8 only
        d2 = DequantizeLinear (q2, s, z)
        y = MaxPool <kernel_shape = [2,2]> (d2)
    }}"""
    constants = INT8 | {
        "ws": np.full(2, 0.1, np.float32),
        "wz": np.zeros(2, np.int8),
        "kq": np.ones((4, 2, 3, 3), np.int8),
    }
    (finding,) = lint(parse(text.format(group=2), {n: np.asarray(v) for n, v in constants.items()}))
    assert (finding.code, finding.detail) == ("Q05", "axis 1, ConvTranspose 'c' needs one scale for the whole tensor")
    one = constants | {"ws": np.float32(0.1), "wz": np.int8(0)}
    assert codes(text.format(group=2), one) == []
    assert codes(text.format(group=1), constants) == []


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
