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


def test_per_channel_activation() -> None:
    constants = {"s": np.full(4, 0.1, np.float32), "z": np.zeros(4, np.int8)}
    assert codes(PAIR.format(a="<axis = 1>"), constants) == ["Q03"]
    old = codes(PAIR.format(a="<axis = 1>"), constants, '<ir_version: 6, opset_import: ["" : 12]>')
    assert old == ["Q03", "Q15"]


def test_half_precision_scale_below_opset_19() -> None:
    assert codes(PAIR.format(a=""), {"s": np.float16(0.1), "z": np.int8(0)}) == ["Q14"]


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
    text = """m (float[N,4,8,8] x) => (float[N,4,8,8] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        w = DequantizeLinear <axis = 0> (kq, ws, wz)
        c = Conv (d, w)
        q2 = QuantizeLinear (c, s, z)
        d2 = DequantizeLinear (q2, s, z)
        y = Add (d2, d)
    }"""
    assert codes(text, INT8 | WEIGHT | {"kq": np.ones((4, 4, 1, 1), np.int8)}) == ["Q07"]


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


def test_every_code_is_shown_by_a_test_above() -> None:
    source = Path(__file__).read_text()
    assert [c for c in CODES if f'"{c}"' not in source] == []


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
    text = """m (float[N,4,8,8] x) => (float[N,4,8,8] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        w = DequantizeLinear <axis = 0> (kq, ws, wz)
        c = Conv (d, w)
        n = BatchNormalization (c, one, zero, zero, one)
        q2 = QuantizeLinear (n, s, z)
        d2 = DequantizeLinear (q2, s, z)
        y = Add (d2, d)
    }"""
    kernel = WEIGHT | {"kq": np.ones((4, 4, 1, 1), np.int8)}
    vectors = {"one": np.ones(4, np.float32), "zero": np.zeros(4, np.float32)}
    assert "Q07" in codes(text, INT8 | kernel | vectors)
