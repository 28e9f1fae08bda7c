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


@pytest.mark.parametrize("scale_of_dq", ["s", "t"])
@pytest.mark.parametrize("whole", [False, True])
def test_float_weight_with_a_pair_is_treated_as_a_stored_one(scale_of_dq: str, whole: bool) -> None:
    text = f"""m (float[N,4] x) => (float[N,3] y) {{
        q = QuantizeLinear <axis = 1> (w, s, z)
        d = DequantizeLinear <axis = 1> (q, {scale_of_dq}, z)
        y = MatMul (x, d)
    }}"""
    weight = floats(4, 3) * np.array([1, 1e-6, 1], np.float32) * np.float32(1e-6 if whole else 1)
    scale = np.abs(weight).max(axis=0) / np.float32(127)
    result = to_fp16(parse(text, {"w": weight, "s": scale, scale_of_dq: scale, "z": np.zeros(3, np.int8)}, HEADER))
    assert list(kept(result)) == (["q", "d", "y"] if whole else [])
    made = initializers(result.model)
    np.testing.assert_array_equal(made["s"], made[scale_of_dq])
    assert made["s"].dtype == made[scale_of_dq].dtype == (np.float32 if whole else np.float16)
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


# --- the limits


@pytest.mark.parametrize(
    ("scale", "fits"),
    [
        (511.75, True),  # 128 codes of it are 65504, the largest number
        (512.0, False),
        (2.0**-14, True),  # the smallest normal number
        (2.0**-14 - 2.0**-24, False),
    ],
)
def test_activation_scale_fits_up_to_the_largest_and_down_to_the_smallest_normal_number(
    scale: float, fits: bool
) -> None:
    result = to_fp16(small_layer(a_s=scalar(scale)))
    assert ("a_s" in result.rounded_scales) == fits
    assert ("a" in kept(result)) is not fits
    assert types(result.model)["a_s"] == (FP16 if fits else FP32)


@pytest.mark.parametrize(("largest", "fits"), [(127, True), (-128, False)])
def test_stored_codes_meet_their_scale_as_they_are(largest: int, fits: bool) -> None:
    """512 * 127 = 65024 is an FP16 number, 512 * 128 is none."""
    codes = np.full((4, 3), 100, np.int8)
    codes[2, 1] = largest
    result = to_fp16(small_layer(w_q=codes, w_s=np.full(3, 512, np.float32)))
    assert ("w_s" in result.rounded_scales) == fits


def nearly_lost(code: int, small_code: int = 1) -> onnx.ModelProto:
    """A weight of which one channel has scale 2^-15 and odd codes: at 2^-14 each is off by 2^-15, half a step.

    Signal over noise is (rows * 2 * (code * 2^-13)^2 + rows * (small_code * 2^-15)^2) / (rows * (2^-15)^2).
    """
    codes = np.full((4, 3), code, np.int8)
    codes[:, 1] = small_code
    return small_layer(w_q=codes, w_s=np.array([2**-13, 2**-15, 2**-13], np.float32))


@pytest.mark.parametrize(("code", "raised"), [(55, False), (56, True)])
def test_small_scales_are_raised_where_the_weight_keeps_fifty_db(code: int, raised: bool) -> None:
    sqnr = 10 * np.log10(2 * (4 * code) ** 2 + 1)
    assert (sqnr >= 50) == raised
    assert 49.5 < sqnr < 50.5
    result = to_fp16(nearly_lost(code))
    assert ("w_s" in result.rounded_scales) == raised
    assert bool(result.warnings) == raised
    if raised:
        np.testing.assert_array_equal(initializers(result.model)["w_s"], np.float16([2**-13, 2**-14, 2**-13]))
        np.testing.assert_array_equal(initializers(result.model)["w_q"][:, 1], 0)  # 0.5 rounds to even


def test_asymmetric_codes_are_not_made_anew() -> None:
    model = nearly_lost(100)
    for tensor in model.graph.initializer:
        if tensor.name == "w_zero":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 1, 0], np.int8), "w_zero"))
    assert kept(to_fp16(nearly_lost(100))) == {}
    assert kept(to_fp16(model))["w"].startswith("its scale 3.05e-05 is below")


def test_blocked_scales_are_not_raised() -> None:
    text = """m (float[N,4] x) => (float[N,3] y) {
        w = DequantizeLinear <axis = 0, block_size = 2> (w_q, w_s, w_zero)
        y = MatMul (x, w)
    }"""
    header = '<ir_version: 10, opset_import: ["" : 21]>'
    scales = np.array([[0.05, 1e-9, 0.05], [0.05, 0.05, 0.05]], np.float32)
    given = {"w_q": np.full((4, 3), 100, np.int8), "w_s": scales, "w_zero": np.zeros((2, 3), np.int8)}
    assert kept(to_fp16(parse(text, given, header)))["w"].startswith("its scale 1e-09 is below")
    fine = to_fp16(parse(text, given | {"w_s": np.full((2, 3), 0.05, np.float32)}, header))
    assert kept(fine) == {}


def test_names_of_casts_and_copies_collide_with_none_of_the_model() -> None:
    text = (
        "m (float[N,4] x) => (float[N,3] y, float[N,3] z, float[N,4] t, float[N,4] u) {\n"
        + PAIR.format("x", "a")
        + "y = MatMul (a, v)\n p = MatMul (a, w)\n z = Sigmoid (p)\n t = Neg (x)\n u = Abs (x)\n}"
    )
    big = floats(4, 3)
    big[0, 0] = 1e6  # its layer stays float32, so that the pair is wanted in both types
    model = parse(text, {"a_s": scalar(0.02), "v": floats(4, 3), "w": big} | ZERO, HEADER)
    for node in model.graph.node:
        node.name = {"t": "a_fp32", "u": "x_fp16_Cast"}.get(node.output[0], node.output[0])
    model.graph.node[-2].output[0] = model.graph.output[2].name = "x_fp16"
    model.graph.node[-1].output[0] = model.graph.output[3].name = "a_fp32"
    result = to_fp16(model)
    names = [n.name for n in result.model.graph.node]
    assert len(set(names)) == len(names)
    assert [o.name for o in result.model.graph.output] == ["y", "z", "x_fp16", "a_fp32"]
    made = [name for n in result.model.graph.node for name in n.output]
    assert len(set(made)) == len(made)
    assert {"x_fp16_1", "a_fp32_1"} <= set(made)
    batch = {"x": floats(2, 4)}
    for want, got in zip(run(model, batch)[2:], run(result.model, batch)[2:], strict=True):
        np.testing.assert_allclose(got, want, rtol=2**-11)


def test_only_a_layer_stays_float32_with_its_pair() -> None:
    """A Cast before anything else breaks no fusion."""
    text = "m (float[N,4] x) => (float[N,4] y) {\n" + PAIR.format("x", "a") + "y = Relu (a)\n}"
    result = to_fp16(parse(text, {"a_s": scalar(3e-5)} | ZERO, HEADER))
    assert list(kept(result)) == ["a_q", "a"]
    assert lines(result.model)[-3:] == ["Cast(a)", "Relu(a_fp16)", "Cast(y_fp16)"]


def test_computed_scale_stays_as_it_is() -> None:
    text = "m (float[N,4] x, float[4] t) => (float[N,4] y) {\n a_s = ReduceMax <keepdims = 0> (t)\n"
    model = parse(text + PAIR.format("x", "a") + "y = Relu (a)\n}", ZERO, HEADER)
    result = to_fp16(model)
    assert result.rounded_scales == {}
    batch = {"x": np.float32([[0.5, -1, 2, 3.5]]), "t": np.float32([0.5, 0.25, 0.125, 0.25])}  # codes 1, -2, 4 and 7
    np.testing.assert_array_equal(run(result.model, batch)[0], run(model, batch)[0])
