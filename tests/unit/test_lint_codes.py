"""Every code of the linter on a graph that shows it, and what a user sees of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from lint_parts import DEPTHWISE, DEPTHWISE_CODES, INT8, KERNEL, LAYER, PAIR, RESIDUAL, WEIGHT, opset, pointwise
from models import conv_net, floats, image_batches, parse
from quantlab.qdq import lint
from quantlab.qdq.codes import CODES

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

FLOAT_CLIP = """m (float[N,4,8,8] x) => (float[N,4,8,8] y) {
    c = Conv (x, w)
    r = Clip (c, low, high)
    q = QuantizeLinear (r, s, z)
    d = DequantizeLinear (q, s, z)
    v = DequantizeLinear (vq, s, z)
    y = Conv (d, v)
}"""

CLIPPED = INT8 | {"w": floats(4, 4, 1, 1), "vq": np.ones((4, 4, 1, 1), np.int8), "low": np.float32(0),
                  "high": np.float32(0.4)}  # fmt: skip

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
    "Q20": (DEPTHWISE.format(rest=pointwise("y", "a") + "o = Softmax (a)", more=", float[N,8,6,6] o"),
            DEPTHWISE_CODES, 13),
    "Q21": (DEPTHWISE.format(rest="h = HardSigmoid (a)  r = Mul (a, h)  " + pointwise("y", "r"), more=""),
            DEPTHWISE_CODES, 13),
    "Q22": (DEPTHWISE.format(rest="y = Relu (a)", more=""), DEPTHWISE_CODES, 13),
    "Q24": (FLOAT_CLIP, CLIPPED, 13),
    "Q25": ("m (float[N,4] x) => (float[N,1] y) { y = ReduceMean (x, a) }", {"a": np.int64([1])}, 18),
    "Q23": ("m (float[N,4] x) => (float[N,4] y) { y = MatMul (x, w) }", {"w": np.full((4, 4), np.nan, np.float32)}, 13),
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
