"""Scales in FP16: what becomes of pairs and stored weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from fp16_parts import HEADER, PAIR, ZERO, assert_pairs_are_adjacent, kept, lines, scalar, small_layer, types
from models import conv_net, floats, image_batches, initializers, parse, quantized, run, sqnr_db
from quantlab.fp16 import to_fp16
from quantlab.fp16.policy import FP16, FP32


def test_scales_are_rounded_by_half_a_step_of_fp16_and_codes_stay() -> None:
    given = quantized(conv_net(), image_batches()).model
    result = to_fp16(given)
    before, after = initializers(given), initializers(result.model)
    scales = {name for name in before if name.endswith("_scale")}
    assert set(result.rounded_scales) == scales
    for name in scales:
        change = np.abs(after[name].astype(np.float64) / before[name] - 1).max()
        assert after[name].dtype == np.float16
        assert result.rounded_scales[name] == pytest.approx(change)
        assert change <= 2**-11
    for name in (n for n in before if n.endswith("_quantized")):
        np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize(
    ("scale", "why"), [(3e-5, "its scale 3e-05 is below"), (600.0, "codes times its scale 600 exceed FP16's 65504")]
)
def test_activation_scale_outside_fp16_keeps_pair_and_layer(scale: float, why: str) -> None:
    model = small_layer(a_s=scalar(scale))
    result = to_fp16(model)
    made = types(result.model)
    assert made["a_s"] == made["a"] == made["w"] == made["w_s"] == FP32
    assert kept(result)["a_q"].startswith(why)
    assert kept(result)["a"].startswith(why)
    assert "p" in kept(result)
    assert "a_s" not in result.rounded_scales
    assert_pairs_are_adjacent(result.model)
    batch = {"x": floats(5, 4, scale=scale * 50)}
    # the int8 part is the same but for the scale of the weight; then bias, sum and Relu are rounded
    assert sqnr_db(run(model, batch)[0], run(result.model, batch)[0]) > -20 * np.log10(4 * 2**-11)


def test_layer_behind_a_small_scale_is_fp16_again() -> None:
    result = to_fp16(small_layer(a_s=scalar(3e-5)))
    assert kept(result)["p"] == "its pair 'a' stays float32"
    assert "Cast(p)" in lines(result.model)
    assert types(result.model)["b"] == FP16


def test_what_follows_a_large_scale_stays_float32() -> None:
    result = to_fp16(small_layer(a_s=scalar(600.0)))
    assert kept(result)["b"] == kept(result)["y"] == "it reads what 'a' gives, which FP16 may not hold"


def test_scale_that_is_not_positive_keeps_its_pair() -> None:
    assert kept(to_fp16(small_layer(a_s=scalar(0.0))))["a"] == "its scale is not positive"


def test_nearly_dead_channels_of_a_weight_get_a_larger_scale_and_new_codes() -> None:
    scales = np.array([0.05, 1e-9, 4e-5], np.float32)
    model = small_layer(w_s=scales)
    result = to_fp16(model)
    assert result.kept == ()
    assert result.warnings == ("2 of 3 scales in 'w_s' were raised to FP16's smallest, 2^-14",)
    assert result.rounded_scales["w_s"] <= 2**-11
    before, after = initializers(model), initializers(result.model)
    np.testing.assert_array_equal(after["w_s"], np.array([0.05, 2**-14, 2**-14], np.float16))
    np.testing.assert_array_equal(after["w_q"][:, 0], before["w_q"][:, 0])
    moved = after["w_q"] * after["w_s"].astype(np.float64) - before["w_q"] * before["w_s"].astype(np.float64)
    assert np.abs(moved[:, 1:]).max() <= 2**-15  # half a step


def test_small_scales_that_are_the_whole_weight_keep_the_layer() -> None:
    result = to_fp16(small_layer(w_s=np.array([3e-5, 2e-5, 1e-5], np.float32)))
    assert kept(result)["w"] == "its scale 1e-05 is below FP16's smallest normal number 2^-14"
    assert kept(result)["p"] == "its pair 'w' stays float32"
    made = types(result.model)
    assert made["a"] == made["w"] == made["a_s"] == FP32
    assert made["x_fp16"] == FP16  # the activation is quantized in FP16: only its DequantizeLinear gives float32
    assert_pairs_are_adjacent(result.model)


@pytest.mark.parametrize("own", ["s", "t"])
@pytest.mark.parametrize("whole", [False, True])
def test_float_weight_with_a_pair_is_treated_as_a_stored_one(own: str, whole: bool) -> None:
    text = f"""m (float[N,4] x) => (float[N,3] y) {{
        q = QuantizeLinear <axis = 1> (w, s, z)
        d = DequantizeLinear <axis = 1> (q, {own}, z)
        y = MatMul (x, d)
    }}"""
    weight = floats(4, 3) * np.array([1, 1e-6, 1], np.float32) * np.float32(1e-6 if whole else 1)
    scale = np.abs(weight).max(axis=0) / np.float32(127)
    result = to_fp16(parse(text, {"w": weight, "s": scale, own: scale, "z": np.zeros(3, np.int8)}, HEADER))
    assert list(kept(result)) == (["q", "d", "y"] if whole else [])
    made = initializers(result.model)
    np.testing.assert_array_equal(made["s"], made[own])
    assert made["s"].dtype == made[own].dtype == (np.float32 if whole else np.float16)
    assert bool(made["s"].min() == 2**-14) is not whole


def test_output_type_of_opset_23_gives_way_to_that_of_the_scale() -> None:
    model = small_layer()
    model.opset_import[0].version, model.ir_version = 23, 11
    model.graph.node[1].attribute.append(onnx.helper.make_attribute("output_dtype", FP32))
    result = to_fp16(model)
    assert result.kept == ()
    assert types(result.model)["a"] == FP16


@pytest.mark.parametrize(
    ("other", "shape"), [("v = DequantizeLinear <axis = 1> (w_q, v_s, w_zero)", [4, 3]), ("v = Mul (w_s, w_s)", [3])]
)
def test_codes_or_scales_with_other_readers_are_not_made_anew(other: str, shape: list[int]) -> None:
    model = small_layer(w_s=np.array([0.05, 1e-9, 0.04], np.float32), v_s=np.array([1, 1, 1], np.float32))
    more = parse(f"m (float[N,4] x) => (float[4,3] v) {{ {other} }}")
    model.graph.node.extend(more.graph.node)
    model.graph.output.extend([onnx.helper.make_tensor_value_info("v", FP32, shape)])
    assert kept(to_fp16(model))["w"].startswith("its scale 1e-09 is below")


def test_pair_shared_with_a_float32_layer_is_dequantized_twice_and_not_cast() -> None:
    text = (
        "m (float[N,4] x) => (float[N,3] y, float[N,3] z) {\n"
        + PAIR.format("x", "a")
        + "y = MatMul (a, v)\n p = MatMul (a, w)\n z = Sigmoid (p)\n}"
    )
    big = floats(4, 3)
    big[0, 0] = 1e6
    model = parse(text, {"a_s": scalar(0.02), "v": floats(4, 3), "w": big} | ZERO, HEADER)
    for node in model.graph.node:
        node.name = node.output[0]
    result = to_fp16(model)
    assert lines(result.model) == [
        "Cast(x)", "QuantizeLinear(x_fp16,a_s_fp16,zero)", "DequantizeLinear(a_q,a_s_fp16,zero)",
        "DequantizeLinear(a_q,a_s,zero)", "MatMul(a,v)", "Cast(y_fp16)", "MatMul(a_fp32,w)", "Sigmoid(p)",
    ]  # fmt: skip
    assert len({n.name for n in result.model.graph.node}) == len(result.model.graph.node)
    scales = initializers(result.model)
    assert scales["a_s"] == scales["a_s_fp16"]  # one value in both types, or TensorRT sees no pair
    assert kept(result) == {
        "p": "its constant 'w' has values above FP16's 65504",
        "z": "it reads what 'p' gives, which FP16 may not hold",
    }
