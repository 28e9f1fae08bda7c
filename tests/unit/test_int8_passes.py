"""INT8 passes through operators that move values, and tensors share a scale."""

from __future__ import annotations

import numpy as np
import pytest

import quantlab
from models import CONCAT, floats, initializers, parse
from placement_parts import CONV, OPSET_18, decisions, graph_of
from quantlab.calibration import CalibrationTable
from quantlab.qdq import EVERYTHING
from quantlab.qdq.conditions import pads_zeros


def test_skip_through_slice_and_pad_stays_in_int8_with_one_scale() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4,4,4] y) {
        a = Conv (x, w)
        r = Relu (a)
        c = Conv <strides = [2,2]> (r, v)
        s = Slice (r, from, to, axes, steps)
        p = Pad (s, pads)
        y = Add (c, p)
    }"""
    slices = {"from": np.array([0, 0]), "to": np.array([8, 8]), "axes": np.array([2, 3]), "steps": np.array([2, 2])}
    reads, groups, reasons = decisions(text, CONV | slices | {"pads": np.zeros(8, np.int64)})
    assert reads == ["a<-x", "c<-r", "s<-r", "y<-p"]
    assert groups == (("p", "r"),)
    assert reasons == {
        "r": "TensorRT fuses it into the kernel before it",
        "p": "TensorRT moves the quantization before it",
    }


def test_concat_takes_one_scale_for_its_inputs_and_states_the_cost() -> None:
    reads, groups, _ = decisions(CONCAT, CONV)
    assert reads == ["a<-x", "b<-x", "c<-a", "c<-b", "y<-c"]
    assert groups == (("a", "b", "c"),)
    model = parse(CONCAT, CONV)
    table = CalibrationTable({"x": np.float32(1), "a": np.float32(2), "b": np.float32(8), "c": np.float32(4)})
    result = quantlab.quantize(model, table)
    scales = initializers(result.model)
    assert scales["a_scale"] == scales["b_scale"] == scales["c_scale"] == np.float32(8) / np.float32(127)
    costs = result.placement.cost_db(table.amax)
    assert {t: round(c, 2) for t, c in costs.items()} == {"a": 12.04, "c": 6.02}
    assert result.placement.cost_db({"a": np.float32(0), "b": np.float32(1)}) == {}  # nothing is lost of zeros


def test_tensor_in_two_concats_joins_both_groups() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4,8,8] y) {
        a = Conv (x, w)
        b = Conv (x, v)
        c = Concat <axis = 1> (a, b)
        d = Conv (c, u)
        e = Concat <axis = 1> (a, d)
        y = Conv (e, u)
    }"""
    _, groups, _ = decisions(text, CONV)
    assert groups == (("a", "b", "c", "d", "e"),)


def test_concat_that_nobody_reads_in_int8_stays_float() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,8,8,8] y) {
        a = Conv (x, w)
        y = Concat <axis = 1> (a, a)
    }"""
    reads, groups, reasons = decisions(text, CONV, EVERYTHING)
    assert (reads, groups) == (["a<-x"], ())
    assert reasons == {"y": "its result is not read in INT8"}


def test_pooling_reads_int8_where_its_result_does() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4,4,4] y, float[N,4,1,1] g) {
        a = Conv (x, w)
        p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (a)
        y = Conv (p, v)
        g = GlobalAveragePool (y)
    }"""
    reads, groups, reasons = decisions(text, CONV)
    assert reads == ["a<-x", "p<-a", "y<-p"]
    assert groups == (("a", "p"),)
    assert reasons == {"g": "its result is not read in INT8"}


@pytest.mark.parametrize(("mode", "passes"), [("nearest", True), ("linear", False)])
def test_resize_passes_int8_only_where_it_copies(mode: str, passes: bool) -> None:
    text = f"""m (float[N,4,8,8] x) => (float[N,4,16,16] y, float[N,4,8,8] z) {{
        z = Conv (x, w)
        r = Resize <mode = "{mode}"> (x, empty, scales)
        y = Conv (r, v)
    }}"""
    scales = {"empty": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    reads, groups, _ = decisions(text, CONV | scales)
    assert ("r<-x" in reads) == passes
    assert groups == ((("r", "x"),) if passes else ())


def test_order_of_the_readers_of_a_tensor_does_not_matter() -> None:
    nodes = ["t = Transpose <perm = [0,1,3,2]> (r)", "p = MaxPool <kernel_shape = [1,1]> (r)"]
    found = []
    for first, second in (nodes, nodes[::-1]):
        text = f"""m (float[N,4,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] z) {{
            a = Conv (x, w)
            r = Relu (a)
            {first}
            {second}
            y = Conv (t, w)
            z = Conv (p, v)
        }}"""
        reads, groups, _ = decisions(text, CONV)
        found.append((sorted(reads), groups))
    assert found[0] == found[1]


@pytest.mark.parametrize("value", ["", ", zero", ", three", ", computed"])
def test_pad_passes_int8_where_it_is_known_to_pad_with_zero(value: str) -> None:
    text = f"""m (float[N,4,8,8] x, float computed) => (float[A,B,C,D] y, float[A,B,C,D] z) {{
        p = Pad (x, pads{value})
        y = Conv (p, w)
        z = Conv (x, v)
    }}"""
    numbers = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "zero": np.float32(0), "three": np.float32(3)}
    reads, groups, reasons = decisions(text, CONV | numbers, EVERYTHING)
    passes = value in ("", ", zero")
    assert ("p<-x" in reads) == passes
    assert groups == ((("p", "x"),) if passes else ())
    assert reasons == ({} if passes else {"p": "it pads with a value other than 0"})


def test_pad_whose_value_is_left_out_pads_with_zero() -> None:
    text = "m (float[N,4,8,8] x) => (float[A,B,C,D] y) { y = Pad (x, pads, , axes) }"
    weights = {"pads": np.array([1, 1]), "axes": np.array([2])}
    assert pads_zeros(graph_of(text, weights, OPSET_18).nodes[0]) is None


def test_resize_without_a_mode_copies() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4,16,16] y, float[N,4,8,8] z) {
        z = Conv (x, w)
        r = Resize (x, empty, scales)
        y = Conv (r, v)
    }"""
    scales = {"empty": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    assert "r<-x" in decisions(text, CONV | scales, EVERYTHING)[0]  # ONNX's default is nearest
    reads, _, reasons = decisions(text.replace("Resize", 'Resize <mode = "cubic">'), CONV | scales, EVERYTHING)
    assert "r<-x" not in reads
    assert reasons == {"r": "it interpolates, which needs more than 8 bits"}
    filled = text.replace("Resize", "Resize <extrapolation_value = 1.5>")
    assert decisions(filled, CONV | scales, EVERYTHING)[2] == {"r": "it fills with a value other than 0"}


def test_operator_that_moves_values_reads_int8_only_where_its_input_is_quantized_anyway() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4,8,8] y{more}) {{
        t = Transpose <perm = [0,1,3,2]> (x)
        y = Conv (t, w)
        {rest}
    }}"""
    reads, groups, reasons = decisions(text.format(more="", rest=""), CONV, EVERYTHING)
    assert (reads, groups, reasons) == (["y<-t"], (), {"t": "TensorRT moves the quantization before it"})
    reads, groups, reasons = decisions(text.format(more=", float[N,4,8,8] z", rest="z = Conv (x, v)"), CONV)
    assert (reads, groups, reasons) == (["t<-x", "y<-t", "z<-x"], (("t", "x"),), {})


def test_chain_of_operators_that_move_values_settles_however_long_it_is() -> None:
    text = """m (float[N,4,8,8] x) => (float[A,B,C,D] y, float[A,B,C,D] z) {
        t = Transpose <perm = [0,1,3,2]> (x)
        p = MaxPool <kernel_shape = [1,1]> (t)
        s = Transpose <perm = [0,1,3,2]> (t)
        y = Conv (s, w)
        z = Conv (p, v)
    }"""
    reads, groups, _ = decisions(text, CONV)
    assert reads == ["p<-t", "s<-t", "y<-s", "z<-p"]
    assert groups == (("p", "s", "t"),)


def test_constant_that_is_moved_is_not_read_in_int8() -> None:
    text = "m (float[2,4,8,8] x) => (float[A,B,C,D] y) { c = Concat <axis = 1> (x, k)  y = Conv (c, u) }"
    reads, groups, reasons = decisions(text, CONV | {"k": floats(2, 4, 8, 8)}, EVERYTHING)
    assert (reads, groups, reasons) == (["y<-c"], (), {"c": "input 1 is constant"})


@pytest.mark.parametrize(
    ("pooling", "groups"),
    [
        ("MaxPool <kernel_shape = [2,2]>", (("a", "p"),)),
        ("AveragePool <kernel_shape = [2,2]>", ()),  # a mean may be far smaller than the values
        ("GlobalAveragePool", ()),
    ],
)
def test_pooling_that_averages_has_a_scale_that_is_not_its_inputs(pooling: str, groups: tuple) -> None:
    text = f"m (float[N,4,8,8] x) => (float[A,B,C,D] y) {{ a = Conv (x, w)  p = {pooling} (a)  y = Conv (p, v) }}"
    assert decisions(text, CONV)[:2] == (["a<-x", "p<-a", "y<-p"], groups)
