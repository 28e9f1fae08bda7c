"""The error of the outputs for any values of the constants that are fed."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse
from quantlab.errors import DataError
from quantlab.numerics import scale_from_amax
from quantlab.ort import Session
from quantlab.tune.fed_model import FedModel

TWO = "m (float[N,6] x) => (float[N,4] y, float[N,4] z) { y = MatMul (x, w)  z = MatMul (x, v) }"
ONE = "m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }"


def errors(
    fp32: onnx.ModelProto, made: quantlab.Quantized, amax: dict[str, np.float32], batches: list[dict[str, np.ndarray]]
) -> np.ndarray:
    scale = {n.input[0]: n.input[1] for n in made.model.graph.node if n.op_type == "QuantizeLinear"}
    wanted = {scale[t]: scale_from_amax(amax[t]).reshape(()) for t in made.placement.tensors}
    model = FedModel(fp32, made.model, wanted)
    return model.errors(wanted, model.samples(batches))


def test_errors_of_fed_scales_are_those_of_the_qdq_model_with_them_sample_by_sample() -> None:
    batches = image_batches(2, seed=40)
    table, other = (quantlab.calibrate(conv_net(), image_batches(), a) for a in ("entropy", quantlab.Percentile(95)))
    made = quantlab.quantize(conv_net(), table)
    for one in (table, other):
        model = quantlab.quantize(conv_net(), one).model
        want, got = (
            np.concatenate([Session(m, optimize=False).run(b)["logits"] for b in batches]).astype(float)
            for m in (conv_net(), model)
        )
        expected = ((want - got) ** 2).sum(axis=1) / (want**2).sum()
        np.testing.assert_allclose(errors(conv_net(), made, dict(one.amax), batches), expected, rtol=1e-3)


def test_error_is_that_of_the_worst_output_by_its_own_power() -> None:
    weights = {"w": floats(6, 4), "v": 100 * floats(6, 4, seed=1)}
    batches, amax = [{"x": floats(8, 6)}], {"x": np.float32(3)}
    table = quantlab.CalibrationTable(amax)
    alone = []
    for w in ("w", "v"):
        model = parse(ONE, {"w": weights[w]})
        alone.append(errors(model, quantlab.quantize(model, table), amax, batches).sum())
    both = parse(TWO, weights)
    got = errors(both, quantlab.quantize(both, table), amax, batches).sum()
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)
    assert math.isclose(got, max(alone), rel_tol=1e-6)


def test_output_that_is_zero_in_fp32_is_right_or_wrong_as_a_whole() -> None:
    zero, other = (parse(ONE, {"w": w}) for w in (np.zeros((6, 4), np.float32), floats(6, 4)))
    amax = {"x": np.float32(4)}
    for model, error in ((zero, 0.0), (other, 1.0)):
        made = quantlab.quantize(model, quantlab.CalibrationTable(amax))
        assert errors(zero, made, amax, [{"x": floats(8, 6)}]).sum() == error


def test_output_that_is_not_finite_is_infinitely_wrong_and_of_fp32_an_error() -> None:
    text = "m (float[N,T,6] x) => (float[N,T,4] y) { a = MatMul (x, w)  b = Relu (a)  c = Log (b)  y = Neg (c) }"
    model = parse(text, {"w": np.abs(floats(6, 4))})
    batches = [{"x": np.abs(floats(8, 1, 6)) + np.float32(0.1)}]
    made = quantlab.quantize(model, quantlab.calibrate(model, batches, "minmax"))
    assert np.isinf(errors(model, made, {t: np.float32(1e6) for t in made.placement.tensors}, batches)).all()
    with pytest.raises(DataError, match="output 'y' of FP32 has NaN or infinity"):
        FedModel(model, made.model, []).samples([{"x": -batches[0]["x"]}])
