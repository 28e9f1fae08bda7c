"""Bias correction: the mean shift of every layer is gone, and nothing else has changed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, image_batches, initializers, parse, quantized, run
from quantlab.calibration.made_from import read_origin
from quantlab.errors import DataError, GraphError
from quantlab.qdq import EVERYTHING, lint
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


@pytest.mark.parametrize("opset", [13, 17, 18])
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


@pytest.mark.parametrize("seed", [0, 50])
def test_model_says_with_which_samples_its_biases_were_corrected(seed: int) -> None:
    model, others = conv_net(), image_batches(6, 8, seed=seed)
    table = quantlab.calibrate(model, image_batches(6, 8), quantlab.Percentile(97))
    fixed = correct_bias(model, quantlab.quantize(model, table), others)
    known = read_origin(fixed.model)
    corrected = known["biases_corrected"]
    assert (corrected["samples"], corrected["preprocess"]) == (48, None)
    assert known["samples_hash"] == table.provenance.samples_hash
    assert (corrected["samples_hash"] == known["samples_hash"]) == (seed == 0)
    assert any("corrected with other samples" in warning for warning in fixed.warnings) == (seed != 0)


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
    assert "the biases were left as they are: correcting them is no clear gain" in result.err  # entropy hardly shifts
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


def biases(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The new biases by name."""
    return {name: values for name, values in initializers(model).items() if name.endswith("_bias")}


def test_gemm_that_scales_its_bias_is_left_alone() -> None:
    text = """m (float[N,6] x) => (float[N,4] y) {{
        a = Gemm <beta = {beta}> (x, w, b)
        y = Gemm (a, v, b)
    }}"""
    weights = {"w": floats(6, 4), "b": floats(4), "v": floats(4, 4, seed=1)}
    batch = {"x": np.abs(floats(16, 6, seed=2)) ** 3}
    table = quantlab.CalibrationTable({"x": np.float32(1), "a": np.float32(1)})
    for beta, corrected in ((1.0, {"a_bias", "y_bias"}), (0.5, {"y_bias"})):
        model = parse(text.format(beta=beta), weights)
        assert set(biases(correct_bias(model, quantlab.quantize(model, table), [batch]).model)) == corrected


@pytest.mark.parametrize("shape", [(1, 4), ()])
def test_bias_that_is_no_vector_is_left_alone(shape: tuple[int, ...]) -> None:
    model = parse("m (float[N,6] x) => (float[N,4] y) { y = Gemm (x, w, b) }", {"w": floats(6, 4), "b": floats(*shape)})
    batch = {"x": floats(16, 6)}
    with pytest.raises(DataError, match="no layer of the model has a bias that can be corrected"):
        correct_bias(model, quantized(model, [batch]), [batch])


def test_layer_with_one_float_operand_is_left_alone() -> None:
    model, batches = conv_net(), image_batches()
    whole = quantized(model, batches)
    (conv,) = [n for n in whole.model.graph.node if n.output[0] == "a"]
    conv.input[0] = "image"  # its weight alone is quantized now
    assert set(biases(correct_bias(model, whole, batches).model)) == {"c_bias", "logits_bias"}


def test_every_sample_counts_the_same_however_the_batches_are_cut() -> None:
    model = conv_net()
    images = floats(12, 3, 8, 8)
    images[:9] *= 3  # the short batch is of another kind
    coarse = quantlab.quantize(model, quantlab.calibrate(model, [{"image": images}], quantlab.Percentile(97)))
    cuts = ([0, 12], [0, 9, 12], [0, 1, 2, 12])
    found = []
    for cut in cuts:
        batches = [{"image": images[a:b]} for a, b in pairwise(cut)]
        found.append(biases(correct_bias(model, coarse, batches).model))
    for other in found[1:]:
        for name, values in found[0].items():
            # sums of float32 means: 2^-24 of the largest value, a few times over
            np.testing.assert_allclose(other[name], values, rtol=0, atol=2**-20 * np.abs(values).max())


def test_short_last_batch_of_a_fixed_batch_network_is_left_out_and_reported() -> None:
    model, batches = conv_net(batch="6"), image_batches(3, 6)
    coarse = quantized(model, batches)
    whole = correct_bias(model, coarse, batches)
    short = correct_bias(model, coarse, [*batches, *image_batches(1, 4, seed=9)])
    assert short.model.SerializeToString(deterministic=True) == whole.model.SerializeToString(deterministic=True)
    assert short.warnings[-2] == whole.warnings[-1] == "the biases of 3 layers were corrected with 18 samples"
    assert short.warnings[-1] == "the last 4 samples do not fill a batch of 6 and were left out"
    with pytest.raises(DataError, match=r"^batch 1, it has 4 samples, the network takes 6"):
        correct_bias(model, coarse, [batches[0], *image_batches(1, 4), batches[1]])


def test_batch_that_does_not_fit_is_named_by_its_number() -> None:
    wrong = {"image": np.zeros((2, 3, 8, 8))}
    with pytest.raises(DataError, match="^batch 2, input 'image': got float64"):
        correct_bias(conv_net(), quantized(conv_net(), image_batches()), [*image_batches(2), wrong])


def test_progress_is_reported_after_every_batch() -> None:
    seen: list[int] = []
    correct_bias(conv_net(), quantized(conv_net(), image_batches()), image_batches(3, 5), seen.append)
    assert seen == [5, 10, 15]


def test_tensors_of_the_network_may_be_called_as_those_of_the_measurement() -> None:
    text = """m (float[N,6] x) => (float[N,4] y, float[N,6] t, float[N,6] u, float[N,6] v) {
        y = Gemm (x, w, b)
        t = Relu (x)
        u = Abs (x)
        v = Neg (x)
    }"""
    model = parse(text, {"w": floats(6, 4), "b": floats(4)})
    taken = {"t": "y/mean", "u": "y/error", "v": "y/twin"}
    for node, output in zip(model.graph.node[1:], model.graph.output[1:], strict=True):
        node.output[0] = output.name = taken[output.name]
    batch = {"x": np.abs(floats(256, 6)) ** 2}
    coarse = quantlab.quantize(model, quantlab.CalibrationTable({"x": np.float32(1)}))
    fixed = correct_bias(model, coarse, [batch])
    np.testing.assert_allclose(run(fixed.model, batch)[0].mean(axis=0), run(model, batch)[0].mean(axis=0), atol=1e-5)


def test_one_dimensional_convolution_is_corrected() -> None:
    model = parse("m (float[N,3,8] x) => (float[N,4,6] y) { y = Conv (x, w) }", {"w": floats(4, 3, 3)})
    batch = {"x": np.abs(floats(8, 3, 8)) ** 3}
    coarse = quantlab.quantize(model, quantlab.CalibrationTable({"x": np.float32(4)}), selection=EVERYTHING)
    fixed = correct_bias(model, coarse, [batch])
    want, got = (run(m, batch)[0].mean(axis=(0, 2)) for m in (model, fixed.model))
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_corrected_model_that_is_not_valid_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.tune.bias.why_invalid", lambda model: "broken")
    with pytest.raises(GraphError, match="the corrected model is not valid ONNX: broken Hint: please report"):
        correct_bias(conv_net(), quantized(conv_net(), image_batches()), image_batches())


def test_correction_that_does_harm_on_held_back_samples_is_left_out() -> None:
    """The shift of a layer is measured where the others are right; here two errors cancel, and one is taken away."""
    text = """m (float[N,6] x) => (float[N,4] y) { a = Gemm (x, w, b)  r = Relu (a)  y = Gemm (r, v, c) }"""
    values = {"w": floats(6, 4), "b": floats(4), "v": floats(4, 4, seed=1), "c": floats(4, seed=2)}
    model = parse(text, values)
    rng = np.random.default_rng(0)
    batches = [{"x": rng.normal(size=(16, 6)).astype(np.float32)} for _ in range(4)]
    batches[0]["x"][0] = 1e4  # one sample decides the mean, and is wrong for all others
    coarse = quantlab.quantize(model, quantlab.CalibrationTable({"x": np.float32(4), "r": np.float32(8)}))
    fixed = correct_bias(model, coarse, batches)
    assert "the biases were left as they are" in fixed.warnings[-1]
    assert fixed.model.SerializeToString(deterministic=True) == coarse.model.SerializeToString(deterministic=True)
