"""Per-channel gates (squeeze-and-excitation): both inputs of the product are quantized, and means become poolings."""

from __future__ import annotations

import numpy as np
import pytest

from models import OPSET, floats, run, sqnr_db
from placement_parts import OPSET_18, decisions, graph_of, ints, named, normal_batch, on_normal_values, shown
from quantlab.qdq import lint, plan, prepare
from quantlab.qdq.conditions import ELEMENTWISE, is_gate

W = {"w": floats(8, 8, 1, 1), "u": floats(4, 8, 1, 1, seed=1), "e": floats(8, 4, 1, 1, seed=2),
     "d": floats(8, 1, 3, 3, seed=3), "v": floats(8, 8, 1, 1, seed=4)}  # fmt: skip
FLAT = {"u": floats(8, 4, seed=1), "e": floats(4, 8, seed=2), "tall": ints(0, 8, 1, 1)}
SQUEEZED = "g = GlobalAveragePool (r)"
EXCITED = "h = Conv (g, u)  i = Relu (h)  j = Conv (i, e)  s = Sigmoid (j)"


def block(squeeze: str = SQUEEZED, product: str = "m = Mul (r, s)", excite: str = EXCITED) -> str:
    """A depthwise convolution, its gate, and a convolution that reads the product."""
    return f"""m (float[N,8,8,8] x) => (float[N,8,8,8] y) {{
        a = Conv <group = 8, pads = [1,1,1,1]> (x, d)  r = Relu (a)
        {squeeze}
        {excite}
        {product}
        y = Conv (m, v)
    }}"""


HEAD = ["a = Conv(pair(x), int8(d))", "r = Relu(a)"]
TAIL = ["h = Conv(pair(g), int8(u))", "i = Relu(h)", "j = Conv(pair(i), int8(e))", "s = Sigmoid(j)"]


@pytest.mark.parametrize(
    ("product", "gate"),
    [("m = Mul (r, s)", "m = Mul(pair(r), pair(s))"), ("m = Mul (s, r)", "m = Mul(pair(s), pair(r))")],
)
def test_gate_of_a_depthwise_block_is_int8_throughout(product: str, gate: str) -> None:
    result = on_normal_values(named(block(product=product), W))
    want = [*HEAD, "g = GlobalAveragePool(pair(r))", *TAIL, gate, "y = Conv(pair(m), int8(v))"]
    assert sorted(shown(result.model)) == sorted(want)
    assert {result.placement.why["m", index] for index in (0, 1)} == {"INT8 kernel"}
    assert lint(result.model) == []


@pytest.mark.parametrize(
    ("node", "header", "more"),
    [
        ("ReduceMean <axes = [2,3]> (r)", OPSET, {}),
        ("ReduceMean <axes = [3,2], keepdims = 1> (r)", OPSET, {}),
        ("ReduceMean <axes = [-1,-2]> (r)", OPSET, {}),
        ("ReduceMean <axes = [2,-1]> (r)", OPSET, {}),
        ("ReduceMean (r, axes)", OPSET_18, {"axes": ints(2, 3)}),
        ("ReduceMean <keepdims = 1> (r, axes)", OPSET_18, {"axes": ints(-1, -2)}),
    ],
)
def test_mean_over_height_and_width_gates_as_a_pooling(node: str, header: str, more: dict[str, np.ndarray]) -> None:
    model = named(block(f"g = {node}"), W | more, header)
    result = on_normal_values(model)
    assert "g = GlobalAveragePool(pair(r))" in shown(result.model)
    assert "m = Mul(pair(r), pair(s))" in shown(result.model)
    assert lint(result.model) == []
    assert_same_numbers(model, prepare(model))


@pytest.mark.parametrize(
    ("node", "header", "more"),
    [
        ("ReduceMean <axes = [2,3], keepdims = 0> (r)", OPSET, {}),
        ("ReduceMean <axes = [-2,-1], keepdims = 0> (r)", OPSET, {}),
        ("ReduceMean <keepdims = 0> (r, axes)", OPSET_18, {"axes": ints(2, 3)}),
    ],
)
def test_mean_that_drops_its_dimensions_gates_as_a_pooling_behind_a_flatten(
    node: str, header: str, more: dict[str, np.ndarray]
) -> None:
    excite = "h = Gemm (g, u)  i = Relu (h)  j = Gemm (i, e)  k = Sigmoid (j)  s = Reshape (k, tall)"
    model = named(block(f"g = {node}", excite=excite), W | FLAT | more, header)
    result = on_normal_values(model)
    lines = shown(result.model)
    assert "g_pooled = GlobalAveragePool(pair(r))" in lines
    assert "g = Flatten(g_pooled)" in lines
    assert "h = Gemm(pair(g), int8(u))" in lines
    assert "m = Mul(pair(r), pair(s))" in lines
    assert lint(result.model) == []
    assert_same_numbers(model, prepare(model))


def assert_same_numbers(model: object, prepared: object) -> None:
    batch = normal_batch(model, 3)
    # a mean of 64 values in two orders: each rounds by at most 64 half units, the layers behind it magnify little
    np.testing.assert_allclose(run(prepared, batch)[0], run(model, batch)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("node", "kept"),
    [
        ("ReduceMean <axes = [1]> (x)", "ReduceMean"),
        ("ReduceMean <axes = [2]> (x)", "ReduceMean"),
        ("ReduceMean <axes = [1,2]> (x)", "ReduceMean"),
        ("ReduceMean <axes = [0,2,3]> (x)", "ReduceMean"),
        ("ReduceMean (x)", "ReduceMean"),
        ("ReduceMax <axes = [2,3]> (x)", "ReduceMax"),
        ("ReduceMean <axes = [2,3]> (x)", "GlobalAveragePool"),
    ],
)
def test_mean_over_other_axes_stays(node: str, kept: str) -> None:
    model = named(f"m (float[N,4,6,5] x) => (float y) {{ y = {node} }}")
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    prepared = prepare(model)
    assert [n.op_type for n in prepared.graph.node] == [kept]
    batch = {"x": floats(2, 4, 6, 5)}
    np.testing.assert_allclose(run(prepared, batch)[0], run(model, batch)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "out"),
    [
        ("float[N,4,6]", "float[N,1,1]"),
        ("float[N,4,6,5,3]", "float[N,4,1,1,3]"),
        ("double[N,4,6,5]", "double[N,4,1,1]"),
    ],
)
def test_mean_of_signals_volumes_and_other_types_stays(given: str, out: str) -> None:
    axes = "[1,2]" if given.endswith("4,6]") else "[2,3]"
    prepared = prepare(named(f"m ({given} x) => ({out} y) {{ y = ReduceMean <axes = {axes}> (x) }}"))
    assert [n.op_type for n in prepared.graph.node] == ["ReduceMean"]


def test_mean_with_computed_axes_or_of_unknown_shape_stays() -> None:
    computed = "m (float[N,4,6,5] x, int64[2] axes) => (float[A,B,C,D] y) { y = ReduceMean (x, axes) }"
    assert [n.op_type for n in prepare(named(computed, header=OPSET_18)).graph.node] == ["ReduceMean"]
    unknown = named("m (float[N,4,6,5] x) => (float[N,4,1,1] y) { y = ReduceMean <axes = [2,3]> (x) }")
    for value in (*unknown.graph.input, *unknown.graph.output):
        value.type.tensor_type.ClearField("shape")
    assert [n.op_type for n in prepare(unknown).graph.node] == ["ReduceMean"]


def test_mean_that_is_an_output_keeps_its_name_and_shape() -> None:
    text = "m (float[N,4,6,5] x) => (float[N,4] y) { y = ReduceMean <axes = [2,3], keepdims = 0> (x) }"
    prepared = prepare(named(text))
    assert [(n.op_type, list(n.output)) for n in prepared.graph.node] == [
        ("GlobalAveragePool", ["y_pooled"]), ("Flatten", ["y"])
    ]  # fmt: skip
    assert not prepared.graph.node[0].attribute
    batch = {"x": floats(2, 4, 6, 5)}
    np.testing.assert_allclose(run(prepared, batch)[0], run(named(text), batch)[0], rtol=1e-5, atol=1e-6)


GATED = """m ({x} x, {g} h) => (float[A,B,C,D] y) {{
    g = {gate} (h)
    a = Conv (x, w)
    b = Mul ({order})
    y = Conv (b, v)
}}"""


@pytest.mark.parametrize(
    ("x", "g", "is_gate"),
    [
        ("float[N,8,4,4]", "float[N,8,1,1]", True),
        ("float[N,8,4,4]", "float[1,8,1,1]", True),
        ("float[N,8,H,W]", "float[N,8,1,1]", True),  # dynamic sizes are not taken to be one
        ("float[N,8,4,4]", "float[N,8,4,4]", False),  # the same shapes
        ("float[N,8,1,1]", "float[N,8,1,1]", False),  # both one per channel
        ("float[N,8,4,4]", "float[N,1,1,1]", False),  # one for all channels
        ("float[N,8,4,4]", "float[N,8,4,1]", False),  # one per row
        ("float[N,8,4,4]", "float[8,1,1]", False),  # fewer dimensions
        ("float[N,8,4,4]", "float[8,4,1]", False),
        ("float[N,8,4,4]", "float[N,1,4,4]", False),  # one per pixel
    ],
)
@pytest.mark.parametrize("order", ["a, g", "g, a"])
def test_product_is_a_gate_by_its_shapes(x: str, g: str, order: str, is_gate: bool) -> None:
    weights = {"w": floats(8, 8, 1, 1), "v": floats(8, 8, 1, 1, seed=1)}
    reads, _, reasons = decisions(GATED.format(x=x, g=g, order=order, gate="Sigmoid"), weights)
    assert ({"b<-a", "b<-g"} <= set(reads)) == is_gate
    assert reasons.get("b") == (None if is_gate else ELEMENTWISE)


def test_gate_of_a_signal_is_a_gate_and_that_of_vectors_is_none() -> None:
    text = """m (float[N,8,9] x, float[N,8,1] h) => (float[A,B,C] y) {
        g = Sigmoid (h)
        a = Conv (x, w)
        b = Mul (a, g)
        y = Conv (b, w)
    }"""
    assert {"b<-a", "b<-g"} <= set(decisions(text, {"w": floats(8, 8, 1)})[0])
    text = "m (float[N,8] x, float[N,1] g) => (float[A,B] y) { a = Gemm (x, w)  b = Mul (a, g)  y = Gemm (b, w) }"
    assert decisions(text, {"w": floats(8, 8)})[2]["b"] == ELEMENTWISE


@pytest.mark.parametrize(
    ("gate", "is_gate"),
    [
        ("Sigmoid (h)", True),
        ("HardSigmoid (h)", True),
        ("Clip (h, low, high)", True),
        ("Relu (h)", True),
        ("Sigmoid (h)  k = Reshape (g0, shape)  g = Mul (k, two)", True),  # moved and scaled
        ("Sqrt (h)", False),  # of a normalization: its range has no end
        ("Reciprocal (h)", False),
        ("Exp (h)", False),
        ("Add (h, x0)", False),
    ],
)
def test_gate_is_made_by_an_activation_and_not_by_a_normalization(gate: str, is_gate: bool) -> None:
    made = f"g0 = {gate}" if " g = " in gate else f"g = {gate}"
    text = f"""m (float[2,8,4,4] x, float[2,8,1,1] h, float[2,8,1,1] x0) => (float[A,B,C,D] y) {{
        {made}
        a = Conv (x, w)
        b = Mul (a, g)
        y = Conv (b, v)
    }}"""
    more = {"low": np.float32(0), "high": np.float32(6), "two": np.float32(2), "shape": np.array([2, 8, 1, 1])}
    weights = {"w": floats(8, 8, 1, 1), "v": floats(8, 8, 1, 1, seed=1)}
    reads, _, _ = decisions(text, weights | {name: np.asarray(value) for name, value in more.items()})
    assert ("b<-g" in reads) == is_gate


def test_gate_of_another_number_of_channels_is_none() -> None:
    text = GATED.format(x="float[N,8,4,4]", g="float[N,8,1,1]", order="a, g", gate="Sigmoid")
    outer = text.replace("b = Mul (a, g)", "t = Reshape (a, flat)  b = Mul (t, g)")
    weights = {"w": floats(8, 8, 1, 1), "v": floats(8, 8, 1, 1, seed=1), "flat": np.array([0, 1, 32, 4])}
    assert decisions(outer, weights)[2]["b"] == ELEMENTWISE


def test_product_with_a_constant_is_no_gate() -> None:
    text = "m (float[N,8,4,4] x) => (float[A,B,C,D] y) { a = Relu (x)  b = Mul (a, k)  y = Conv (b, v) }"
    weights = {"v": floats(8, 8, 1, 1, seed=1), "k": floats(1, 8, 1, 1)}
    assert decisions(text, weights)[2]["b"] == "input 1 is constant"
    assert is_gate(graph_of(text, weights).nodes[1]) == ELEMENTWISE


def test_product_of_unknown_shapes_is_no_gate() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "my" : 1]>'
    text = """m (float[N,8,4,4] x) => (float[A,B,C,D] y) {
        a = Conv (x, w)  g = my.Squeeze (a)  b = Mul (a, g)  y = Conv (b, v)
    }"""
    model = named(text, {"w": floats(8, 8, 1, 1), "v": floats(8, 8, 1, 1, seed=1)}, header)
    assert {s.node: s.reason for s in plan(prepare(model)).skipped}["b"] == ELEMENTWISE


def test_gate_whose_result_nothing_reads_in_int8_stays_float() -> None:
    text = """m (float[N,8,4,4] x, float[N,8,1,1] h) => (float[N,8,4,4] b) {
        g = Sigmoid (h)
        a = Conv (x, w)
        b = Mul (a, g)
    }"""
    _, _, reasons = decisions(text, {"w": floats(8, 8, 1, 1)})
    assert reasons["b"] == "its result is not read in INT8"


def test_int8_model_of_a_gate_stays_close_to_fp32() -> None:
    model = named(block(), W)
    result = on_normal_values(model, size=16)
    batch = normal_batch(model, 16)
    # the noise of 8 bits is at least 31 dB below normal values whose largest is 6 sigma: 20 log10(127 sqrt(12) / 6);
    # seven tensors and four weights in a row, each with that much of its own, leave 31 - 10 log10(11) dB
    assert sqnr_db(run(model, batch)[0], run(result.model, batch)[0]) > 20
