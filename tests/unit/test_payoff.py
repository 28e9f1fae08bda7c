"""Layers for which INT8 does not pay."""

from __future__ import annotations

import pytest

import quantlab
from models import floats, parse
from placement_parts import decisions
from quantlab.qdq import Selection, plan, prepare


@pytest.mark.parametrize(
    ("text", "weight", "reason"),
    [
        ("m (float[1,6] x) => (float[1,4] y) { y = MatMul (x, w) }", (6, 4), "one row (GEMV)"),
        ("m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }", (6, 4), None),
        ("m (float[2,1,6] x) => (float[2,1,4] y) { y = MatMul (x, w) }", (6, 4), None),  # two rows in all
        ("m (float[2,1,6] x) => (float[2,1,4] y) { y = MatMul (x, w) }", (2, 6, 4), "one row (GEMV)"),
        ("m (float[N,6] x) => (float[N,1] y) { y = Gemm (x, w) }", (6, 1), "one column (GEMV)"),
        ("m (float[N,6] x) => (float[N,1] y) { y = Gemm <transB = 1> (x, w) }", (1, 6), "one column (GEMV)"),
        ("m (float[1,6] x) => (float[1,4] y) { y = Gemm (x, w) }", (6, 4), "one row (GEMV)"),
        ("m (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Conv (x, w) }", (3, 3, 1, 1), "3 output channel(s)"),
        ("m (float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv (x, w) }", (4, 3, 1, 1), None),
        (
            "m (float[N,4,8,8] x) => (float[N,2,8,8] y) { y = ConvTranspose (x, w) }",
            (4, 2, 1, 1),
            "2 output channel(s)",
        ),
    ],
)
def test_layer_for_which_int8_does_not_pay_stays_float_unless_it_is_asked_for(
    text: str, weight: tuple[int, ...], reason: str | None
) -> None:
    reads, _, reasons = decisions(text, {"w": floats(*weight)})
    if reason is None:
        assert (reads, reasons) == (["y<-x"], {})
        return
    assert reads == []
    assert reasons["y"].startswith("INT8 does not pay: ")
    assert reason in reasons["y"]
    asked, _, none_left = decisions(text, {"w": floats(*weight)}, Selection(include=("y",)))
    assert (asked, none_left) == (["y<-x"], {})


def test_table_of_a_network_with_gemv_serves_both_decisions() -> None:
    text = "m (float[N,T,6] x) => (float[N,T,1] y) { a = MatMul (x, w)  y = MatMul (a, v) }"
    model = parse(text, {"w": floats(6, 4), "v": floats(4, 1)})
    for node in model.graph.node:
        node.name = node.output[0]
    table = quantlab.calibrate(model, [{"x": floats(8, 2, 6)}], quantlab.MinMax())
    assert list(table.amax) == ["x", "a"]
    assert quantlab.quantize(model, table).placement.tensors == ("x",)
    assert quantlab.quantize(model, table, selection=Selection(include=("*",))).placement.tensors == ("x", "a")


@pytest.mark.parametrize(
    ("text", "weight", "pays"),
    [
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = Conv (x, w) }", (3, 8, 1, 1), False),
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = Conv (x, w) }", (4, 8, 1, 1), True),
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = Conv (x, w) }", (5, 8, 1, 1), True),
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = ConvTranspose (x, w) }", (8, 3, 1, 1), False),
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = ConvTranspose (x, w) }", (8, 4, 1, 1), True),
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = ConvTranspose <group = 2> (x, w) }", (8, 1, 1, 1), False),
        ("m (float[6,1] x) => (float[A,B] y) { y = Gemm <transA = 1> (x, w) }", (6, 4), False),
        ("m (float[6,2] x) => (float[A,B] y) { y = Gemm <transA = 1> (x, w) }", (6, 4), True),
        ("m (float[1,6] x) => (float[A,B] y) { y = Gemm <transA = 1> (x, w) }", (1, 4), True),  # six rows of one
        ("m (float[2,6] x) => (float[A,B] y) { y = Gemm <transB = 1> (x, w) }", (4, 6), True),
        ("m (float[2,6] x) => (float[A,B] y) { y = Gemm <transB = 1> (x, w) }", (1, 6), False),
        ("m (float[2,1] x) => (float[A,B] y) { y = Gemm <transB = 1> (x, w) }", (4, 1), True),
        ("m (float[N,1,6] x) => (float[A,B,C] y) { y = MatMul (x, w) }", (6, 4), True),  # N rows in all
        ("m (float[1,1,6] x) => (float[A,B,C] y) { y = MatMul (x, w) }", (6, 4), False),
        ("m (float[N,1,6] x) => (float[A,B,C] y) { y = MatMul (x, w) }", (3, 6, 4), False),  # N products of a row
        ("m (float[1,2,6] x) => (float[A,B,C] y) { y = MatMul (x, w) }", (1, 6, 4), True),
    ],
)
def test_int8_pays_from_two_rows_two_columns_and_four_channels(text: str, weight: tuple[int, ...], pays: bool) -> None:
    reads, _, reasons = decisions(text, {"w": floats(*weight)})
    assert (reads == ["y<-x"]) == pays
    assert reasons.get("y", "").startswith("INT8 does not pay") is not pays


@pytest.mark.parametrize(("channels", "pays"), [(1, False), (2, True)])
def test_channels_of_all_groups_of_a_transposed_convolution_count(channels: int, pays: bool) -> None:
    text = "m (float[N,8,8,8] x) => (float[A,B,C,D] y) { a = ConvTranspose <group = 2> (x, w)  y = Conv (a, v) }"
    reads, _, reasons = decisions(text, {"w": floats(8, channels, 1, 1), "v": floats(8, 2 * channels, 1, 1)})
    assert ("a<-x" in reads) == pays
    assert reasons.get("a") == (None if pays else "INT8 does not pay: 2 output channel(s), its kernels work on 4")


def test_product_with_a_computed_vector_is_one_column() -> None:
    text = "m (float[N,T,6] x, float[6] v) => (float[N,T] y) { y = MatMul (x, v) }"
    assert "one column (GEMV)" in decisions(text, {})[2]["y"]


def test_matrix_of_unknown_shape_is_taken_to_be_large() -> None:
    text = "m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }"
    prepared = prepare(parse(text, {"w": floats(6, 4)}))
    prepared.graph.input[0].type.tensor_type.ClearField("shape")
    assert plan(prepared).tensors == ("x",)
