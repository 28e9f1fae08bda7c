"""The error of the outputs for any choice of scales."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse
from quantlab.errors import DataError
from quantlab.ort import Session
from quantlab.tune.scaled_model import ScaledModel


def test_scaled_model_measures_what_the_qdq_model_of_the_same_scales_does() -> None:
    batches = image_batches(2, seed=40)
    table = quantlab.calibrate(conv_net(), image_batches())
    other = quantlab.calibrate(conv_net(), image_batches(), quantlab.Percentile(95))
    made = quantlab.quantize(conv_net(), table)
    probe = ScaledModel(conv_net(), made.model, made.placement.tensors, batches)
    for one in (table, other):
        model = quantlab.quantize(conv_net(), one).model
        want = [Session(conv_net(), optimize=False).run(b)["logits"] for b in batches]
        got = [Session(model, optimize=False).run(b)["logits"] for b in batches]
        error = sum(((w - g).astype(float) ** 2).sum() for w, g in zip(want, got, strict=True))
        power = sum((w.astype(float) ** 2).sum() for w in want)
        assert math.isclose(probe.error(one.amax), error / power, rel_tol=1e-3)


def scaled(model: onnx.ModelProto, batches: list[dict[str, np.ndarray]]) -> tuple[ScaledModel, dict[str, np.float32]]:
    made = quantlab.quantize(model, table := quantlab.calibrate(model, batches, quantlab.MinMax()))
    return ScaledModel(model, made.model, made.placement.tensors, batches), dict(table.amax)


def test_error_is_the_mean_over_the_outputs() -> None:
    text = "m (float[N,6] x) => (float[N,4] y, float[N,4] z) { y = MatMul (x, w)  z = MatMul (x, v) }"
    weights = {"w": floats(6, 4), "v": 100 * floats(6, 4, seed=1)}
    batch = {"x": floats(8, 6)}
    probe, amax = scaled(parse(text, weights), [batch])
    alone = []
    for name, w in (("y", "w"), ("z", "v")):
        one = parse(f"m (float[N,6] x) => (float[N,4] {name}) {{ {name} = MatMul (x, {w}) }}", {w: weights[w]})
        alone.append(scaled(one, [batch])[0].error(amax))
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)
    assert probe.error(amax) == pytest.approx(np.mean(alone), rel=1e-6)


def test_output_that_is_zero_in_fp32_is_right_or_wrong_as_a_whole() -> None:
    text = "m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }"
    zero, other = (parse(text, {"w": w}) for w in (np.zeros((6, 4), np.float32), floats(6, 4)))
    batch = {"x": floats(8, 6)}
    amax = {"x": np.float32(4)}
    for model, error in ((zero, 0.0), (other, 1.0)):
        made = quantlab.quantize(model, quantlab.CalibrationTable(amax)).model
        assert ScaledModel(zero, made, ("x",), [batch]).error(amax) == error


def test_output_that_is_not_finite_is_an_error() -> None:
    text = "m (float[N,T,6] x) => (float[N,T,4] y) { a = MatMul (x, w)  b = Relu (a)  c = Log (b)  y = Neg (c) }"
    probe, amax = scaled(parse(text, {"w": np.abs(floats(6, 4))}), [{"x": np.abs(floats(8, 1, 6)) + np.float32(0.1)}])
    with pytest.raises(DataError, match="an output has NaN or infinity on the held-back batches"):
        probe.error({t: a * np.float32(1e6) for t, a in amax.items()})


def test_scales_of_float_weights_are_not_fed() -> None:
    batches = image_batches(2)
    table = quantlab.calibrate(conv_net(), batches)
    errors = []
    for stored in ("int8", "float"):
        made = quantlab.quantize(conv_net(), table, weights=quantlab.WeightStyle(stored=stored))
        errors.append(ScaledModel(conv_net(), made.model, made.placement.tensors, batches).error(table.amax))
    assert errors[0] == errors[1]
