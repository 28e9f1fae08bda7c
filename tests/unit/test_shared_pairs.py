"""Pairs for the sake of one kernel: before activations that do not fuse, and for all readers of a depthwise result."""

from __future__ import annotations

import numpy as np
import pytest

from models import floats, run, sqnr_db
from placement_parts import decisions, named, normal_batch, on_normal_values, shown
from quantlab.calibration import CalibrationTable
from quantlab.qdq import EVERYTHING, Selection, import_scales, lint, plan, prepare, requantize

WRITES_INT8 = "INT8 does not pay: a depthwise or grouped kernel writes INT8 only, and its result is needed in float"
LAYERS = {
    "first": ("Conv <pads = [1,1,1,1]> (x, w)", floats(8, 3, 3, 3), 3),
    "depthwise": ("Conv <group = 8, pads = [1,1,1,1]> (x, w)", floats(8, 1, 3, 3), 8),
    "grouped": ("Conv <group = 2, pads = [1,1,1,1]> (x, w)", floats(8, 4, 3, 3), 8),
    "ordinary": ("Conv <pads = [1,1,1,1]> (x, w)", floats(8, 8, 3, 3), 8),
}
V = {"v": floats(8, 8, 1, 1, seed=1), "u": floats(8, 8, 1, 1, seed=2)}
DEPTHWISE = V | {"d": floats(8, 1, 3, 3), "p": floats(8, 8, 1, 1, seed=3)}
IN, OUT = "m (float[N,8,8,8] x) =>", "float[A,B,C,D] y"
DW = "a = Conv <group = 8, pads = [1,1,1,1]> (x, d)"
HARD = "s = HardSigmoid (a)  r = Mul (a, s)"
SILU = "s = Sigmoid (a)  r = Mul (a, s)"
FORMS = {HARD: {"ordinary"}, SILU: {"ordinary", "first", "depthwise"}, "r = Relu (a)": set(LAYERS)}
"""An activation -> the kinds that it stands behind without a pair between them."""


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("form", FORMS)
def test_activation_that_does_not_fuse_reads_int8(kind: str, form: str) -> None:
    layer, w, channels = LAYERS[kind]
    text = f"m (float[N,{channels},8,8] x) => ({OUT}) {{ a = {layer}  {form}  y = Conv (r, v) }}"
    result = on_normal_values(named(text, V | {"w": w}))
    a = "a" if kind in FORMS[form] else "pair(a)"
    want = {
        HARD: [f"s = HardSigmoid({a})", f"r = Mul({a}, s)"],
        SILU: [f"s = Sigmoid({a})", f"r = Mul({a}, s)"],
        "r = Relu (a)": [f"r = Relu({a})"],
    }[form]
    assert shown(result.model) == ["a = Conv(pair(x), int8(w))", *want, "y = Conv(pair(r), int8(v))"]
    assert lint(result.model) == []
    name = "HardSwish" if form == HARD else "Swish"
    if a != "a":
        assert result.placement.why["s", 0] == f"{name} does not fuse into a {kind} convolution"


def test_activation_that_the_user_wants_in_float_gets_no_pair() -> None:
    model = named(f"{IN} ({OUT}) {{ {DW}  {HARD}  y = Conv (r, v) }}", DEPTHWISE)
    placed = plan(prepare(model), Selection(exclude=("op:HardSigmoid", "op:Mul")))
    assert "a" not in placed.tensors
    assert "a" in plan(prepare(model), Selection(exclude=("op:Mul",))).tensors  # the other still reads it in INT8


def test_pair_stands_before_the_first_of_two_activations_that_does_not_fuse() -> None:
    text = f"{IN} ({OUT}) {{ {DW}  b = Relu (a)  c = LeakyRelu (b)  e = LeakyRelu (c)  y = Conv (e, v) }}"
    result = on_normal_values(named(text, DEPTHWISE))
    assert shown(result.model)[1:] == [
        "b = Relu(a)", "c = LeakyRelu(pair(b))", "e = LeakyRelu(c)", "y = Conv(pair(e), int8(v))"
    ]  # fmt: skip
    assert lint(result.model) == []


@pytest.mark.parametrize(
    "form",
    [
        "b = Add (a, three)  c = Clip (b, zero, six)  e = Div (c, six)  r = Mul (a, e)",
        "b = Add (a, three)  c = Clip (b, zero, six)  e = Mul (c, sixth)  r = Mul (e, a)",
        "b = Add (a, three)  c = Clip (b, zero, six)  e = Mul (a, c)  r = Div (e, six)",
        "b = Add (a, three)  c = Clip (b, zero, six)  e = Mul (a, c)  r = Mul (e, sixth)",
    ],
)
def test_hard_swish_written_out_behind_a_depthwise_convolution_reads_int8(form: str) -> None:
    numbers = {"three": 3, "zero": 0, "six": 6, "sixth": 1 / 6}
    constants = {name: np.asarray(value, np.float32) for name, value in numbers.items()}
    text = f"{IN} ({OUT}) {{ {DW}  {form}  y = Conv (r, v) }}"
    result = on_normal_values(named(text, DEPTHWISE | constants))
    assert "b = Add(pair(a), three)" in shown(result.model)
    assert lint(result.model) == []


def test_scaling_behind_an_activation_keeps_no_pair_apart() -> None:
    text = f"{IN} ({OUT}) {{ {DW}  b = Relu (a)  c = Mul (b, k)  y = Conv (c, v) }}"
    result = on_normal_values(named(text, DEPTHWISE | {"k": floats(1, 8, 1, 1)}))
    assert shown(result.model)[1:3] == ["b = Relu(a)", "c = Mul(b, k)"]


def test_float_reader_of_a_depthwise_result_shares_its_pair() -> None:
    text = f"{IN} ({OUT}, float[N,8,8,8] z) {{ {DW}  r = Relu (a)  y = Conv (r, v)  z = Softmax <axis = 1> (r) }}"
    result = on_normal_values(named(text, DEPTHWISE))
    assert sorted(shown(result.model)) == sorted([
        "a = Conv(pair(x), int8(d))", "r = Relu(a)", "y = Conv(pair(r), int8(v))", "z = Softmax(pair(r))"
    ])  # fmt: skip
    assert result.placement.why["z", 0] == "a depthwise convolution writes INT8 only"
    assert lint(result.model) == []


def test_float_reader_beside_one_that_moves_values_shares_the_pair_too() -> None:
    moved = "t = Transpose <perm = [0,1,3,2]> (a)  y = Conv (t, v)  z = Softmax (a)"
    text = f"{IN} ({OUT}, float[N,8,8,8] z) {{ {DW}  {moved} }}"
    assert lint(on_normal_values(named(text, DEPTHWISE)).model) == []


def test_layer_that_is_left_out_gets_no_pair_behind_it() -> None:
    text = f"m (float[N,8,H,8] x) => ({OUT}) {{ {DW}  {HARD}  y = Conv (r, v) }}"
    assert decisions(text, DEPTHWISE, Selection(exclude=("a",)))[0] == ["y<-r"]
    first = f"m (float[N,3,H,8] x) => ({OUT}) {{ a = Conv (x, w)  {HARD}  y = Softmax (r) }}"
    assert decisions(first, {"w": LAYERS["first"][1]}, EVERYTHING)[0] == ["a<-x"]
    assert decisions(f"{IN} ({OUT}) {{ {DW}  y = Softmax (a) }}", DEPTHWISE, EVERYTHING)[0] == ["a<-x"]


def test_float_reader_of_an_ordinary_result_reads_float() -> None:
    text = f"{IN} ({OUT}, float[N,8,8,8] z) {{ a = Conv (x, p)  r = Relu (a)  y = Conv (r, v)  z = Softmax (r) }}"
    assert "z = Softmax(r)" in shown(on_normal_values(named(text, DEPTHWISE)).model)


def test_sum_that_reads_a_depthwise_result_twice_reads_the_pair_twice() -> None:
    text = f"{IN} ({OUT}, float[N,8,8,8] z) {{ {DW}  r = Relu (a)  y = Conv (r, v)  z = Add (r, r) }}"
    assert "z = Add(pair(r), pair(r))" in shown(on_normal_values(named(text, DEPTHWISE)).model)


@pytest.mark.parametrize("layer", ["depthwise", "grouped"])
@pytest.mark.parametrize(
    ("rest", "more"),
    [
        ("r = Relu (a)  y = Softmax (r)", ""),  # nothing reads it in INT8
        ("y = Relu (a)", ""),  # it leaves the network
        ("r = Relu (a)  y = Conv (r, v)", ", float[N,8,8,8] r"),  # beside a reader in INT8
    ],
)
def test_depthwise_or_grouped_result_that_is_needed_in_float_keeps_its_layer_in_float(
    layer: str, rest: str, more: str
) -> None:
    text = f"{IN} ({OUT}{more}) {{ b = Conv (x, u)  a = {LAYERS[layer][0].replace('(x', '(b')}  {rest} }}"
    reads, _, reasons = decisions(text, V | {"w": LAYERS[layer][1]})
    assert reasons["a"].startswith(WRITES_INT8)
    assert not any(read.startswith("a<-") for read in reads)


def test_sum_of_two_depthwise_results_that_others_read_is_no_residual_sum_of_pairs() -> None:
    text = f"""{IN} ({OUT}, float[A,B,C,D] z, float[N,8,8,8] t) {{
        a = Conv <group = 8, pads = [1,1,1,1]> (x, d)
        b = Conv <group = 8, pads = [1,1,1,1]> (x, d)
        y = Conv (a, v)
        z = Conv (b, u)
        s = Add (a, b)
        t = Relu (s)
    }}"""
    assert lint(on_normal_values(named(text, DEPTHWISE)).model) == []


SUM = f"{IN} ({OUT}) {{{{ i = Conv (x, p)  {DW.replace('x,', 'i,')}  {{body}}  y = Conv (t, v) }}}}"


@pytest.mark.parametrize(
    ("before", "add", "behind"),
    [
        ("", "t = Add(pair(a), pair(i))", ""),
        ("", "t = Add(pair(i), pair(a))", ""),
        ("", "s = Add(pair(a), pair(i))", "t = Relu(s)"),
        ("r = Relu(a)", "t = Add(pair(r), pair(i))", ""),
        ("r = Relu(a)", "s = Add(pair(r), pair(i))", "t = Relu(s)"),
    ],
)
def test_sum_behind_a_depthwise_convolution_reads_both_in_int8(before: str, add: str, behind: str) -> None:
    body = "  ".join([before, add, behind]).replace("pair(a)", "a").replace("pair(i)", "i").replace("pair(r)", "r")
    result = on_normal_values(named(SUM.format(body=body), DEPTHWISE))
    want = [
        "i = Conv(pair(x), int8(p))",
        "a = Conv(pair(i), int8(d))",
        before,
        add,
        behind,
        "y = Conv(pair(t), int8(v))",
    ]
    assert sorted(shown(result.model)) == sorted(filter(None, want))
    assert lint(result.model) == []


def test_sum_behind_a_depthwise_convolution_that_nothing_reads_in_int8_leaves_both_in_float() -> None:
    text = f"{IN} ({OUT}) {{ i = Conv (x, p)  {DW.replace('x,', 'i,')}  s = Add (a, i)  y = Softmax (s) }}"
    reads, _, reasons = decisions(text, DEPTHWISE)
    assert reads == []
    assert reasons["a"].startswith(WRITES_INT8)
    assert {"i", "s"} <= reasons.keys()


def test_sum_of_a_depthwise_and_an_ordinary_convolution_is_taken_by_the_ordinary_one() -> None:
    text = f"{IN} ({OUT}) {{ {DW}  b = Conv (x, p)  s = Add (a, b)  y = Conv (s, v) }}"
    for order in ("a, b", "b, a"):
        result = on_normal_values(named(text.replace("a, b", order), DEPTHWISE))
        assert f"s = Add({order.replace('a', 'pair(a)')})" in shown(result.model)
        assert lint(result.model) == []


BLOCK = f"{IN} ({OUT}) {{ b = Conv (x, p)  c = Relu (b)  {DW.replace('x,', 'c,')}  {HARD}  y = Conv (r, v) }}"


@pytest.mark.parametrize("without", [(), ("x",), ("c",), ("a",), ("r",), ("a", "c"), ("x", "r"), ("x", "c", "a", "r")])
def test_missing_scales_leave_layers_in_float_and_a_model_that_runs(without: tuple[str, ...]) -> None:
    model = named(BLOCK, DEPTHWISE)
    result = on_normal_values(model)
    scaled = set(result.placement.tensors) - set(without)
    assert set(result.placement.tensors) == {"x", "c", "a", "r"}
    placement = plan(prepare(model), scaled=scaled)
    assert set(placement.tensors) <= scaled
    depthwise_is_int8 = any(node == "a" for node, _, _ in placement.activations)
    assert depthwise_is_int8 <= ("r" in placement.tensors)


@pytest.mark.parametrize("without", ["x", "c", "a", "r"])
def test_requantizing_without_a_scale_leaves_no_finding_but_the_missing_pair(without: str) -> None:
    model = named(BLOCK, DEPTHWISE)
    given = on_normal_values(model).model
    assert requantize(given).after == ()  # with the scales it has
    some = {tensor: amax for tensor, amax in import_scales(given).amax.items() if tensor != without}
    result = requantize(given, CalibrationTable(some))
    # without a scale there can be no pair before the activation; where another layer stays float, nothing is amiss
    assert {f.code for f in result.after} <= ({"Q21"} if without == "a" else set())
    run(result.model, normal_batch(model))


def test_int8_model_of_hard_swish_behind_a_depthwise_convolution_stays_close_to_fp32() -> None:
    model = named(BLOCK, DEPTHWISE)
    result = on_normal_values(model, size=16)
    batch = normal_batch(model, 16)
    # as for gates: at least 31 dB for each of four tensors and three weights, so 31 - 10 log10(7) dB
    assert sqnr_db(run(model, batch)[0], run(result.model, batch)[0]) > 22


def test_pair_before_an_activation_has_the_range_of_what_is_there() -> None:
    model = named(BLOCK, DEPTHWISE)
    result = on_normal_values(model, size=4)
    inner = named(BLOCK.replace(f"({OUT})", f"({OUT}, float[N,8,8,8] a)"), DEPTHWISE)
    largest = np.abs(run(inner, normal_batch(model, 4))[1]).max()
    constants = {t.name: t for t in result.model.graph.initializer}
    scale = np.frombuffer(constants["a_scale"].raw_data, np.float32)
    np.testing.assert_allclose(scale, largest / 127, rtol=1e-6)


def test_float_reader_behind_a_node_that_only_moves_values_reads_the_pair_too() -> None:
    text = """m (float[N,8,8,8] x) => (float[N,8,8,8] y, float[A,B,C,D] z) {
        c = Conv <group = 8, pads = [1,1,1,1]> (x, w)
        i = Identity (c)
        z = Conv (i, v)
        y = Exp (i)
    }"""
    model = named(text, {"w": floats(8, 1, 3, 3), "v": floats(4, 8, 1, 1)})
    result = on_normal_values(model, size=4)
    assert {(node, tensor) for node, _, tensor in result.placement.activations} >= {("z", "i"), ("y", "i")}
    assert lint(result.model) == []
