"""Q/DQ taken out: ranges, Clips of codes, weights, and what cannot be taken out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import floats, initializers, parse, run
from quantlab.errors import GraphError
from quantlab.qdq import strip

HEADER = '<ir_version: 10, opset_import: ["" : 21]>'
ONE_PAIR = """m (float[N,4] x) => (float[N,4] y) {
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    y = Neg (d)
}"""


def array(value: float, dtype: type = np.float32) -> np.ndarray:
    return np.asarray(value, dtype)


@pytest.mark.parametrize(
    ("zero_point", "amax"),
    [
        (array(0, np.int8), 127 * 0.5),  # symmetric: code -128 does not count
        (array(100, np.int8), 228 * 0.5),  # -228 to 27: the low end is the larger
        (array(-100, np.int8), 227 * 0.5),  # -28 to 227: the high end
        (array(200, np.uint8), 200 * 0.5),  # -200 to 55
        (array(50, np.uint8), 205 * 0.5),
        (array(0, np.int16), 32767 * 0.5),
        (array(2000, np.int16), 34768 * 0.5),
    ],
)
def test_range_becomes_its_larger_magnitude(zero_point: np.ndarray, amax: float) -> None:
    stripped = strip(parse(ONE_PAIR, {"s": array(0.5), "z": zero_point}, HEADER))
    assert stripped.amax == {"x": np.float32(amax)}
    assert [n.op_type for n in stripped.model.graph.node] == ["Neg"]
    asymmetric = ("asymmetric ranges became symmetric: one bit of resolution less, and no cut at their short side",)
    assert stripped.notes == (asymmetric if zero_point.any() else ())


def test_tensor_with_two_pairs_keeps_the_larger_range() -> None:
    text = """m (float[N,4] x) => (float[N,4] y, float[N,4] t) {
        q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  y = Neg (d)
        r = QuantizeLinear (x, u, z)  e = DequantizeLinear (r, u, z)  t = Abs (e)
    }"""
    for first, second in ((0.5, 0.25), (0.25, 0.5)):
        given = {"s": array(first), "u": array(second), "z": array(0, np.int8)}
        assert strip(parse(text, given)).amax == {"x": np.float32(127 * 0.5)}


@pytest.mark.parametrize(
    ("maker", "clipped"),
    [
        ("a = Relu (x)", False),
        ("a = Sigmoid (x)", False),
        ("a = Softmax (x)", False),
        ("r = Relu (x)  a = Transpose <perm = [0,1]> (r)", False),
        ("r = Relu (x)  a = Concat <axis = 1> (r, r)", False),
        ("r = Relu (x)  a = Concat <axis = 1> (r, x)", True),
        ("a = Clip (x, zero, six)", False),
        ("a = Clip (x, minus, six)", True),
        ("a = Clip (x)", True),
        ("a = LeakyRelu (x)", True),
        ("a = my.Relu (x)", True),
        ("a = Identity (x)", True),
    ],
)
def test_range_from_zero_leaves_a_clip_unless_the_tensor_cannot_be_negative(maker: str, clipped: bool) -> None:
    text = f"""m (float[2,4] x) => (float[2,B] y) {{
        {maker}
        q = QuantizeLinear (a, s, z)
        d = DequantizeLinear (q, s, z)
        y = Neg (d)
    }}"""
    header = '<ir_version: 8, opset_import: ["" : 13, "my" : 1]>'
    numbers = {"zero": array(0), "six": array(6), "minus": array(-1)}
    stripped = strip(parse(text, numbers | {"s": array(0.02), "z": array(0, np.uint8)}, header))
    clips = [n for n in stripped.model.graph.node if n.op_type == "Clip" and n.input[0] == "a"]
    assert bool(clips) == clipped
    assert bool(stripped.aliases) == clipped
    assert any("a Clip takes the place of the zero point" in note for note in stripped.notes) == clipped
    if clipped:
        (clip,) = clips
        limits = initializers(stripped.model)
        assert (limits[clip.input[1]], limits[clip.input[2]]) == (0, np.float32(255 * np.float32(0.02)))
        assert stripped.aliases == {clip.output[0]: "a"}
        assert stripped.amax_with_aliases(stripped.amax)[clip.output[0]] == stripped.amax["a"]


def clip_of_codes(low: int, high: int, dtype: type = np.int8) -> onnx.ModelProto:
    """The pair of an activation with a Clip of its codes between the two nodes."""
    text = ONE_PAIR.replace("d = DequantizeLinear (q", "k = Clip (q, low, high)  d = DequantizeLinear (k")
    given = {"s": array(0.5), "z": array(0, dtype), "low": array(low, dtype), "high": array(high, dtype)}
    return parse(text, given, HEADER)


@pytest.mark.parametrize("low", [-127, -128])
def test_clip_of_codes_to_the_symmetric_range_goes(low: int) -> None:
    """-127 is the range of amax; -128, the range of int8, cuts nothing."""
    stripped = strip(clip_of_codes(low, 127))
    assert [n.op_type for n in stripped.model.graph.node] == ["Neg"]
    assert stripped.amax == {"x": np.float32(127 * 0.5)}


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(-126, 127, np.int8), (0, 127, np.int8), (-127, 126, np.int8), (-128, 100, np.int8), (-32768, 127, np.int16)],
)
def test_clip_of_codes_that_cuts_more_is_refused(low: int, high: int, dtype: type) -> None:
    with pytest.raises(GraphError, match="has no counterpart and cannot be removed"):
        strip(clip_of_codes(low, high, dtype))


def test_clip_of_codes_with_computed_or_missing_bounds_is_refused() -> None:
    text = ONE_PAIR.replace("d = DequantizeLinear (q", "k = Clip (q, low)  d = DequantizeLinear (k")
    given = {"s": array(0.5), "z": array(0, np.int8)}
    with pytest.raises(GraphError, match="has no counterpart"):
        strip(parse(text, given | {"low": array(-127, np.int8)}, HEADER))
    text = text.replace("(q, low)", "(q, low, high)")
    two = {"low": np.full(2, -127, np.int8), "high": np.full(2, 127, np.int8)}  # ONNX wants one value
    with pytest.raises(GraphError, match="has no counterpart"):
        strip(parse(text, given | two, HEADER))
    text = text.replace("x) =>", "x, int8 low, int8 high) =>")
    with pytest.raises(GraphError, match="has no counterpart"):
        strip(parse(text, given, HEADER))


@pytest.mark.parametrize("low", [-127, -128, -50])
def test_clip_of_the_codes_of_a_float_weight_cuts_its_values(low: int) -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        q = QuantizeLinear (w, s, z)
        k = Clip (q, low, high)
        w_dequantized = DequantizeLinear (k, s, z)
        y = MatMul (x, w_dequantized)
    }"""
    w = np.array([[-200, -127, 0, 200], *np.zeros((3, 4))], np.float32)
    given = {"w": w, "s": array(1), "z": array(0, np.int8), "low": array(low, np.int8), "high": array(127, np.int8)}
    model = parse(text, given, HEADER)
    stripped, batch = strip(model), {"x": floats(3, 4)}
    (constant,) = (v for n, v in initializers(stripped.model).items() if v.shape == (4, 4))
    np.testing.assert_array_equal(constant[0], [max(low, -128), max(low, -127), 0, 127])
    np.testing.assert_allclose(run(stripped.model, batch)[0], run(model, batch)[0], rtol=1e-6)


def test_weight_keeps_its_scales_through_a_transpose() -> None:
    text = """m (float[N,6] x) => (float[N,4] y) {
        k = DequantizeLinear <axis = 0> (codes, s, z)
        w = Transpose (k)
        y = MatMul (x, w)
    }"""
    scale = np.array([1, 2, 3, 4], np.float32) / 64
    given = {"codes": np.ones((4, 6), np.int8), "s": scale, "z": np.zeros(4, np.int8)}
    stripped = strip(parse(text, given))
    assert stripped.weight_amax["w"][1] == 1
    np.testing.assert_array_equal(stripped.weight_amax["w"][0], scale * np.float32(127))


@pytest.mark.parametrize(
    ("suffix", "name"),
    [("w_dequantized", "w"), ("w_DequantizeLinear_Output", "w"), ("w_dequant", "w"), ("other", "other_float")],
)
def test_weight_gets_the_name_it_had_before_a_tool_appended_to_it(suffix: str, name: str) -> None:
    text = f"m (float[N,4] x) => (float[N,4] y) {{ {suffix} = DequantizeLinear (c, s, z)  y = MatMul (x, {suffix}) }}"
    given = {"c": np.ones((4, 4), np.int8), "s": array(0.5), "z": array(0, np.int8)}
    assert list(initializers(strip(parse(text, given)).model)) == [name]
    taken = parse(text.replace("y = MatMul", f"{name} = Neg (x)  y = MatMul"), given)
    assert list(initializers(strip(taken).model)) == [f"{name}_1"]


@pytest.mark.parametrize(
    ("text", "constants", "reason"),
    [
        (ONE_PAIR, {"s": np.asarray(np.float16(0.5)), "z": array(0, np.int8)}, "is float16, so its remainder is not"),
        (ONE_PAIR, {"s": array(np.inf), "z": array(0, np.int8)}, "is NaN, infinite or negative"),
        (ONE_PAIR, {"s": array(-1), "z": array(0, np.int8)}, "is NaN, infinite or negative"),
        (ONE_PAIR.replace("x) =>", "x, float s) =>"), {"z": array(0, np.int8)}, "the scale of 'q?d?.*' is computed"),
        (ONE_PAIR.replace("x) =>", "x, int8 z) =>"), {"s": array(1)}, "is computed"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(text: str, constants: dict[str, np.ndarray], reason: str) -> None:
    with pytest.raises(GraphError, match=reason):
        strip(parse(text, constants, HEADER))


def test_blocked_scales_and_codes_of_four_bits_are_refused() -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        w = DequantizeLinear <axis = 0, block_size = 2> (c, s, z)
        y = MatMul (x, w)
    }"""
    given = {"c": np.ones((4, 4), np.int8), "s": np.ones((2, 4), np.float32), "z": np.zeros((2, 4), np.int8)}
    with pytest.raises(GraphError, match="has a scale per block, which TensorRT's INT8 has not"):
        strip(parse(text, given, HEADER))
    text = """m (float[N,4] x) => (float[N,4] y) {
        q = QuantizeLinear <output_dtype = 22> (x, s)
        d = DequantizeLinear (q, s)
        y = Neg (d)
    }"""
    with pytest.raises(GraphError, match="has int4 codes, not INT8"):
        strip(parse(text, {"s": array(1)}, HEADER))


def test_quantized_output_keeps_its_name() -> None:
    text = """m (float[N,4] x) => (float[N,4] y) {
        a = Neg (x)
        q = QuantizeLinear (a, s, z)
        y = DequantizeLinear (q, s, z)
    }"""
    stripped = strip(parse(text, {"s": array(0.5), "z": array(0, np.int8)}))
    assert [(n.op_type, list(n.output)) for n in stripped.model.graph.node] == [("Neg", ["y"])]
    assert stripped.amax == {"y": np.float32(63.5)}


@pytest.mark.parametrize("maker", ["", "c = DequantizeLinear (codes, s, z)"])
def test_output_that_is_an_input_or_a_constant_gets_an_identity(maker: str) -> None:
    body = (
        "y = DequantizeLinear (codes, s, z)" if maker else "q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z)"
    )
    text = f"m (float[2,4] x) => (float[2,4] y) {{ {body} }}"
    given = {"s": array(0.5), "z": array(0, np.int8), "codes": np.ones((2, 4), np.int8)}
    stripped = strip(parse(text, given))
    assert [(n.op_type, list(n.output)) for n in stripped.model.graph.node] == [("Identity", ["y"])]
    want = np.full((2, 4), 0.5) if maker else floats(2, 4)
    np.testing.assert_allclose(run(stripped.model, {"x": floats(2, 4)})[0], want, rtol=1e-6)


def test_output_of_a_node_with_several_results_keeps_its_name_and_the_others_theirs() -> None:
    text = """m (float[N,4] x) => (float[A,B] y, float[A,C] z) {
        a, b = Split <axis = 1> (x)
        q = QuantizeLinear (b, s, z0)
        y = DequantizeLinear (q, s, z0)
        z = Neg (a)
    }"""
    stripped = strip(parse(text, {"s": array(0.5), "z0": array(0, np.int8)}))
    assert [(n.op_type, list(n.output)) for n in stripped.model.graph.node] == [("Split", ["a", "y"]), ("Neg", ["z"])]


@pytest.mark.parametrize("zero_point", ["", ", off"])
def test_stored_codes_come_back_if_they_are_symmetric(zero_point: str) -> None:
    text = f"""m (float[N,4] x) => (float[N,4] y) {{
        w_dequantized = DequantizeLinear (codes, s{zero_point})
        y = MatMul (x, w_dequantized)
    }}"""
    codes = np.random.default_rng(0).integers(-90, 90, (4, 4)).astype(np.int8)
    model = parse(text, {"codes": codes, "s": array(0.5), "off": array(3, np.int8)})
    stripped, eye = strip(model), {"x": np.eye(4, dtype=np.float32)}
    np.testing.assert_array_equal(run(stripped.model, eye)[0], run(model, eye)[0])
    assert {name: (float(amax), axis) for name, (amax, axis) in stripped.weight_amax.items()} == (
        {} if zero_point else {"w": (63.5, None)}
    )


@pytest.mark.parametrize("zero_point", [None, array(0, np.int8), array(3, np.int8), array(128, np.uint8)])
def test_float_weight_with_a_pair_becomes_what_the_pair_makes_of_it(zero_point: np.ndarray | None) -> None:
    given = "" if zero_point is None else ", z"  # without one the codes are uint8
    text = f"""m (float[N,4] x) => (float[N,4] y) {{
        q = QuantizeLinear (w, s{given})
        w_dequantized = DequantizeLinear (q, s{given})
        y = MatMul (x, w_dequantized)
    }}"""
    constants = {"w": floats(4, 4), "s": array(0.02)} | ({} if zero_point is None else {"z": zero_point})
    model = parse(text, constants)
    stripped = strip(model)
    eye = {"x": np.eye(4, dtype=np.float32)}
    np.testing.assert_array_equal(run(stripped.model, eye)[0], run(model, eye)[0])
    keeps_codes = zero_point is not None and not zero_point.any()
    assert list(stripped.weight_amax) == (["w"] if keeps_codes else [])


def test_scale_of_zero_is_that_of_a_tensor_that_was_all_zero() -> None:
    assert strip(parse(ONE_PAIR, {"s": array(0), "z": array(0, np.int8)})).amax == {"x": 0}


def test_other_arithmetic_on_codes_is_refused() -> None:
    text = ONE_PAIR.replace("d = DequantizeLinear (q", "k = Min (q, low, high)  d = DequantizeLinear (k")
    given = {"s": array(0.5), "z": array(0, np.int8), "low": array(-127, np.int8), "high": array(127, np.int8)}
    with pytest.raises(GraphError, match="has no counterpart"):
        strip(parse(text, given, HEADER))
