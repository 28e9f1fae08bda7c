"""Graphs of other tools taken apart and made anew: scales that are read, and proofs that must hold."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from models import floats, parse
from quantlab.errors import DataError, GraphError
from quantlab.ort import Session
from quantlab.qdq import MIN_SQNR_DB, import_scales, repair, requantize, strip

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
    with pytest.raises(quantlab.QuantlabError, match="constant 's' of node .* has NaN"):
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


def test_shared_scale_is_noted_by_requantize() -> None:
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


# --- the proof


def pairs_beside(batch: str = "N") -> onnx.ModelProto:
    """Two outputs: y moves by what its weight loses, t by the coarser scale of a symmetric range as well."""
    text = f"""m (float[{batch},4] x) => (float[{batch},4] y, float[{batch},4] t) {{
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        y = MatMul (d, w)
        a = Neg (x)
        k = QuantizeLinear (a, s, off)
        e = DequantizeLinear (k, s, off)
        t = MatMul (e, w)
    }}"""
    given = {"s": np.float32(0.05), "z": np.int8(0), "off": np.int8(60), "w": floats(4, 4)}
    return parse(text, {n: np.asarray(v) for n, v in given.items()})


def inputs(*sizes: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    return [{"x": floats(size, 4, seed=seed + k)} for k, size in enumerate(sizes)]


def test_output_that_moves_most_decides_and_is_named() -> None:
    result = repair(pairs_beside(), inputs(8), min_sqnr_db=0)
    moved = result.moved["t"].sqnr_db
    assert 20 < moved < result.moved["y"].sqnr_db - 3 < 60
    with pytest.raises(GraphError, match=rf"would move output 't' to {moved:.1f} dB SQNR, less than 60 Hint: quantize"):
        repair(pairs_beside(), inputs(8), min_sqnr_db=60)
    assert repair(pairs_beside(), inputs(8), min_sqnr_db=moved).moved["t"].sqnr_db == moved  # the bound itself will do


def test_least_that_a_repair_must_keep_is_fifteen_db() -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        y = MatMul (d, w)
    }"""

    def moved(zero_point: int) -> tuple[onnx.ModelProto, list[dict[str, np.ndarray]]]:
        constants = {"s": np.asarray(np.float32(1)), "z": np.asarray(np.int8(zero_point)), "w": floats(4, 4)}
        return parse(text, constants), [{"x": 90 * floats(64, 4)}]

    model, batches = moved(127)  # values above 0 are cut by the given model, and not by the repaired one
    with pytest.raises(GraphError, match="the repair would move output 'y' to .* dB SQNR, less than 15"):
        repair(model, batches)
    assert repair(model, batches, min_sqnr_db=-20).moved["y"].sqnr_db < 15
    assert MIN_SQNR_DB == 15


def test_proof_is_over_all_batches_and_samples() -> None:
    parts, whole = inputs(3, 5), inputs(3, 5)
    joined = [{"x": np.concatenate([b["x"] for b in whole])}]
    one, other = repair(pairs_beside(), parts), repair(pairs_beside(), joined)
    assert one.samples == other.samples == 8
    assert not one.made_up
    assert one.moved["t"].sqnr_db == pytest.approx(other.moved["t"].sqnr_db, abs=1e-9)
    assert one.moved["t"].max_abs == other.moved["t"].max_abs
    assert one.moved["t"].sqnr_db != pytest.approx(repair(pairs_beside(), parts[1:]).moved["t"].sqnr_db, abs=1e-3)


def test_short_last_batch_of_a_fixed_batch_model_is_left_out() -> None:
    model = pairs_beside("3")
    whole, short = repair(model, inputs(3, 3)), repair(model, inputs(3, 3, 2))
    assert short.samples == whole.samples == 6
    assert short.moved == whole.moved
    assert short.notes == (*whole.notes, "the last 2 samples do not fill a batch of 3 and were left out")
    with pytest.raises(DataError, match="^batch 0, it has 2 samples, the network takes 3"):
        repair(model, inputs(2))
    with pytest.raises(DataError, match="^batch 1, it has 2 samples, the network takes 3"):
        repair(model, inputs(3, 2, 3))


def test_proof_without_a_batch_is_none() -> None:
    with pytest.raises(DataError, match="there is no output to compare Hint: give at least one batch"):
        repair(pairs_beside(), [])


@pytest.mark.parametrize(("batch", "samples"), [("N", 8), ("3", 9), ("8", 8), ("20", 20)])
def test_without_data_at_least_eight_samples_are_made_up(batch: str, samples: int) -> None:
    result = repair(pairs_beside(batch))
    assert (result.samples, result.made_up) == (samples, True)
    assert result.moved == repair(pairs_beside(batch)).moved


def test_integers_that_are_a_quantity_are_asked_for_by_name() -> None:
    text = """m (int64[N,4] x) => (float[N,4] y) {
        f = Cast <to = 1> (x)
        q = QuantizeLinear (f, s, z)
        d = DequantizeLinear (q, s, z)
        y = MatMul (d, w)
    }"""
    model = parse(text, {n: np.asarray(v) for n, v in INT8.items()} | {"w": floats(4, 4)})
    with pytest.raises(
        GraphError,
        match="values of input 'x' cannot be made up: it is a quantity that QuantizeLinear reads Hint: give --data",
    ):
        repair(model)
    result = repair(model, [{"x": np.arange(8).reshape(2, 4)}])
    assert (result.samples, result.made_up) == (2, False)


def test_batch_that_does_not_fit_is_named_by_its_number() -> None:
    with pytest.raises(DataError, match="^batch 1, input 'x': got float64"):
        repair(pairs_beside(), [*inputs(2), {"x": np.zeros((2, 4))}])


def test_layers_of_one_name_are_kept_apart() -> None:
    text = """m (float[N,4] x) => (float[N,4] y, float[N,4] t) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        y = MatMul (d, w)
        t = MatMul (x, w)
    }"""
    model = parse(text, {n: np.asarray(v) for n, v in INT8.items()} | {"w": floats(4, 4)})
    for node in model.graph.node:
        node.name = "same"
    result = repair(model)
    assert [s.reason for s in result.placement.skipped] == ["it was float in the given model"]
    assert [tensor for _, _, tensor in result.placement.activations] == ["x"]
    assert result.moved["t"].sqnr_db == np.inf


def test_layer_with_one_quantized_operand_was_not_float() -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        y = MatMul (d, w)
    }"""
    model = parse(text, {n: np.asarray(v) for n, v in INT8.items()} | {"w": floats(4, 4)})
    result = repair(model)
    assert [f.code for f in result.before] == ["Q16"]
    assert result.placement.skipped == ()
    assert result.after == ()


def test_one_scale_in_a_vector_of_one_serves_where_one_scale_is_wanted() -> None:
    text = """m (float[N,4,6,6] x) => (float[N,4,8,8] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        w = DequantizeLinear <axis = 0> (codes, ws, wz)
        a = ConvTranspose <group = 2> (d, w)
        qa = QuantizeLinear (a, s2, z)
        da = DequantizeLinear (qa, s2, z)
        v = DequantizeLinear (others, s, z)
        y = Conv (da, v)
    }"""
    codes = np.random.default_rng(0).integers(-90, 90, (4, 2, 3, 3)).astype(np.int8)
    given = {n: np.asarray(v) for n, v in INT8.items()}
    given |= {"codes": codes, "ws": np.full(1, 0.02, np.float32), "wz": np.zeros(1, np.int8)}
    given |= {"others": np.random.default_rng(1).integers(-90, 90, (4, 4, 1, 1)).astype(np.int8)}
    repaired = repair(parse(text, given))
    assert {site.axis for site in repaired.placement.weights} == {None, 0}
    assert repaired.moved["y"].sqnr_db == np.inf
