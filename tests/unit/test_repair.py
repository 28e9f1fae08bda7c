"""Graphs of other tools taken apart and made anew: scales that are read, and proofs that must hold."""

from __future__ import annotations

import numpy as np
import pytest

import quantlab
from models import floats, parse
from quantlab.qdq import import_scales, repair, requantize

INT8 = {"s": np.float32(0.1), "z": np.int8(0), "s2": np.float32(0.2)}
PAIR = """m (float[N,4] x) => (float[N,4] y) {{
    q = QuantizeLinear {a} (x, s, z)
    d = DequantizeLinear {a} (q, s, z)
    y = Relu (d)
}}"""


def test_sixteen_bit_scale_becomes_the_int8_scale_of_its_range() -> None:
    header = '<ir_version: 10, opset_import: ["" : 21]>'
    model = parse(PAIR.format(a=""), {"s": np.asarray(np.float32(1e-4)), "z": np.asarray(np.int16(0))}, header)
    assert import_scales(model).amax["x"] == pytest.approx(3.2767)


def test_clip_that_the_zero_point_stood_for_keeps_both_its_ends() -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        q = QuantizeLinear (x, s, z)
        y = DequantizeLinear (q, s, z)
    }"""
    model = parse(text, {"s": np.asarray(np.float32(6 / 255)), "z": np.asarray(np.int8(-128))})
    from quantlab.ort import Session
    from quantlab.qdq import strip

    stripped = strip(model)
    x = np.array([[-3, 1, 5.5, 40]], np.float32)
    np.testing.assert_allclose(Session(stripped.model).run({"x": x})["y"], [[0, 1, 5.5, 6]], rtol=1e-6)
    assert any("a Clip takes the place" in note for note in stripped.notes)
    assert set(import_scales(model).amax) == {"x"}


def test_learned_scale_of_a_float_weight_is_kept() -> None:
    w = floats(4, 4, scale=0.5)
    w[0, 0] = 30
    text = """m (float[N,4] x) => (float[N,4] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        a = QuantizeLinear (w, ws, z)
        b = DequantizeLinear (a, ws, z)
        y = MatMul (d, b)
    }"""
    model = parse(
        text,
        {"s": np.asarray(np.float32(0.03)), "z": np.asarray(np.int8(0)), "ws": np.asarray(np.float32(3 / 127)), "w": w},
    )
    result = repair(model, min_sqnr_db=40)
    assert result.after == ()


def test_nan_is_never_proof() -> None:
    model = parse(PAIR.format(a=""), {"s": np.asarray(np.float32(np.nan)), "z": np.asarray(np.int8(0))})
    with pytest.raises(quantlab.QuantlabError, match="NaN, infinite or negative"):
        repair(model)
    text = """m (float[N,4] x) => (float[N,4] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        o = Sub (d, d)
        y = Div (o, o)
    }"""
    nan = parse(text, {n: np.asarray(v) for n, v in INT8.items()})
    with pytest.raises(quantlab.QuantlabError, match="NaN or infinity"):
        repair(nan)


def test_model_with_integer_outputs_only_is_refused_with_a_reason() -> None:
    text = """m (float[N,4] x) => (int64[N] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        y = ArgMax <axis = 1, keepdims = 0> (d)
    }"""
    model = parse(text, {n: np.asarray(v) for n, v in INT8.items()})
    with pytest.raises(quantlab.QuantlabError, match="no floating point output to compare"):
        repair(model)


def test_shared_scale_is_said_by_requantize() -> None:
    text = """m (float[N,4,2,2] x) => (float[N,4,2,2] y) {
        qx = QuantizeLinear (x, s, z)
        dx = DequantizeLinear (qx, s, z)
        a = Conv (dx, w)
        b = Conv (dx, w)
        qa = QuantizeLinear (a, s, z)
        da = DequantizeLinear (qa, s, z)
        qb = QuantizeLinear (b, big, z)
        db = DequantizeLinear (qb, big, z)
        c = Concat <axis = 1> (da, db)
        qc = QuantizeLinear (c, big, z)
        dc = DequantizeLinear (qc, big, z)
        y = Conv (dc, u)
    }"""
    constants = INT8 | {"big": np.float32(4.0), "w": floats(4, 4, 1, 1), "u": floats(4, 8, 1, 1)}
    result = requantize(parse(text, {n: np.asarray(v) for n, v in constants.items()}))
    assert any(note.startswith("'a' shares a scale and gives up 32.0 dB") for note in result.notes)
