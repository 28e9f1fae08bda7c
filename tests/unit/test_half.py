"""The float remainder of a Q/DQ model in FP16: structure, numbers, and what stays float32."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from models import conv_net, encoder, floats, image_batches, initializers, parse, quantized, run
from quantlab import large
from quantlab.errors import ConfigError, GraphError
from quantlab.qdq import half, lint
from quantlab.qdq.half import FLOAT, HALF, Half, to_half

HEADER = '<ir_version: 9, opset_import: ["" : 19]>'
PAIR = "{1}_q = QuantizeLinear ({0}, {1}_s, zero)\n {1} = DequantizeLinear ({1}_q, {1}_s, zero)\n"
ZERO = {"zero": np.asarray(0, np.int8)}


def scalar(value: float) -> np.ndarray:
    return np.asarray(value, np.float32)


def sqnr_db(want: np.ndarray, got: np.ndarray) -> float:
    noise = np.square(want.astype(np.float64) - got).sum()
    return float(10 * np.log10(np.square(want, dtype=np.float64).sum() / noise))


def lines(model: onnx.ModelProto) -> list[str]:
    return [f"{n.op_type}({','.join(n.input)})" for n in model.graph.node]


def types(model: onnx.ModelProto) -> dict[str, int]:
    values = (*model.graph.input, *model.graph.output, *large.infer_shapes(model).graph.value_info)
    return {v.name: v.type.tensor_type.elem_type for v in values} | {
        t.name: t.data_type for t in model.graph.initializer
    }


def kept(result: Half) -> dict[str, str]:
    return dict(result.kept)


def assert_pairs_are_adjacent(model: onnx.ModelProto) -> None:
    """No Cast between a DequantizeLinear and what reads it."""
    dequantized = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    assert not [n.name for n in model.graph.node if n.op_type == "Cast" and n.input[0] in dequantized]


def small_layer(**weights: np.ndarray) -> onnx.ModelProto:
    """Q/DQ - MatMul with an int8 weight per channel - Add of a bias - Relu."""
    text = (
        "m (float[N,4] x) => (float[N,3] y) {\n"
        + PAIR.format("x", "a")
        + """w = DequantizeLinear <axis = 1> (w_q, w_s, w_zero)
        p = MatMul (a, w)
        b = Add (p, bias)
        y = Relu (b)
    }"""
    )
    codes = np.random.default_rng(0).integers(-127, 128, (4, 3)).astype(np.int8)
    given = {"a_s": scalar(0.02), "w_q": codes, "w_s": floats(3, seed=1) ** 2 + np.float32(0.01), "bias": floats(3)}
    return parse(text, given | ZERO | {"w_zero": np.zeros(3, np.int8)} | weights, HEADER)


def test_conv_net_has_casts_at_its_borders_only() -> None:
    result = to_half(quantized(conv_net(), image_batches()).model)
    assert lines(result.model) == [
        "Cast(image)",
        "QuantizeLinear(image_half,image_scale,image_zero_point)",
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
        "Cast(logits_half)",
    ]
    float32 = {name for name, kind in types(result.model).items() if kind == FLOAT}
    assert float32 == {"image", "logits"}
    assert result.kept == ()
    assert lint(result.model) == []


@pytest.mark.parametrize(("io", "kind", "casts"), [("float32", FLOAT, 2), ("float16", HALF, 0)])
def test_io_gives_the_type_of_inputs_and_outputs_and_names_stay(io: str, kind: int, casts: int) -> None:
    given = quantized(conv_net(), image_batches()).model
    model = to_half(given, io).model
    ends = [(*m.graph.input, *m.graph.output) for m in (given, model)]
    for before, after in zip(*ends, strict=True):
        assert (after.name, after.type.tensor_type.elem_type) == (before.name, kind)
        assert after.type.tensor_type.shape == before.type.tensor_type.shape
    assert sum(n.op_type == "Cast" for n in model.graph.node) == casts
    assert run(model, {"image": image_batches(1)[0]["image"].astype(io)})[0].dtype == io


def test_other_io_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"io is 'bfloat16', expected float32 or float16 Hint: io='float32'"):
        to_half(conv_net(), "bfloat16")


def test_same_model_gives_the_same_bytes_and_is_not_changed() -> None:
    given = quantized(encoder(1), [{"x": floats(2, 7, 32)}]).model
    before = given.SerializeToString(deterministic=True)
    first, second = (to_half(given).model.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert given.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("fused", [False, True])
def test_converted_model_stays_as_it_is(fused: bool) -> None:
    once = to_half(quantized(encoder(1, fused=fused), [{"x": floats(2, 7, 32)}]).model)
    again = to_half(once.model)
    assert again.model.SerializeToString(deterministic=True) == once.model.SerializeToString(deterministic=True)
    assert again.kept == once.kept


def test_float_model_is_as_close_as_its_roundings_allow() -> None:
    # Each of the nine tensors from image to logits is off by 2^-11 of itself at most, and so is each of the five
    # weights; no step of this network makes a relative error larger in the whole: (9 + 5) * 2^-11.
    batch = image_batches(1)[0]
    got = run(to_half(conv_net()).model, batch)[0]
    assert sqnr_db(run(conv_net(), batch)[0], got) > -20 * np.log10(14 * 2**-11)


def flip_bound_db(tensors: int, roundings: int) -> float:
    """A value off by `e` changes its code with probability `e / step`, by one step: noise `e * step`. With `roundings`
    of 2^-11 since the last pair, amax / rms = 4 and step = amax / 127: `roundings * 2^-11 * 4 / 127` per tensor."""
    return float(-10 * np.log10(tensors * roundings * 2**-11 * 4 / 127))


def test_quantized_conv_net_is_as_close_as_flipped_codes_allow() -> None:
    model = quantized(conv_net(), image_batches()).model
    batch = image_batches(1, seed=9)[0]
    # the pairs of image, r, t and f; five roundings from r to t: the scales of input and weight, c, the sum, t
    assert sqnr_db(run(model, batch)[0], run(to_half(model).model, batch)[0]) > flip_bound_db(4, 5)


@pytest.mark.parametrize("fused", [False, True])
def test_encoder_is_as_close_as_flipped_codes_allow(fused: bool) -> None:
    model = quantized(encoder(2, fused=fused), [{"x": floats(2, 7, 32, seed=k)} for k in range(3)]).model
    result = to_half(model)
    batch = {"x": floats(2, 7, 32, seed=50)}
    # 8 pairs per layer; 20 roundings: a LayerNorm of nine steps, a product, bias, Softmax or GELU of five
    assert sqnr_db(run(model, batch)[0], run(result.model, batch)[0]) > flip_bound_db(16, 20)
    assert_pairs_are_adjacent(result.model)
    assert lint(result.model) == []
    # the square in an unfused LayerNorm exceeds FP16 from 256 on: from it to the root everything is float32
    ops = Counter(name.rsplit("_", 1)[1] for name in kept(result))
    assert ops == ({} if fused else dict.fromkeys(("Pow", "ReduceMean", "Add", "Sqrt"), 5))


def test_large_activations_survive_an_unfused_layer_norm() -> None:
    result = to_half(encoder(1))
    batch = {"x": floats(2, 7, 32, scale=1000.0)}
    want, got = run(encoder(1), batch)[0], run(result.model, batch)[0]
    assert sqnr_db(want, got) > 40


def test_opset_13_becomes_19_and_newer_ones_stay() -> None:
    given = quantized(conv_net(), image_batches()).model
    result = to_half(given)
    assert [o.version for o in result.model.opset_import] == [19]
    assert result.model.ir_version == 9
    assert result.warnings == ("the opset was 13 and is 19 now: older ones have no FP16 scales",)
    newer = to_half(quantized(encoder(1, fused=True), [{"x": floats(2, 7, 32)}]).model)
    assert [o.version for o in newer.model.opset_import] == [20]
    assert newer.warnings == ()
    assert [o.version for o in to_half(conv_net()).model.opset_import] == [13]  # no scales: nothing to raise it for


def test_opset_that_cannot_be_raised_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
        raise RuntimeError("no adapter for Foo\nat line 7")

    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)
    with pytest.raises(GraphError, match=r"opset 13 and cannot be converted to 19: no adapter for Foo Hint: export"):
        to_half(quantized(conv_net(), image_batches()).model)


def test_result_that_is_not_valid_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: onnx.ModelProto, full_check: bool) -> None:
        raise onnx.checker.ValidationError("broken\nmore")

    monkeypatch.setattr(half, "check_model", fail)
    with pytest.raises(GraphError, match=r"the FP16 model is not valid ONNX: broken Hint: please report this model"):
        to_half(conv_net())


def test_scales_are_rounded_by_half_a_step_of_fp16_and_codes_stay() -> None:
    given = quantized(conv_net(), image_batches()).model
    result = to_half(given)
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
    result = to_half(model)
    made = types(result.model)
    assert made["a_s"] == made["a"] == made["w"] == made["w_s"] == FLOAT
    assert kept(result)["a_q"].startswith(why)
    assert kept(result)["a"].startswith(why)
    assert "p" in kept(result)
    assert "a_s" not in result.rounded_scales
    assert_pairs_are_adjacent(result.model)
    batch = {"x": floats(5, 4, scale=scale * 50)}
    # the int8 part is the same but for the scale of the weight; then bias, sum and Relu are rounded
    assert sqnr_db(run(model, batch)[0], run(result.model, batch)[0]) > -20 * np.log10(4 * 2**-11)


def test_layer_behind_a_small_scale_is_fp16_again() -> None:
    result = to_half(small_layer(a_s=scalar(3e-5)))
    assert kept(result)["p"] == "its pair 'a' stays float32"
    assert "Cast(p)" in lines(result.model)
    assert types(result.model)["b"] == HALF


def test_what_follows_a_large_scale_stays_float32() -> None:
    result = to_half(small_layer(a_s=scalar(600.0)))
    assert kept(result)["b"] == kept(result)["y"] == "it reads what 'a' gives, which FP16 may not hold"


def test_scale_that_is_not_positive_keeps_its_pair() -> None:
    assert kept(to_half(small_layer(a_s=scalar(0.0))))["a"] == "its scale is not positive"


def test_nearly_dead_channels_of_a_weight_get_a_larger_scale_and_new_codes() -> None:
    scales = np.array([0.05, 1e-9, 4e-5], np.float32)
    model = small_layer(w_s=scales)
    result = to_half(model)
    assert result.kept == ()
    assert result.warnings == ("2 of 3 scales in 'w_s' were raised to FP16's smallest, 2^-14",)
    assert result.rounded_scales["w_s"] <= 2**-11
    before, after = initializers(model), initializers(result.model)
    np.testing.assert_array_equal(after["w_s"], np.array([0.05, 2**-14, 2**-14], np.float16))
    np.testing.assert_array_equal(after["w_q"][:, 0], before["w_q"][:, 0])
    moved = after["w_q"] * after["w_s"].astype(np.float64) - before["w_q"] * before["w_s"].astype(np.float64)
    assert np.abs(moved[:, 1:]).max() <= 2**-15  # half a step


def test_small_scales_that_are_the_whole_weight_keep_the_layer() -> None:
    result = to_half(small_layer(w_s=np.array([3e-5, 2e-5, 1e-5], np.float32)))
    assert kept(result)["w"] == "its scale 1e-05 is below FP16's smallest normal number 2^-14"
    assert kept(result)["p"] == "its pair 'w' stays float32"
    made = types(result.model)
    assert made["a"] == made["w"] == made["a_s"] == FLOAT
    assert made["x_half"] == HALF  # the activation is quantized in FP16: only its DequantizeLinear gives float32
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
    result = to_half(parse(text, {"w": weight, "s": scale, own: scale, "z": np.zeros(3, np.int8)}, HEADER))
    assert list(kept(result)) == (["q", "d", "y"] if whole else [])
    made = initializers(result.model)
    np.testing.assert_array_equal(made["s"], made[own])
    assert made["s"].dtype == made[own].dtype == (np.float32 if whole else np.float16)
    assert bool(made["s"].min() == 2**-14) is not whole


def test_output_type_of_opset_23_gives_way_to_that_of_the_scale() -> None:
    model = small_layer()
    model.opset_import[0].version, model.ir_version = 23, 11
    model.graph.node[1].attribute.append(onnx.helper.make_attribute("output_dtype", FLOAT))
    result = to_half(model)
    assert result.kept == ()
    assert types(result.model)["a"] == HALF


@pytest.mark.parametrize(
    ("other", "shape"), [("v = DequantizeLinear <axis = 1> (w_q, v_s, w_zero)", [4, 3]), ("v = Mul (w_s, w_s)", [3])]
)
def test_codes_or_scales_with_other_readers_are_not_made_anew(other: str, shape: list[int]) -> None:
    model = small_layer(w_s=np.array([0.05, 1e-9, 0.04], np.float32), v_s=np.array([1, 1, 1], np.float32))
    more = parse(f"m (float[N,4] x) => (float[4,3] v) {{ {other} }}")
    model.graph.node.extend(more.graph.node)
    model.graph.output.extend([onnx.helper.make_tensor_value_info("v", FLOAT, shape)])
    assert kept(to_half(model))["w"].startswith("its scale 1e-09 is below")


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
    result = to_half(model)
    assert lines(result.model) == [
        "Cast(x)", "QuantizeLinear(x_half,a_s_half,zero)", "DequantizeLinear(a_q,a_s_half,zero)",
        "DequantizeLinear(a_q,a_s,zero)", "MatMul(a,v)", "Cast(y_half)", "MatMul(a_float,w)", "Sigmoid(p)",
    ]  # fmt: skip
    assert len({n.name for n in result.model.graph.node}) == len(result.model.graph.node)
    scales = initializers(result.model)
    assert scales["a_s"] == scales["a_s_half"]  # one value in both types, or TensorRT sees no pair
    assert kept(result) == {
        "p": "its constant 'w' has values above FP16's 65504",
        "z": "it reads what 'p' gives, which FP16 may not hold",
    }


def test_attention_mask_with_the_lowest_float32_gives_no_nan() -> None:
    text = """m (float[N,4] x, int64[N,4] mask) => (float[N,4] y) {
        m0 = Cast <to = 1> (mask)
        m1 = Sub (one, m0)
        m2 = Mul (m1, lowest)
        s = Add (x, m2)
        p = Softmax (s)
        y = Mul (p, x)
    }"""
    model = parse(text, {"one": scalar(1), "lowest": scalar(np.finfo(np.float32).min)})
    result = to_half(model)
    batch = {"x": floats(2, 4), "mask": np.array([[1, 1, 0, 0], [0, 0, 0, 0]])}
    got = run(result.model, batch)[0]
    np.testing.assert_allclose(got, run(model, batch)[0], rtol=4 * 2**-11, atol=2**-14)
    assert list(kept(result)) == ["m0", "m1", "m2", "s", "p"]


def test_constant_that_vanishes_keeps_its_node() -> None:
    model = parse("m (float[N,4] x) => (float[N,4] y) { a = Relu (x)\n b = Add (a, e)\n y = Div (x, b) }",
                  {"e": scalar(1e-12)})  # fmt: skip
    result = to_half(model)
    assert kept(result) == {
        "b": "its constant 'e' is 1e-12, which is 0 in FP16",
        "y": "it reads what 'b' gives, which FP16 may not hold",
    }
    batch = {"x": np.zeros((1, 4), np.float32)}
    np.testing.assert_array_equal(run(result.model, batch)[0], run(model, batch)[0])
    assert initializers(result.model)["e"].dtype == np.float32


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("y = Exp (x)", "what Exp computes easily exceeds FP16"),
        ("y = Mul (x, x)", "what Mul computes easily exceeds FP16"),
        ("y = Pow (x, k)", "what Pow computes easily exceeds FP16"),
        ("y = RandomNormalLike (x)", "its output type is an attribute of its own"),
        ("a, s, z = DynamicQuantizeLinear (x)\n y = Mul (x, s)", "ONNX has no FP16 DynamicQuantizeLinear"),
        ("y = ConstantOfShape <value = float[1] {1e6}> (n)", "its constant 'value' has values above FP16's 65504"),
    ],
)
def test_unsafe_or_unknown_operator_stays_float32(line: str, reason: str) -> None:
    model = parse(f"m (float[2,4] x) => (float[2,4] y) {{ {line} }}", {"k": scalar(3), "n": np.array([2, 4])}, HEADER)
    assert next(iter(kept(to_half(model)).values())) == reason


def test_operators_that_have_fp16_are_converted_with_their_attributes() -> None:
    text = """m (float[2,3,4,4] x, uint8[2,3,4,4] c) => (float[2,3,8,8] y) {
        a = Cast <to = 1> (c)
        n = Shape (x)
        o = ConstantOfShape (n)
        h = Constant <value_float = 0.5> ()
        b = Pow (x, h)
        d = Add (a, o)
        e = Add (b, d)
        f = Clip (e, low, high)
        y = Resize (f, , scales)
    }"""
    numbers = {"low": scalar(0), "high": scalar(6), "scales": np.array([1, 1, 2, 2], np.float32)}
    model = parse(text, numbers, HEADER)
    result = to_half(model)
    made = types(result.model)
    assert result.kept == ()
    assert {made[name] for name in ("a", "o", "h", "b", "f", "y_half", "low")} == {HALF}
    assert made["scales"] == FLOAT  # ONNX has them in float32 only
    batch = {"x": np.abs(floats(2, 3, 4, 4)), "c": np.full((2, 3, 4, 4), 3, np.uint8)}
    np.testing.assert_allclose(run(result.model, batch)[0], run(model, batch)[0], rtol=4 * 2**-11)


def test_sizes_computed_in_float_stay_exact() -> None:
    text = """m (float[N,4] x) => (int64[2] y) {
        n = Shape (x)
        a = Cast <to = 1> (n)
        b = Mul (a, two)
        y = Cast <to = 7> (b)
    }"""
    model = parse(text, {"two": scalar(2)})
    result = to_half(model)
    assert run(result.model, {"x": floats(2049, 4)})[0].tolist() == [4098, 8]
    assert set(kept(result).values()) == {"it computes with integers, which FP16 holds up to 2048 only"}


def test_unknown_operators_and_types_stay_float32() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "other" : 1]>'
    text = "m (float[N,4] x) => (float[N,4] y) { a = Neg (x)\n b = other.Foo (a)\n c = Relu (b)\n y = Neg (c) }"
    result = to_half(parse(text, header=header))
    assert kept(result) == {
        "b": "whether operator Foo of domain 'other' takes FP16 is not known",
        "c": "the type of 'b' is not known",
        "y": "the type of 'c' is not known",
    }
    assert lines(result.model) == ["Cast(x)", "Neg(x_half)", "Cast(a)", "Foo(a_float)", "Relu(b)", "Neg(c)"]


@pytest.mark.parametrize("io", ["float32", "float16"])
def test_subgraphs_stay_float32_with_casts_around(io: str) -> None:
    text = """m (float[2,4] x, bool c) => (float[2,4] y) {
        a = Mul (x, k)
        b = If (c) <
            then_branch = t () => (float[2,4] u) { u = Neg (a) },
            else_branch = e () => (float[2,4] v) { v = Add (a, k) }
        >
        y = Add (b, k)
    }"""
    model = parse(text, {"k": floats(2, 4)})
    result = to_half(model, io)
    assert kept(result) == {"b": "its subgraphs are not converted"}
    assert {"k", "k_half"} <= set(initializers(result.model))
    for condition in (False, True):
        batch = {"x": floats(2, 4, seed=1), "c": np.array(condition)}
        got = run(result.model, batch | {"x": batch["x"].astype(io)})[0]
        np.testing.assert_allclose(got, run(model, batch)[0], rtol=6 * 2**-11, atol=2**-9)


def test_fp16_parts_stay_and_their_casts_go_where_nothing_needs_them() -> None:
    text = """m (float[N,4] x, float16[N,4] z) => (float[N,4] y, float16[N,4] w) {
        a = Cast <to = 10> (x)
        b = Relu (a)
        w = Add (b, z)
        c = Cast <to = 1> (w)
        d = Neg (c)
        y = Exp (d)
    }"""
    result = to_half(parse(text))
    assert lines(result.model) == ["Cast(x)", "Relu(x_half)", "Add(b,z)", "Neg(w)", "Cast(d)", "Exp(d_float)"]
    assert [v.type.tensor_type.elem_type for v in result.model.graph.output] == [FLOAT, HALF]
    assert [v.type.tensor_type.elem_type for v in result.model.graph.input] == [FLOAT, HALF]


@pytest.mark.parametrize("io", ["float32", "float16"])
def test_outputs_that_are_inputs_constants_or_casts_keep_names_and_values(io: str) -> None:
    text = """m (float[N,4] x) => (float[N,4] y, float[4] k, float[N,4] n, float[4] e) {
        n = Neg (x)
        y = Cast <to = 1> (n)
        e = Exp (k)
    }"""
    model = parse(text, {"k": floats(4)})
    result = to_half(model, io)
    batch = {"x": floats(2, 4)}
    for want, got in zip(run(model, batch), run(result.model, {"x": batch["x"].astype(io)}), strict=True):
        assert got.dtype == io
        np.testing.assert_allclose(got, want, rtol=2**-10)
    assert kept(result) == {"e": "what Exp computes easily exceeds FP16"}


def test_initializer_listed_as_input_of_an_old_model_is_no_input() -> None:
    header = '<ir_version: 3, opset_import: ["" : 13]>'
    model = parse("m (float[N,4] x, float[4,3] w) => (float[N,3] y) { y = MatMul (x, w) }", {"w": floats(4, 3)}, header)
    result = to_half(model)
    assert [i.name for i in result.model.graph.input] == ["x"]
    assert initializers(result.model)["w"].dtype == np.float16


def test_sequences_and_models_of_another_domain_pass_through() -> None:
    text = "m (float[2,4] x) => (float[2,4] y) { s = SequenceConstruct (x)\n y = SequenceAt (s, n) }"
    result = to_half(parse(text, {"n": np.asarray(0)}))
    assert kept(result) == {"s": "the type of 's' is not known", "y": "the type of 's' is not known"}
    header = '<ir_version: 8, opset_import: ["ai.onnx.ml" : 2]>'
    result = to_half(
        parse("m (float[2,4] x) => (float[2,4] y) { y = ai.onnx.ml.Binarizer (x) }", header=header), "float16"
    )
    assert [n.op_type for n in result.model.graph.node] == ["Cast", "Binarizer", "Cast"]


def test_model_above_the_limit_is_converted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    given = quantized(conv_net(), image_batches()).model
    want = to_half(given)
    monkeypatch.setattr(large, "BIG", 64)  # every weight counts as big
    monkeypatch.setattr(large, "LIMIT", 128)
    got = to_half(given)
    assert lines(got.model) == lines(want.model)
    for name, values in initializers(want.model).items():
        np.testing.assert_array_equal(initializers(got.model)[name], values)


def test_half_command_writes_the_model_and_says_what_stays(cli, tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = quantized(encoder(1), [{"x": floats(2, 6, 32)}]).model
    onnx.save(model, tmp_path / "q.onnx")
    done = cli("half", tmp_path / "q.onnx", "-o", tmp_path / "h.onnx", "--io", "float16")
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


def test_int32_bias_that_exceeds_fp16_stays_float32() -> None:
    text = """m (float[N,16] x) => (float[N,8] y) {
        w = DequantizeLinear (codes, s)
        b = DequantizeLinear (bias, bs)
        y = Gemm (x, w, b)
    }"""
    weights = {"codes": np.ones((16, 8), np.int8), "s": np.asarray(np.float32(0.1))}
    bias = {"bias": np.full(8, 200_000_000, np.int32), "bs": np.asarray(np.float32(5e-4))}
    model = parse(text, weights | bias)
    result = to_half(model)
    assert any("exceed FP16's 65504" in reason or "stays float32" in reason for _, reason in result.kept)
    np.testing.assert_allclose(run(result.model, {"x": np.zeros((2, 16), np.float32)})[0], 1e5, rtol=1e-3)
