"""The float remainder of a Q/DQ model in FP16: structure and numbers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from fp16_parts import assert_pairs_are_adjacent, kept, lines, onnx_runtime_rounds, types
from models import conv_net, encoder, floats, image_batches, initializers, parse, quantized, run, sqnr_db
from quantlab.errors import ConfigError, GraphError
from quantlab.fp16 import to_fp16
from quantlab.fp16.policy import FP16, FP32
from quantlab.onnx_model import large
from quantlab.qdq import lint


def test_conv_net_has_casts_at_its_borders_only() -> None:
    result = to_fp16(quantized(conv_net(), image_batches()).model)
    assert lines(result.model) == [
        "Cast(image)",
        "QuantizeLinear(image_fp16,image_scale,image_zero_point)",
        "DequantizeLinear(image_quantized,image_scale,image_zero_point)",
        "DequantizeLinear(w1_quantized,w1_scale,w1_zero_point)",
        "Conv(image_dequantized,w1_dequantized,b1)",
        "Relu(a)",
        "QuantizeLinear(r,r_scale,r_zero_point)",
        "DequantizeLinear(r_quantized,r_scale,r_zero_point)",
        "DequantizeLinear(w2_quantized,w2_scale,w2_zero_point)",
        "Conv(r_dequantized,w2_dequantized)",
        "Add(c,r_dequantized)",
        "Relu(s)",
        "QuantizeLinear(t,t_scale,t_zero_point)",
        "DequantizeLinear(t_quantized,t_scale,t_zero_point)",
        "GlobalAveragePool(t_dequantized)",
        "Flatten(p)",
        "QuantizeLinear(f,f_scale,f_zero_point)",
        "DequantizeLinear(f_quantized,f_scale,f_zero_point)",
        "DequantizeLinear(w3_quantized,w3_scale,w3_zero_point)",
        "Gemm(f_dequantized,w3_dequantized,b3)",
        "Cast(logits_fp16)",
    ]
    float32 = {name for name, kind in types(result.model).items() if kind == FP32}
    assert float32 == {"image", "logits"}
    assert result.kept == ()
    assert lint(result.model) == []


@pytest.mark.parametrize(("io", "kind", "casts"), [("float32", FP32, 2), ("float16", FP16, 0)])
def test_io_gives_the_type_of_inputs_and_outputs_and_names_stay(io: str, kind: int, casts: int) -> None:
    given = quantized(conv_net(), image_batches()).model
    model = to_fp16(given, io).model
    ends = [(*m.graph.input, *m.graph.output) for m in (given, model)]
    for before, after in zip(*ends, strict=True):
        assert (after.name, after.type.tensor_type.elem_type) == (before.name, kind)
        assert after.type.tensor_type.shape == before.type.tensor_type.shape
    assert sum(n.op_type == "Cast" for n in model.graph.node) == casts
    assert run(model, {"image": image_batches(1)[0]["image"].astype(io)})[0].dtype == io


def test_other_io_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"io is 'bfloat16', expected float32 or float16 Hint: io='float32'"):
        to_fp16(conv_net(), "bfloat16")


def test_same_model_gives_the_same_bytes_and_is_not_changed() -> None:
    given = quantized(encoder(1), [{"x": floats(2, 7, 32)}]).model
    before = given.SerializeToString(deterministic=True)
    first, second = (to_fp16(given).model.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert given.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("fused", [False, True])
def test_converted_model_stays_as_it_is(fused: bool) -> None:
    once = to_fp16(quantized(encoder(1, fused=fused), [{"x": floats(2, 7, 32)}]).model)
    again = to_fp16(once.model)
    assert again.model.SerializeToString(deterministic=True) == once.model.SerializeToString(deterministic=True)
    assert again.kept == once.kept
    assert once.rounded_scales
    assert not again.rounded_scales  # they are FP16 numbers by now


def test_float_model_is_as_close_as_its_roundings_allow() -> None:
    # Each of the nine tensors from image to logits is off by 2^-11 of itself at most, and so is each of the five
    # weights; no step of this network makes a relative error larger in the whole: (9 + 5) * 2^-11.
    batch = image_batches(1)[0]
    got = run(to_fp16(conv_net()).model, batch)[0]
    assert sqnr_db(run(conv_net(), batch)[0], got) > -20 * np.log10(14 * 2**-11)


def flip_bound_db(tensors: int, roundings: int) -> float:
    """A value off by `e` changes its code with probability `e / step`, by one step: noise `e * step`. With `roundings`
    of 2^-11 since the last pair, amax / rms = 4 and step = amax / 127: `roundings * 2^-11 * 4 / 127` per tensor."""
    return float(-10 * np.log10(tensors * roundings * 2**-11 * 4 / 127))


@pytest.mark.skipif(not onnx_runtime_rounds(), reason="this ONNX Runtime quantizes FP16 without rounding")
def test_quantized_conv_net_is_as_close_as_flipped_codes_allow() -> None:
    model = quantized(conv_net(), image_batches()).model
    batch = image_batches(1, seed=9)[0]
    # the pairs of image, r, t and f; five roundings from r to t: the scales of input and weight, c, the sum, t
    assert sqnr_db(run(model, batch)[0], run(to_fp16(model).model, batch)[0]) > flip_bound_db(4, 5)


@pytest.mark.parametrize("fused", [False, True])
def test_encoder_is_as_close_as_flipped_codes_allow(fused: bool) -> None:
    model = quantized(encoder(2, fused=fused), [{"x": floats(2, 7, 32, seed=k)} for k in range(3)]).model
    result = to_fp16(model)
    batch = {"x": floats(2, 7, 32, seed=50)}
    # 8 pairs per layer; 20 roundings: a LayerNorm of nine steps, a product, bias, Softmax or GELU of five
    assert sqnr_db(run(model, batch)[0], run(result.model, batch)[0]) > flip_bound_db(16, 20)
    assert_pairs_are_adjacent(result.model)
    assert {finding.code for finding in lint(result.model)} <= {"Q25"}  # the means of opset 18
    # the square in an unfused LayerNorm exceeds FP16 from 256 on: from it to the root everything is float32
    ops = Counter(name.rsplit("_", 1)[1] for name in kept(result))
    assert ops == ({} if fused else dict.fromkeys(("Pow", "ReduceMean", "Add", "Sqrt"), 5))


def test_large_activations_survive_an_unfused_layer_norm() -> None:
    result = to_fp16(encoder(1))
    batch = {"x": floats(2, 7, 32, scale=1000.0)}
    want, got = run(encoder(1), batch)[0], run(result.model, batch)[0]
    assert sqnr_db(want, got) > 40


def test_opset_13_becomes_19_and_newer_ones_stay() -> None:
    given = quantized(conv_net(), image_batches()).model
    result = to_fp16(given)
    assert [o.version for o in result.model.opset_import] == [19]
    assert result.model.ir_version == 9
    assert result.warnings == ("the opset was 13 and is 19 now: older ones have no FP16 scales",)
    newer = to_fp16(quantized(encoder(1, fused=True), [{"x": floats(2, 7, 32)}]).model)
    assert [o.version for o in newer.model.opset_import] == [20]
    assert newer.warnings == ()
    assert [o.version for o in to_fp16(conv_net()).model.opset_import] == [13]  # no scales: nothing to raise it for


def test_opset_that_cannot_be_raised_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
        raise RuntimeError("no adapter for Foo\nat line 7")

    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)
    with pytest.raises(GraphError, match=r"opset 13 and cannot be converted to 19: no adapter for Foo Hint: export"):
        to_fp16(quantized(conv_net(), image_batches()).model)


def test_result_that_is_not_valid_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.fp16.convert.why_invalid", lambda model: "broken")
    with pytest.raises(GraphError, match=r"the FP16 model is not valid ONNX: broken Hint: please report this model"):
        to_fp16(conv_net())


@pytest.mark.parametrize("io", ["float32", "float16"])
def test_outputs_that_are_inputs_constants_or_casts_keep_names_and_values(io: str) -> None:
    text = """m (float[N,4] x) => (float[N,4] y, float[4] k, float[N,4] n, float[4] e) {
        n = Neg (x)
        y = Cast <to = 1> (n)
        e = Exp (k)
    }"""
    model = parse(text, {"k": floats(4)})
    result = to_fp16(model, io)
    batch = {"x": floats(2, 4)}
    for want, got in zip(run(model, batch), run(result.model, {"x": batch["x"].astype(io)}), strict=True):
        assert got.dtype == io
        np.testing.assert_allclose(got, want, rtol=2**-10)
    assert kept(result) == {"e": "what Exp computes easily exceeds FP16"}


def test_initializer_listed_as_input_of_an_old_model_is_no_input() -> None:
    header = '<ir_version: 3, opset_import: ["" : 13]>'
    model = parse("m (float[N,4] x, float[4,3] w) => (float[N,3] y) { y = MatMul (x, w) }", {"w": floats(4, 3)}, header)
    result = to_fp16(model)
    assert [i.name for i in result.model.graph.input] == ["x"]
    assert initializers(result.model)["w"].dtype == np.float16


def test_sequences_and_models_of_another_domain_pass_through() -> None:
    text = "m (float[2,4] x) => (float[2,4] y) { s = SequenceConstruct (x)\n y = SequenceAt (s, n) }"
    result = to_fp16(parse(text, {"n": np.asarray(0)}))
    assert kept(result) == {"s": "the type of 's' is not known", "y": "the type of 's' is not known"}
    header = '<ir_version: 8, opset_import: ["ai.onnx.ml" : 2]>'
    result = to_fp16(
        parse("m (float[2,4] x) => (float[2,4] y) { y = ai.onnx.ml.Binarizer (x) }", header=header), "float16"
    )
    assert [n.op_type for n in result.model.graph.node] == ["Cast", "Binarizer", "Cast"]


def test_model_above_the_limit_is_converted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    given = quantized(conv_net(), image_batches()).model
    want = to_fp16(given)
    monkeypatch.setattr(large, "BIG", 64)  # every weight counts as big
    monkeypatch.setattr(large, "LIMIT", 128)
    got = to_fp16(given)
    assert lines(got.model) == lines(want.model)
    for name, values in initializers(want.model).items():
        np.testing.assert_array_equal(initializers(got.model)[name], values)


def test_fp16_command_writes_the_model_and_says_what_stays(cli, tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = quantized(encoder(1), [{"x": floats(2, 6, 32)}]).model
    onnx.save(model, tmp_path / "q.onnx")
    done = cli("fp16", tmp_path / "q.onnx", "-o", tmp_path / "h.onnx", "--io", "float16")
    assert done.code == 0, done.err
    assert "float remainder in FP16, scales moved by 0.0" in done.out
    assert "float32: " in done.out
    assert "the opset was" not in done.out
    assert "opset" in done.err
    written = onnx.load(tmp_path / "h.onnx")
    assert written.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    batch = {"x": floats(2, 6, 32, seed=3)}
    wanted = run(model, batch)[0]
    got = run(written, {"x": batch["x"].astype(np.float16)})[0].astype(np.float32)
    assert 10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()) > 25
