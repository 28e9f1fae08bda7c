"""Weights: granularity, storage, what every channel loses."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

import quantlab
from models import conv_net, floats, image_batches, initializers, parse, run
from quantlab import WeightStyle
from quantlab.onnx_model import attribute
from quantlab.qdq import lint


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_float_weights_behind_pairs_give_the_same_outputs() -> None:
    table = quantlab.calibrate(conv_net(), image_batches())
    stored, kept = (
        quantlab.quantize(conv_net(), table, weights=WeightStyle(stored=s)).model for s in ("int8", "float")
    )
    batch = image_batches(1)[0]
    np.testing.assert_array_equal(run(stored, batch)[0], run(kept, batch)[0])
    ops = [n.op_type for n in kept.graph.node]
    assert ops.count("QuantizeLinear") == [n.op_type for n in stored.graph.node].count("QuantizeLinear") + 3
    np.testing.assert_array_equal(initializers(kept)["w2"], initializers(conv_net())["w2"])
    assert lint(kept) == []


def test_one_scale_per_weight_costs_what_the_channels_differ() -> None:
    w = floats(6, 4, seed=1) * np.array([1, 1, 1, 0.01], np.float32)
    model = parse("m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }", {"w": w})
    table = quantlab.calibrate(model, [{"x": floats(8, 6)}])
    fine = quantlab.quantize(model, table)
    coarse = quantlab.quantize(model, table, weights=WeightStyle(per_channel=False))
    assert initializers(coarse.model)["w_scale"] == np.abs(w).max() / np.float32(127)
    assert initializers(fine.model)["w_scale"].shape == (4,)
    assert fine.weight_errors[0].sqnr_db.shape == (4,)
    assert coarse.weight_errors[0].sqnr_db.shape == (1,)


def test_weight_errors_are_those_of_the_stored_codes() -> None:
    w = floats(5, 3, 3, 3, seed=2)
    w[1] = 0
    model = parse("m (float[N,3,8,8] x) => (float[N,5,6,6] y) { y = Conv (x, w) }", {"w": w})
    result = quantlab.quantize(model, quantlab.calibrate(model, [{"x": floats(2, 3, 8, 8)}]))
    (error,) = result.weight_errors
    constants = initializers(result.model)
    back = constants["w_quantized"].astype(np.float64) * constants["w_scale"].reshape(-1, 1, 1, 1)
    for channel in (0, 2, 3, 4):
        noise = np.square(w[channel] - back[channel]).sum()
        wanted = 10 * np.log10(np.square(w[channel].astype(np.float64)).sum() / noise)
        # the dequantized values are float32: their rounding is 2^-24 of values whose error is up to 2^-8
        assert error.sqnr_db[channel] == pytest.approx(wanted, rel=1e-4)
    assert error.sqnr_db[1] == np.inf
    assert error.dead == 1
    assert error.worst_channel == int(np.argmin(error.sqnr_db))
    assert any("1 of 5 channels are all zero" in w for w in result.warnings)


def test_unknown_storage_of_weights_is_refused() -> None:
    with pytest.raises(quantlab.QuantlabError, match="cannot be stored as 'int4'"):
        WeightStyle(stored="int4")


@pytest.mark.parametrize("operation", ["Mul (c, k)", "Mul (k, c)", "Div (c, k)", "Add (c, k)", "Sub (c, k)"])
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (4, 1, 1), (1,), ()])
def test_scaling_of_channels_becomes_part_of_the_convolution(operation: str, shape: tuple[int, ...]) -> None:
    text = f"m (float[N,3,8,8] x) => (float[N,4,8,8] y) {{ c = Conv (x, w, b)  n = {operation}  y = Relu (n) }}"
    weights = {"w": floats(4, 3, 1, 1), "b": floats(4, seed=1), "k": np.abs(floats(*shape, seed=2)) + np.float32(0.5)}
    model, batch = parse(text, weights), {"x": floats(2, 3, 8, 8)}
    prepared = quantlab.qdq.prepare(model)
    assert [n.op_type for n in prepared.graph.node] == ["Conv", "Relu"]
    np.testing.assert_allclose(run(prepared, batch)[0], run(model, batch)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("operation", "shape"),
    [("Sub (k, c)", (4, 1, 1)), ("Div (k, c)", (4, 1, 1)), ("Mul (c, k)", (8, 8)), ("Mul (c, k)", (2, 4, 1, 1))],
)
def test_what_is_no_scaling_of_channels_stays(operation: str, shape: tuple[int, ...]) -> None:
    text = f"m (float[N,3,8,8] x) => (float[N,4,8,8] y) {{ c = Conv (x, w)  n = {operation}  y = Relu (n) }}"
    model = parse(text, {"w": floats(4, 3, 1, 1), "k": floats(*shape)})
    assert len(quantlab.qdq.prepare(model).graph.node) == 3


def test_cast_without_effect_does_not_hide_the_skip() -> None:
    text = """m (float[N,4,H,W] x) => (float[N,4,H,W] y) {
        a = Relu (x)
        k = Cast <to = 1> (a)
        c = Conv (a, w)
        y = Add (c, k)
    }"""
    model = parse(text, {"w": floats(4, 4, 1, 1)})
    result = quantlab.quantize(model, quantlab.calibrate(model, [{"x": floats(2, 4, 8, 8)}]))
    assert [op for op in (n.op_type for n in result.model.graph.node) if op == "Cast"] == []
    assert [(i, t) for _, i, t in result.placement.activations] == [(0, "a"), (1, "a")]


@pytest.mark.parametrize(
    ("second", "merged"),
    [
        ((ints(0), ints(8), ints(3), ints(2)), True),
        ((ints(1), ints(100), ints(-1), ints(1)), True),
        ((ints(0), ints(4), ints(2), ints(1)), False),  # the same axis twice: the second counts in the first's result
    ],
)
def test_slices_of_different_axes_become_one(second: tuple[np.ndarray, ...], merged: bool) -> None:
    text = """m (float[2,4,8,8] x) => (float[A,B,C,D] y) {
        s = Slice (x, b1, e1, a1, t1)
        y = Slice (s, b2, e2, a2, t2)
    }"""
    first = {"b1": ints(7), "e1": ints(-100), "a1": ints(2), "t1": ints(-2)}
    model = parse(text, first | dict(zip(("b2", "e2", "a2", "t2"), second, strict=True)))
    prepared, batch = quantlab.qdq.prepare(model), {"x": floats(2, 4, 8, 8)}
    assert len(prepared.graph.node) == (1 if merged else 2)
    np.testing.assert_array_equal(run(prepared, batch)[0], run(model, batch)[0])


def test_slice_that_others_read_is_not_merged() -> None:
    text = """m (float[2,4,8,8] x) => (float[A,B,C,D] y, float[E,F,G,H] z) {
        s = Slice (x, b, e, a)
        y = Slice (s, b, e, c)
        z = Relu (s)
    }"""
    model = parse(text, {"b": ints(0), "e": ints(4), "a": ints(2), "c": ints(3)})
    assert [n.op_type for n in quantlab.qdq.prepare(model).graph.node] == ["Slice", "Slice", "Relu"]


def test_convolution_with_quantized_weights_says_its_kernel_shape() -> None:
    table = quantlab.calibrate(conv_net(), image_batches())
    nodes = quantlab.quantize(conv_net(), table).model.graph.node
    shapes = [{a.name: list(a.ints) for a in n.attribute}["kernel_shape"] for n in nodes if n.op_type == "Conv"]
    assert shapes == [[3, 3], [3, 3]]


def test_slices_keep_their_steps_and_count_axes_from_either_end() -> None:
    text = """m (float[2,4,8,8] x) => (float[A,B,C,D] y) {
        s = Slice (x, b1, e1, a1, t1)
        y = Slice (s, b2, e2, a2, t2)
    }"""
    first = {"b1": ints(0, 1), "e1": ints(4, 100), "a1": ints(-3, 2), "t1": ints(3, 2)}
    model = parse(text, first | {"b2": ints(7), "e2": ints(-9), "a2": ints(-1), "t2": ints(-3)})
    prepared, batch = quantlab.qdq.prepare(model), {"x": floats(2, 4, 8, 8)}
    assert len(prepared.graph.node) == 1
    np.testing.assert_array_equal(run(prepared, batch)[0], run(model, batch)[0])
    same = parse(text, first | {"b2": ints(0), "e2": ints(1), "a2": ints(1), "t2": ints(1)})  # axis 1 is axis -3
    assert len(quantlab.qdq.prepare(same).graph.node) == 2
    np.testing.assert_array_equal(run(quantlab.qdq.prepare(same), batch)[0], run(same, batch)[0])


def test_slice_that_is_an_output_is_not_merged() -> None:
    text = """m (float[2,4,8,8] x) => (float[A,B,C,D] y, float[E,F,G,H] s) {
        s = Slice (x, b, e, a)
        y = Slice (s, b, e, c)
    }"""
    model = parse(text, {"b": ints(0), "e": ints(4), "a": ints(2), "c": ints(3)})
    assert [n.op_type for n in quantlab.qdq.prepare(model).graph.node] == ["Slice", "Slice"]


def test_kernel_shape_is_that_of_the_weight_for_every_convolution_and_of_no_other_layer() -> None:
    text = """m (float[N,3,8,8] x) => (float[N,5,6,4] y) {
        a = Conv (x, w)
        y = ConvTranspose <kernel_shape = [1,1]> (a, v)
    }"""
    model = parse(text, {"w": floats(4, 3, 3, 5), "v": floats(4, 5, 1, 1, seed=1)})
    batch = {"x": floats(2, 3, 8, 8)}
    result = quantlab.quantize(model, quantlab.calibrate(model, [batch], quantlab.MinMax()))
    shapes = {n.output[0]: attribute(n, "kernel_shape", None) for n in result.model.graph.node if "Conv" in n.op_type}
    assert shapes == {"a": [3, 5], "y": [1, 1]}
    gemm = [n for n in quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), image_batches())).model.graph.node
            if n.op_type == "Gemm"]  # fmt: skip
    assert [attribute(n, "kernel_shape", None) for n in gemm] == [None]


def test_one_scale_of_a_weight_serves_every_channel_and_one_of_another_axis_none() -> None:
    text = "m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }"
    w = np.clip(floats(6, 4), -1, 1)
    prepared = quantlab.qdq.prepare(parse(text, {"w": w}))
    placement = quantlab.qdq.plan(prepared)
    for given, scales in (
        ((np.asarray(np.float32(2.54)), None), np.full(4, 0.02, np.float32)),
        ((np.full(4, 1.27, np.float32), 1), np.full(4, 0.01, np.float32)),
        ((np.full(6, 1.27, np.float32), 0), np.abs(w).max(axis=0) / np.float32(127)),  # of the rows: of no use here
    ):
        made = quantlab.qdq.insert(prepared, placement, lambda _: np.asarray(np.float32(0.1)), weight_amax={"w": given})
        np.testing.assert_allclose(initializers(made.model)["w_scale"], scales, rtol=1e-6)


def test_result_of_insertion_that_is_not_valid_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    table = quantlab.calibrate(conv_net(), image_batches())
    answers = iter(["broken", None])  # the Q/DQ model, then the prepared one
    monkeypatch.setattr(import_module("quantlab.qdq.insert"), "why_invalid", lambda model: next(answers))
    with pytest.raises(quantlab.QuantlabError, match="the Q/DQ model is not valid ONNX: broken Hint: please report"):
        quantlab.quantize(conv_net(), table)
