"""Residual Adds: which branch takes a pair, and which Add is none."""

from __future__ import annotations

import numpy as np
import pytest

from models import floats, parse
from placement_parts import CONV, decisions
from quantlab.qdq import EVERYTHING, Selection, plan, prepare

FUSES = "neither input is an INT8 convolution whose kernel could take the addition"


def test_skip_is_quantized_only_beside_an_int8_convolution() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4,8,8] y) {
        a = Conv (x, w)
        y = Add (a, x)
    }"""
    reads, _, reasons = decisions(text, CONV, Selection(exclude=("op:Conv",)))
    assert reads == []
    assert reasons["y"] == "neither input is an INT8 convolution whose kernel could take the addition"


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_later_of_two_like_convolutions_takes_the_addition_and_the_earlier_branch_a_pair(
    first: str, second: str
) -> None:
    text = f"""m (float[N,4,8,8] x) => (float[N,4,8,8] y) {{
        a = Conv (x, w)
        b = Conv (x, v)
        y = Add ({first}, {second})
    }}"""
    reads, _, reasons = decisions(text, CONV)
    assert reads == ["a<-x", "b<-x", "y<-a"]
    assert reasons == {}


@pytest.mark.parametrize("size", ["8", "H"])
@pytest.mark.parametrize(("first", "second"), [("p", "q"), ("q", "p")])
def test_smaller_of_two_convolutions_takes_the_addition(first: str, second: str, size: str) -> None:
    """The first block of a stage of ResNet-50: 1x1 over few channels beside a larger one on the skip."""
    lines = {"p": "p = Conv (a, narrow)", "q": "q = Conv <strides = [2, 2]> (x, wide)"}
    text = f"""m (float[N,8,{size},{size}] x) => (float[N,16,{size},{size}] y) {{
        a = Conv <strides = [2, 2]> (x, w)
        {lines[first]}
        {lines[second]}
        y = Add (p, q)
    }}"""
    weights = {"w": floats(4, 8, 1, 1), "narrow": floats(16, 4, 1, 1), "wide": floats(16, 8, 1, 1)}
    reads, _, reasons = decisions(text, weights)
    assert [read for read in reads if read.startswith("y<-")] == ["y<-q"]
    assert reasons == {}


@pytest.mark.parametrize(
    ("other", "output"), [("z = Relu (a)", "float[N,4,8,8] z"), ("z = Conv (a, v)", "float[A,B,C,D] z")]
)
def test_convolution_with_another_reader_is_no_epilogue(other: str, output: str) -> None:
    text = f"""m (float[N,4,8,8] x, float[N,4,8,8] r) => (float[N,4,8,8] y, {output}) {{
        a = Conv (x, w)
        y = Add (a, r)
        {other}
    }}"""
    reads, _, reasons = decisions(text, CONV)
    assert "y<-r" not in reads
    assert reasons["y"] == FUSES


def test_convolution_that_is_a_graph_output_is_no_epilogue() -> None:
    text = "m (float[N,4,H,W] x, float[N,4,H,W] r) => (float[N,4,H,W] y{more}) {{ a = Conv (x, w)  y = Add (a, r) }}"
    reads, _, reasons = decisions(text.format(more=""), CONV)
    assert (reads, reasons) == (["a<-x", "y<-r"], {})
    reads, _, reasons = decisions(text.format(more=", float[N,4,H,W] a"), CONV)
    assert (reads, reasons) == (["a<-x"], {"y": FUSES})


def test_of_two_convolutions_the_one_that_only_the_add_reads_takes_the_addition() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] b) {
        a = Conv (x, w)
        b = Conv (x, v)
        y = Add (a, b)
    }"""
    assert decisions(text, CONV)[0] == ["a<-x", "b<-x", "y<-b"]  # b is later, but leaves the network


def test_matmul_takes_no_addition() -> None:
    text = "m (float[6,4] x, float[6,4] r) => (float[6,4] y) { a = MatMul (x, m)  y = Add (a, r) }"
    reads, _, reasons = decisions(text, {"m": floats(4, 4)}, EVERYTHING)
    assert (reads, reasons) == (["a<-x"], {"y": FUSES})


def test_sum_of_a_tensor_with_itself_is_no_residual() -> None:
    text = "m (float[N,4,8,8] x) => (float[N,4,8,8] y) { a = Conv (x, w)  y = Add (a, a) }"
    assert decisions(text, CONV)[2] == {"y": "both inputs are the same tensor"}


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("N,4,8,8", None),
        ("N,K,8,8", None),  # nor is a dynamic one taken to differ from a known one
        ("M,4,8,8", None),  # two dynamic dimensions are taken as equal
        ("N,4,8,1", "one input is broadcast over the other"),
        ("N,1,8,8", "one input is broadcast over the other"),
        ("1,4,8,8", "one input is broadcast over the other"),
        ("8,8", "one input is broadcast over the other"),
        ("4,8,8", "one input is broadcast over the other"),
    ],
)
def test_add_that_broadcasts_is_no_residual(shape: str, reason: str | None) -> None:
    text = f"m (float[N,4,8,8] x, float[{shape}] r) => (float[A,B,C,D] y) {{ a = Conv (x, w)  y = Add (a, r) }}"
    reads, _, reasons = decisions(text, CONV)
    assert ("y<-r" in reads) == (reason is None)
    assert reasons.get("y") == reason


def test_add_over_known_dimensions_that_differ_is_a_broadcast_though_neither_is_one() -> None:
    text = "m (float[2,4,8,8] x, float[2,4,8,8] r) => (float[A,B,C,D] y) { a = Conv (x, w)  y = Add (a, r) }"
    model = parse(text, CONV)
    prepared = prepare(model)
    for value in prepared.graph.input:
        if value.name == "r":
            value.type.tensor_type.shape.dim[3].dim_value = 4
    placement = plan(prepared, EVERYTHING)
    assert [s.reason for s in placement.skipped] == ["one input is broadcast over the other"]


def test_skip_without_a_scale_keeps_the_add_in_float() -> None:
    model = parse(
        "m (float[N,4,H,W] x, float[N,4,H,W] r) => (float[N,4,H,W] y) { a = Conv (x, w)  y = Add (a, r) }", CONV
    )
    placement = plan(prepare(model), scaled={"x"})
    (skipped,) = placement.skipped
    assert (skipped.op, skipped.reason, skipped.lacks) == ("Add", "tensor 'r' has no scale", "r")
    assert placement.tensors == ("x",)


def test_add_without_a_convolution_stays_float_with_a_reason() -> None:
    text = "m (float[N,4] x) => (float[N,4] z) { y = Relu (x)  z = Add (x, y) }"
    placement = plan(prepare(parse(text)))
    assert ("Add", "neither input is an INT8 convolution whose kernel could take the addition") in [
        (s.op, s.reason) for s in placement.skipped
    ]


def test_add_of_a_constant_and_broadcast_add_are_not_residual() -> None:
    text = """m (float[N,4,8,8] x, float[N,4,1,1] g) => (float[N,4,8,8] z) {
        a = Conv (x, w)
        b = Add (a, c)
        d = Conv (b, w)
        z = Add (d, g)
    }"""
    placement = plan(prepare(parse(text, {"w": floats(4, 4, 1, 1), "c": floats(8, 8)})))
    reasons = [s.reason for s in placement.skipped if s.op == "Add"]
    assert reasons == ["it adds a constant, which TensorRT fuses", "one input is broadcast over the other"]


def test_residual_add_of_float16_stays_float() -> None:
    text = "m (float16[N,4,8,8] x) => (float16[N,4,8,8] y) { a = Conv (x, w)  y = Add (a, x) }"
    placement = plan(prepare(parse(text, {"w": floats(4, 4, 1, 1).astype(np.float16)})))
    assert not placement.activations
    assert "its inputs are not float32" in [s.reason for s in placement.skipped]


def test_add_of_a_pooled_branch_with_dynamic_size_is_a_broadcast() -> None:
    text = """m (float[N,3,H,W] x) => (float[N,3,H,W] y) {
        a = Conv (x, w)
        p = GlobalAveragePool (x)
        y = Add (a, p)
    }"""
    placement = plan(prepare(parse(text, {"w": floats(3, 3, 1, 1)})))
    assert "one input is broadcast over the other" in [s.reason for s in placement.skipped]


def test_tensor_of_fewer_dimensions_is_broadcast_though_all_of_them_agree() -> None:
    text = "m (float[N,8,8,8] x, float[M,8,8] r) => (float[A,B,C,D] y) { a = Conv (x, k)  y = Add (a, r) }"
    assert decisions(text, {"k": floats(8, 8, 1, 1)}, EVERYTHING)[2] == {"y": "one input is broadcast over the other"}


SILU = "s{k} = Sigmoid (c{k})  a{k} = Mul (c{k}, s{k})"
"""Behind the convolution c{k}."""


def test_sum_behind_an_activation_reads_int8_where_int8_kernels_write_both_branches() -> None:
    """A bottleneck whose shortcut is a part of the tensor before it, as detectors have it."""
    text = f"""m (float[N,4,8,8] x) => (float[N,4,8,8] y) {{
        c0 = Conv (x, w0)  {SILU.format(k=0)}
        r = Slice (a0, zero, two, axis)
        h = Slice (a0, two, four, axis)
        c1 = Conv (h, w1)  {SILU.format(k=1)}
        t = Add (h, a1)
        c2 = Conv (t, w2)  {SILU.format(k=2)}
        z = Add (t, a2)
        j = Concat <axis = 1> (r, h, t, z)
        y = Conv (j, w3)
    }}"""
    weights = {"w0": floats(4, 4, 1, 1), "w1": floats(2, 2, 1, 1), "w2": floats(2, 2, 1, 1), "w3": floats(4, 8, 1, 1)}
    bounds = {name: np.array([value]) for name, value in (("zero", 0), ("two", 2), ("four", 4), ("axis", 1))}
    reads, _, reasons = decisions(text, weights | bounds, EVERYTHING)
    assert [r for r in reads if r[0] in "tz"] == ["t<-h", "t<-a1", "z<-t", "z<-a2"]
    assert reasons["r"] == reasons["h"] == "TensorRT moves the quantization before it"


@pytest.mark.parametrize("other", ["x", "e"])
def test_sum_behind_an_activation_stays_float_beside_a_float_branch(other: str) -> None:
    text = f"""m (float[N,4,8,8] x) => (float[N,4,8,8] y) {{
        c0 = Conv (x, w)  {SILU.format(k=0)}
        e = Exp (x)
        t = Add ({other}, a0)
        y = Conv (t, v)
    }}"""
    reads, _, reasons = decisions(text, CONV, EVERYTHING)
    assert reasons["t"] == FUSES
    assert "t<-a0" not in reads


def test_sum_behind_an_activation_that_nothing_reads_in_int8_stays_float() -> None:
    text = f"""m (float[N,4,8,8] x) => (float[N,4,8,8] t) {{
        c0 = Conv (x, w)  {SILU.format(k=0)}
        c1 = Conv (a0, v)  {SILU.format(k=1)}
        t = Add (a0, a1)
    }}"""
    assert decisions(text, CONV, EVERYTHING)[2]["t"] == "its result is not read in INT8"
