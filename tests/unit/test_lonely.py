"""Layers that stay float because of what is float around them, and that deciding comes to an end."""

from __future__ import annotations

import numpy as np
import pytest

from models import floats
from placement_parts import decisions, graph_of, limited, named
from quantlab.qdq import EVERYTHING, Selection, lonely, plan, prepare
from quantlab.qdq.draft import Draft
from quantlab.qdq.lonely import EARLY, ISOLATED, NO_FLOAT_OUTPUT, lonely_layers
from quantlab.qdq.payoff import macs_of
from quantlab.qdq.rules import RULES

W = {"w": floats(8, 8, 1, 1), "v": floats(8, 8, 1, 1, seed=1), "d": floats(8, 1, 1, 1), "l": floats(8, 8, seed=2)}
IN, OUT = "m (float[2,8,8,8] x) =>", "(float[A,B,C,D] y)"


@pytest.mark.parametrize(
    ("body", "isolated"),
    [
        ("a = Softmax (x)  b = Conv (a, w)  y = Softmax (b)", ["b"]),
        ("a = Softmax (x)  b = Conv (a, w)  r = Relu (b)  y = Softmax (r)", ["b"]),
        ("a = Softmax (x)  b = Conv (a, w)  s = Sigmoid (b)  r = Mul (b, s)  y = Softmax (r)", ["b"]),
        ("a = Softmax (x)  b = MatMul (a, l)  y = Softmax (b)", ["b"]),
        ("a = Softmax (x)  t = Transpose <perm = [0,1,3,2]> (a)  b = Conv (t, w)  y = Softmax (b)", ["b"]),
        ("a = Softmax (x)  r = Relu (a)  b = Conv (r, w)  y = Softmax (b)", ["b"]),
        ("a = Softmax (x)  y = Conv (a, w)", ["y"]),  # float before it, the end behind it
        ("b = Conv (x, w)  y = Softmax (b)", ["b"]),  # the beginning before it, float behind it
        ("y = Conv (x, w)", []),  # the whole network
        ("b = Conv (x, w)  y = Conv (b, v)", []),
        ("a = Softmax (x)  b = Conv (a, w)  c = Conv (b, v)  y = Softmax (c)", []),  # two in a row
        ("a = Softmax (x)  b = Conv (a, w)  r = Relu (b)  c = Conv (r, v)  y = Softmax (c)", []),
        ("b = Conv (x, w)  t = Transpose <perm = [0,1,3,2]> (b)  c = Conv (t, v)  y = Softmax (c)", []),
        ("i = Conv (x, w)  a = Conv (i, v)  s = Softmax (x)  e = Mul (s, a)  y = Conv (e, w)", []),  # half of it INT8
        ("a = Softmax (x)  b = Conv (a, w)  p = GlobalAveragePool (b)  c = Conv (p, v)  y = Softmax (c)", []),
        ("a = Softmax (x)  p = GlobalAveragePool (a)  y = Conv (p, v)", []),  # a pooling in INT8 before it
        ("a = Conv (x, w)  s = Sigmoid (a)  g = Mul (a, s)  b = Conv (g, w)  y = Softmax (b)", []),
        ("a = Conv (x, w)  b = Add (a, x)  y = Conv (b, v)", []),  # the sum belongs to an INT8 kernel
        ("a = Conv (x, w)  b = Add (a, x)  r = Relu (b)  c = Conv (r, v)  y = Softmax (c)", []),
    ],
)  # fmt: skip
def test_small_layer_between_float_layers_stays_float(body: str, isolated: list[str]) -> None:
    reasons = decisions(f"{IN} {OUT} {{ {body} }}", W)[2]
    assert [node for node, reason in reasons.items() if reason == ISOLATED] == isolated


@pytest.mark.parametrize(("columns", "is_float"), [(2**13 - 1, True), (2**13, False)])
def test_layer_of_many_multiplications_is_worth_it_alone(columns: int, is_float: bool) -> None:
    text = "m (float[1024,1024] x) => (float[A,B] y) { a = Softmax (x)  b = Gemm (a, w)  y = Softmax (b) }"
    reasons = decisions(text, {"w": np.zeros((1024, columns), np.float32)})[2]  # 2^20 * columns
    assert (reasons.get("b") == ISOLATED) == is_float
    assert "2^33" in ISOLATED


def test_layer_of_unknown_size_is_taken_to_be_large() -> None:
    text = "m (float[{size},8] x) => (float[A,B,C] y) {{ a = Softmax (x)  b = MatMul (a, l)  y = Softmax (b) }}"
    assert decisions(text.format(size="2,T"), W)[0] == ["b<-a"]
    assert decisions(text.format(size="N,7"), W)[2]["b"] == ISOLATED  # but for the number of samples


def test_isolated_layer_is_int8_where_it_is_asked_for() -> None:
    text = f"{IN} {OUT} {{ a = Softmax (x)  b = Conv (a, w)  c = Softmax (b)  e = Conv (c, v)  y = Softmax (e) }}"
    assert decisions(text, W, Selection(include=("b",)))[0] == ["b<-a"]
    assert decisions(text, W, EVERYTHING)[0] == ["b<-a", "e<-c"]
    assert decisions(text, W)[0] == []


@pytest.mark.parametrize(
    ("op", "given", "weight", "macs"),
    [
        ("Conv <pads = [1,1,1,1]>", "2,8,6,5", (4, 8, 3, 3), 2 * 4 * 6 * 5 * 8 * 9),
        ("Conv <group = 4>", "2,8,6,5", (4, 2, 3, 3), 2 * 4 * 4 * 3 * 2 * 9),
        ("ConvTranspose <strides = [2,2]>", "2,8,6,5", (8, 4, 3, 3), 2 * 8 * 6 * 5 * 4 * 9),
        ("Gemm", "2,8", (8, 4), 2 * 8 * 4),
        ("Gemm <transA = 1>", "8,2", (8, 4), 2 * 8 * 4),
        ("Gemm <transB = 1>", "2,8", (4, 8), 2 * 8 * 4),
        ("MatMul", "2,6,8", (8, 4), 2 * 6 * 8 * 4),
        ("MatMul", "2,6,8", (2, 8, 4), 2 * 6 * 8 * 4),
        ("Conv", "N,8,6,5", (4, 8, 3, 3), 64 * 4 * 4 * 3 * 8 * 9),  # as many samples as a large batch has
        ("MatMul", "N,6,8", (8, 4), 64 * 6 * 8 * 4),
        ("Conv", "2,8,H,5", (4, 8, 3, 3), None),
        ("Conv", "N,8,6,W", (4, 8, 3, 3), None),
        ("MatMul", "2,T,8", (8, 4), None),
        ("Gemm", "N,8", (8, 4), 64 * 8 * 4),
    ],
)  # fmt: skip
def test_multiplications_of_a_layer_are_counted(op: str, given: str, weight: tuple[int, ...], macs: int | None) -> None:
    rank = "A,B,C,D"[: 2 * len(given.split(",")) - 1]
    text = f"m (float[{given}] x) => (float[{rank}] y) {{ a = {op} (x, w)  y = Relu (a) }}"
    assert macs_of(graph_of(text, {"w": floats(*weight)}).nodes[0]) == macs


@pytest.mark.parametrize("tensor", ["x", "a"])
def test_multiplications_of_a_layer_of_unknown_shapes_are_not_known(tensor: str) -> None:
    graph = graph_of("m (float[2,8] x) => (float[A,B] y) { a = Gemm (x, l)  y = Relu (a) }", W)
    graph.tensors()[tensor].shape = None
    assert macs_of(graph.nodes[0]) is None


def test_bias_of_a_layer_takes_no_multiplications_and_a_weight_of_unknown_shape_has_unknown_ones() -> None:
    text = "m (float[2,8] x) => (float[A,B] y) { a = Gemm (x, l, b)  y = Relu (a) }"
    assert macs_of(graph_of(text, W | {"b": floats(8)}).nodes[0]) == 2 * 8 * 8
    graph = graph_of("m (float[2,8] x, float[8,8] k) => (float[A,B] y) { a = MatMul (x, k)  y = Relu (a) }")
    graph.tensors()["k"].shape = None
    assert macs_of(graph.nodes[0]) is None


def test_layers_that_follow_one_that_goes_back_to_float_are_looked_at_again() -> None:
    # the last depthwise convolution leaves the network; without it nothing reads the one before it, and so on
    body = "  ".join(f"c{k} = Conv <group = 8> (c{k - 1}, d)" for k in range(2, 12))
    text = f"{IN} (float[2,8,8,8] c11) {{ c0 = Softmax (x)  c1 = Conv <group = 8> (c0, d)  {body} }}"
    reads, groups, reasons = decisions(text, W)
    assert (reads, groups) == ([], ())
    assert {reason for node, reason in reasons.items() if node != "c0"} == {NO_FLOAT_OUTPUT}
    # an ordinary layer at the end holds all of them
    held = text.replace("c11)", "y)").rstrip("} ") + "  y = Conv (c11, w) }"
    assert len(decisions(held, W)[0]) == 12


def test_sum_that_no_kernel_takes_leaves_a_depthwise_layer_in_float() -> None:
    text = "m (float[2,8,H,8] x, float[2,8,1,1] g) => (float[A,B,C,D] y) " \
        "{ a = Conv <group = 8> (x, d)  s = Add (a, g)  y = Conv (s, w) }"  # fmt: skip
    reads, _, reasons = decisions(text, W)
    assert (reads, reasons["a"]) == (["y<-s"], NO_FLOAT_OUTPUT)


def test_layer_between_a_depthwise_one_in_float_and_the_end_becomes_isolated() -> None:
    text = f"{IN} {OUT} {{ a = Softmax (x)  b = Conv (a, w)  c = Conv <group = 8> (b, d)  y = Softmax (c) }}"
    reasons = decisions(text, W)[2]
    assert (reasons["c"], reasons["b"]) == (NO_FLOAT_OUTPUT, ISOLATED)


def test_gate_and_pooling_lose_int8_with_the_layer_that_read_them() -> None:
    text = """m (float[2,8,8,8] x, float[2,8,1,1] h) => (float[2,8,8,8] y) {
        g = Sigmoid (h)  a = Softmax (x)  b = Mul (a, g)  p = MaxPool <kernel_shape = [1,1]> (b)
        c = Conv <group = 8> (p, d)  y = Softmax (c)
    }"""
    reads, _, reasons = decisions(text, W)
    assert reads == []
    assert reasons["c"] == NO_FLOAT_OUTPUT
    assert reasons["p"] == reasons["b"] == "its result is not read in INT8"


def test_plan_of_the_same_model_is_the_same_every_time() -> None:
    text = f"{IN} {OUT} {{ a = Conv (x, w)  b = Conv <group = 8> (a, d)  s = HardSigmoid (b)  h = Mul (b, s)  " \
        "c = Conv (h, v)  e = Add (c, a)  f = Conv <group = 8> (e, d)  y = Softmax (f) }"  # fmt: skip
    prepared = prepare(named(text, W))
    given, first = prepared.SerializeToString(deterministic=True), plan(prepared)
    for _ in range(3):
        again = plan(prepared)
        assert again == first
        assert again.describe() == first.describe()
    assert prepared.SerializeToString(deterministic=True) == given


def test_branching_activations_before_a_layer_are_followed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # each of them has two ways through it: 2^40 in all
    steps = "\n".join(f"s{k} = Sigmoid (a{k})  a{k + 1} = Mul (a{k}, s{k})" for k in range(40))
    graph = graph_of(f"{IN} {OUT} {{ a0 = Softmax (x)  {steps}  b = Conv (a40, w)  y = Softmax (b) }}", W)
    draft = Draft(graph, RULES)
    draft.read(graph.nodes[-2], 0, "operand")
    draft.int8 = {"a40"}
    monkeypatch.setattr(lonely, "row_of", limited(lonely.row_of, 100 * len(graph.nodes)))
    assert lonely_layers(draft, (), ()) == {"b": ISOLATED}


SIGNAL = "m (float[2,1,L] x) => (float[A,B,C] y) {{ a = Conv (x, f)  r = Relu (a)  {} }}"


@pytest.mark.parametrize(
    ("body", "early"),
    [
        ("b = Conv <strides = [2]> (r, w)  y = Conv (b, w)", ["b"]),
        ("b = Conv <strides = [2]> (r, w)  c = Conv <strides = [2]> (b, w)  y = Conv (c, w)", ["b", "c"]),
        ("b = Conv (r, n)  y = Conv (b, n2)", ["b"]),  # half the channels
        ("b = Conv (r, w)  c = Conv <strides = [2]> (b, w)  y = Conv (c, w)", []),  # it reads what INT8 made
        ("b = Conv <strides = [2]> (r, wide)  y = Conv (b, wide2)", []),  # half the length, twice the channels
        (
            "b = Conv <strides = [2]> (r, w)  c = Conv (b, w)  p = Conv <strides = [2]> (r, w)  y = Add (c, p)",
            ["b", "p"],
        ),
        ("b = Conv <strides = [2]> (r, w)  c = Conv (b, w)  y = Conv (r, w)", []),  # something else reads it in INT8
    ],
)
def test_convolution_that_shrinks_a_float_signal_stays_float(body: str, early: list[str]) -> None:
    weights = {"f": floats(8, 1, 3), "w": floats(8, 8, 1), "n": floats(4, 8, 1), "n2": floats(8, 4, 1)}
    weights |= {"wide": floats(16, 8, 1), "wide2": floats(16, 16, 1)}
    reasons = decisions(SIGNAL.format(body), weights)[2]
    assert [node for node, reason in reasons.items() if reason == EARLY] == early


def test_convolution_of_an_image_that_shrinks_a_float_one_is_quantized() -> None:
    body = "a = Conv (x, w)  b = Conv <strides = [2,2]> (a, w)  y = Conv (b, w)"
    text = f"m (float[2,8,9,9] x) => (float[A,B,C,D] y) {{ {body} }}"
    reasons = decisions(text, {"w": floats(8, 8, 1, 1)}, Selection(exclude=("a",)))[2]
    assert list(reasons) == ["a"]
