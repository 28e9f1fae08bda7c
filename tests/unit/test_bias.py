"""Bias correction: the mean shift of every layer is gone, and nothing else has changed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, image_batches, initializers, parse, quantized, run
from quantlab.errors import DataError
from quantlab.qdq import lint
from quantlab.tune.bias import correct_bias


def test_single_layer_has_the_mean_of_fp32_afterwards() -> None:
    model = parse(
        "m (float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv (x, w, b) }", {"w": floats(4, 3, 1, 1), "b": floats(4)}
    )
    batches = [{"x": np.abs(floats(8, 3, 8, 8, seed=k)) ** 3} for k in range(3)]
    coarse = quantlab.quantize(model, quantlab.CalibrationTable({"x": np.float32(4)}))  # much saturates
    fixed = correct_bias(model, coarse, batches)

    def means(m: onnx.ModelProto) -> np.ndarray:
        return np.concatenate([run(m, b)[0] for b in batches]).mean(axis=(0, 2, 3))

    want = means(model)
    assert np.abs(means(coarse.model) - want).max() > 0.1
    np.testing.assert_allclose(means(fixed.model), want, atol=1e-4)


@pytest.mark.parametrize("opset", [13, 18])
def test_network_gets_closer_and_only_biases_change(opset: int) -> None:
    model = conv_net()
    model.opset_import[0].version = opset
    batches = image_batches(6, 8)
    coarse = quantlab.quantize(model, quantlab.calibrate(model, batches, quantlab.Percentile(97)))
    fixed = correct_bias(model, coarse, batches)
    result = quantlab.compare(model, {"before": coarse.model, "after": fixed.model}, image_batches(4, 8, seed=70))
    assert result.results[2].worst_sqnr_db > result.results[1].worst_sqnr_db + 1
    before, after = initializers(coarse.model), initializers(fixed.model)
    changed = {n for n in before if n not in after or not np.array_equal(before[n], after[n])}
    assert changed == {"b1", "b3"}
    assert set(after) - set(before) == {"a_bias", "c_bias", "logits_bias"}  # the second convolution had none
    assert [n.op_type for n in fixed.model.graph.node] == [n.op_type for n in coarse.model.graph.node]
    assert fixed.warnings[-1] == "the biases of 3 layers were corrected with 48 samples"
    assert lint(fixed.model) == []


def test_shared_bias_is_corrected_for_each_layer_alone() -> None:
    text = """m (float[N,3,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] z) {
        y = Conv (x, w, b)
        z = Conv (x, v, b)
    }"""
    model = parse(text, {"w": floats(4, 3, 1, 1), "v": floats(4, 3, 1, 1, seed=1), "b": floats(4)})
    batches = [{"x": np.abs(floats(8, 3, 8, 8)) ** 3}]
    coarse = quantlab.quantize(model, quantlab.CalibrationTable({"x": np.float32(4)}))
    fixed = correct_bias(model, coarse, batches)
    for got, want in zip(run(fixed.model, batches[0]), run(model, batches[0]), strict=True):
        np.testing.assert_allclose(got.mean(axis=(0, 2, 3)), want.mean(axis=(0, 2, 3)), atol=1e-4)
    assert "b" not in initializers(fixed.model)


def test_computed_bias_and_matmul_are_left_alone() -> None:
    text = """m (float[N,3,8,8] x, float[4] b) => (float[N,4,8,8] y) { y = Conv (x, w, b) }"""
    model = parse(text, {"w": floats(4, 3, 1, 1)})
    batch = {"x": floats(2, 3, 8, 8), "b": floats(4)}
    with pytest.raises(DataError, match="no layer of the model has a bias that can be corrected"):
        correct_bias(model, quantized(model, [batch]), [batch])


def test_no_batches_raise() -> None:
    with pytest.raises(DataError, match="no batches to correct"):
        correct_bias(conv_net(), quantized(conv_net(), image_batches()), [])


def test_quantize_command_corrects_biases_with_data(cli, tmp_path) -> None:  # type: ignore[no-untyped-def]
    onnx.save(conv_net(), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", floats(40, 3, 8, 8))
    cli("calibrate", tmp_path / "m.onnx", "--data", tmp_path / "x.npy", "-o", tmp_path / "t.json")
    args = ("quantize", tmp_path / "m.onnx", "--table", tmp_path / "t.json", "-o", tmp_path / "q.onnx")
    result = cli(*args, "--correct-bias", "--data", tmp_path / "x.npy")
    assert result.code == 0, result.err
    assert "biases of 3 layers were corrected with 40 samples" in result.err
    for wrong in (("--correct-bias",), ("--data", tmp_path / "x.npy")):
        refused = cli(*args, *wrong)
        assert refused.code == 2
        assert "--correct-bias" in refused.err


def test_bias_correction_of_float_weights_equals_that_of_int8() -> None:
    table = quantlab.calibrate(conv_net(), image_batches())
    outputs = []
    for stored in ("int8", "float"):
        result = quantlab.quantize(conv_net(), table, weights=quantlab.WeightStyle(stored=stored))
        corrected = quantlab.correct_bias(conv_net(), result, image_batches())
        outputs.append(run(corrected.model, image_batches(1)[0])[0])
    np.testing.assert_array_equal(*outputs)
