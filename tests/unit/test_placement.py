"""Which tensors read INT8, which share a scale, what stays float and why; graphs in ONNX text."""

from __future__ import annotations

import numpy as np
import pytest

import quantlab
from models import CONCAT, floats, initializers, parse, quantized, run
from quantlab.calibration import CalibrationTable
from quantlab.qdq import Selection, plan, prepare


def decisions(text: str, weights: dict[str, np.ndarray], selection: Selection | None = None) -> tuple:
    """(what reads INT8, groups of one scale, what stays float and why), nodes named by their first output."""
    model = parse(text, weights)
    for node in model.graph.node:
        node.name = node.output[0]
    placement = plan(prepare(model), selection)
    reads = [f"{node}<-{tensor}" for node, _, tensor in placement.activations]
    return reads, placement.groups, {s.node: s.reason for s in placement.skipped}


CONV = {"w": floats(4, 4, 1, 1), "v": floats(4, 4, 1, 1, seed=1), "u": floats(4, 8, 1, 1, seed=2)}


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


def test_pad_with_a_value_does_not_pass_int8() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4,10,10] y) {
        p = Pad (x, pads, value)
        y = Conv (p, w)
    }"""
    pads = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "value": np.float32(3)}
    reads, groups, reasons = decisions(text, CONV | pads)
    assert (reads, groups) == (["y<-p"], ())
    assert reasons == {"p": "it pads with a value other than 0"}


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
    reads, groups, reasons = decisions(text, CONV)
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


def test_attention_reads_both_operands_and_leaves_softmax_float() -> None:
    text = """m (float[N,5,8] x) => (float[N,5,8] y) {
        q = MatMul (x, wq)
        k = MatMul (x, wk)
        v = MatMul (x, wv)
        t = Transpose <perm = [0,2,1]> (k)
        s = MatMul (q, t)
        p = Softmax <axis = -1> (s)
        y = MatMul (p, v)
    }"""
    weights = {n: floats(8, 8, seed=i) for i, n in enumerate(("wq", "wk", "wv"))}
    reads, _, reasons = decisions(text, weights)
    assert reads == ["q<-x", "k<-x", "v<-x", "s<-q", "s<-t", "y<-p", "y<-v"]
    assert reasons["p"] == "its result needs more than 8 bits, TensorRT computes it in float"
    assert reasons["t"] == "TensorRT moves the quantization before it"


def test_weight_computed_at_run_time_keeps_the_convolution_in_float() -> None:
    text = "m (float[N,4,8,8] x, float[4,4,1,1] k) => (float[N,4,8,8] y) { y = Conv (x, k) }"
    reads, _, reasons = decisions(text, {})
    assert (reads, reasons) == ([], {"y": "its weight is computed at run time, TensorRT needs a constant for INT8"})


def test_grouped_conv_transpose_and_constant_first_operand_have_one_scale() -> None:
    text = "m (float[N,4,6,6] x) => (float[N,4,8,8] y) { y = ConvTranspose <group = 2> (x, w) }"
    model = parse(text, {"w": floats(4, 2, 3, 3)})
    result = quantized(model, [{"x": floats(1, 4, 6, 6)}])
    assert result.placement.weights[0].axis is None
    assert initializers(result.model)["w_scale"].shape == ()
    run(result.model, {"x": floats(1, 4, 6, 6)})
    left = parse("m (float[6,N] x) => (float[4,N] y) { y = MatMul (w, x) }", {"w": floats(4, 6)})
    assert quantized(left, [{"x": floats(6, 3)}]).placement.weights[0].axis is None


@pytest.mark.parametrize(
    ("selection", "kept"),
    [
        (Selection(exclude=("first",)), ["b", "y"]),
        (Selection(exclude=("last",)), ["a", "b"]),
        (Selection(exclude=("op:Gemm",)), ["a", "b"]),
        (Selection(exclude=("[ab]",)), ["y"]),
        (Selection(include=("op:Conv",)), ["a", "b"]),
        (Selection(include=("?",), exclude=("a", "b")), ["y"]),
    ],
)
def test_selection_by_name_glob_operator_first_and_last(selection: Selection, kept: list[str]) -> None:
    text = """m (float[N,4,8,8] x) => (float[N,5] y) {
        a = Conv (x, w)
        b = Conv (a, v)
        f = Flatten (b)
        y = Gemm (f, g)
    }"""
    reads, _, reasons = decisions(text, CONV | {"g": floats(256, 5)}, selection)
    assert [r.split("<-")[0] for r in reads] == kept
    assert {n for n in "aby" if n not in kept} == {n for n, r in reasons.items() if "cluded" in r}


def test_placement_of_a_real_chain_runs_and_stays_close() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,5] y) {
        a = Conv (x, w)
        b = Conv (x, v)
        c = Concat <axis = 1> (a, b)
        d = Conv (c, u)
        r = Relu (d)
        p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (r)
        f = Flatten (p)
        y = Gemm (f, g)
    }"""
    model = parse(text, CONV | {"g": floats(64, 5, scale=0.2)})
    batch = {"x": floats(16, 4, 8, 8)}
    result = quantized(model, [batch])
    want, got = run(model, batch)[0], run(result.model, batch)[0]
    assert 10 * np.log10((want**2).sum() / ((want - got) ** 2).sum()) > 30


def test_skip_is_quantized_only_beside_an_int8_convolution() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4,8,8] y) {
        a = Conv (x, w)
        y = Add (a, x)
    }"""
    reads, _, reasons = decisions(text, CONV, Selection(exclude=("op:Conv",)))
    assert reads == []
    assert reasons["y"] == "neither input is an INT8 convolution whose kernel could take the addition"


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


def test_operator_of_another_domain_with_a_known_name_is_left_alone() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "my" : 1]>'
    model = parse(
        "m (float[N,4,8,8] x) => (float[N,4,8,8] y) { y = my.Conv (x, w) }", {"w": floats(4, 4, 1, 1)}, header
    )
    placement = plan(prepare(model))
    assert not placement.activations
    assert placement.skipped[0].reason == "custom domain 'my'"


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
        ("m (float[N,4,8,8] x) => (float[N,4,8,8] y) { y = ConvTranspose <group = 2> (x, w) }", (4, 2, 1, 1), None),
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
    text = "m (float[N,6] x) => (float[N,1] y) { a = MatMul (x, w)  y = MatMul (a, v) }"
    model = parse(text, {"w": floats(6, 4), "v": floats(4, 1)})
    for node in model.graph.node:
        node.name = node.output[0]
    table = quantlab.calibrate(model, [{"x": floats(8, 6)}], quantlab.MinMax())
    assert list(table.amax) == ["x", "a"]
    assert quantlab.quantize(model, table).placement.tensors == ("x",)
    assert quantlab.quantize(model, table, selection=Selection(include=("*",))).placement.tensors == ("x", "a")


def test_placement_is_described_line_by_line() -> None:
    model = parse(CONCAT, CONV)
    for node in model.graph.node:
        node.name = f"node_{node.output[0]}"
    assert plan(prepare(model), Selection(exclude=("node_b",))).describe() == [
        "activation x: read by node_a[0]",
        "activation a: read by node_c[0]; one scale with b, c",
        "activation b: read by node_c[1]; one scale with a, c",
        "activation c: read by node_y[0]; one scale with a, b",
        "weight w: node_a[1], scales along axis 0",
        "weight u: node_y[1], scales along axis 0",
        "float node_b (Conv): excluded by 'node_b'",
    ]


def test_loop_is_left_alone_and_said() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4,8,8] y) {
        a = Conv (x, w)
        y = Loop (count, yes, a) <body = b (int64 i, bool go, float[N,4,8,8] s) => (bool go2, float[N,4,8,8] t) {
            go2 = Identity (go)
            t = Conv (s, w)
        }>
    }"""
    model = parse(text, CONV | {"count": np.asarray(np.int64(2)), "yes": np.asarray(True)})
    result = quantized(model, [{"x": floats(2, 4, 8, 8)}])
    assert [(s.op, s.reason) for s in result.placement.skipped] == [
        ("Loop", "it holds a subgraph, whose nodes are left alone")
    ]
    loop = next(n for n in result.model.graph.node if n.op_type == "Loop")
    assert [n.op_type for n in loop.attribute[0].g.node] == ["Identity", "Conv"]
    assert run(result.model, {"x": floats(2, 4, 8, 8)})[0].shape == (2, 4, 8, 8)


# --- residual Adds


FUSES = "neither input is an INT8 convolution whose kernel could take the addition"


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_later_convolution_takes_the_addition_and_the_earlier_branch_a_pair(first: str, second: str) -> None:
    text = f"""m (float[N,4,8,8] x) => (float[N,4,8,8] y) {{
        a = Conv (x, w)
        b = Conv (x, v)
        y = Add ({first}, {second})
    }}"""
    reads, _, reasons = decisions(text, CONV)
    assert reads == ["a<-x", "b<-x", "y<-a"]
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
    text = "m (float[N,4,8,8] x, float[N,4,8,8] r) => (float[N,4,8,8] y{more}) {{ a = Conv (x, w)  y = Add (a, r) }}"
    reads, _, reasons = decisions(text.format(more=""), CONV)
    assert (reads, reasons) == (["a<-x", "y<-r"], {})
    reads, _, reasons = decisions(text.format(more=", float[N,4,8,8] a"), CONV)
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
    reads, _, reasons = decisions(text, {"m": floats(4, 4)})
    assert (reads, reasons) == (["a<-x"], {"y": FUSES})


def test_sum_of_a_tensor_with_itself_is_no_residual() -> None:
    text = "m (float[N,4,8,8] x) => (float[N,4,8,8] y) { a = Conv (x, w)  y = Add (a, a) }"
    assert decisions(text, CONV)[2] == {"y": "both inputs are the same tensor"}


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("N,4,8,8", None),
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
    placement = plan(prepared)
    assert [s.reason for s in placement.skipped] == ["one input is broadcast over the other"]


def test_skip_without_a_scale_keeps_the_add_in_float() -> None:
    model = parse(
        "m (float[N,4,8,8] x, float[N,4,8,8] r) => (float[N,4,8,8] y) { a = Conv (x, w)  y = Add (a, r) }", CONV
    )
    placement = plan(prepare(model), scaled={"x"})
    (skipped,) = placement.skipped
    assert (skipped.op, skipped.reason, skipped.lacks) == ("Add", "tensor 'r' has no scale", "r")
    assert placement.tensors == ("x",)


def test_only_a_missing_scale_lacks_a_tensor() -> None:
    text = "m (float[N,4,8,8] x) => (float[N,4,8,8] y) { a = Conv (x, w)  r = Relu (a)  y = Conv (r, v) }"
    placement = plan(prepare(parse(text, CONV)), scaled={"x"})
    assert [(s.op, s.lacks) for s in placement.skipped] == [("Relu", ""), ("Conv", "r")]
    pooled = "m (float[N,4,8,8] x) => (float[N,4,4,4] y) { p = MaxPool <kernel_shape = [5,5]> (x)  y = Conv (p, v) }"
    placement = plan(prepare(parse(pooled, CONV)), scaled={"p"})
    assert [(s.op, s.reason, s.lacks) for s in placement.skipped] == [("MaxPool", "tensor 'x' has no scale", "x")]


def test_node_to_keep_in_float_that_the_model_lacks_is_no_matter() -> None:
    model = parse("m (float[N,4,8,8] x) => (float[N,4,8,8] y) { y = Conv (x, w) }", CONV)
    model.graph.node[0].name = "conv"
    assert plan(prepare(model), keep_float={"gone": "it was float"}).skipped == ()
    assert [s.reason for s in plan(prepare(model), keep_float={"conv": "it was float"}).skipped] == ["it was float"]


# --- what passes INT8


@pytest.mark.parametrize("value", ["", ", zero", ", three", ", computed"])
def test_pad_passes_int8_where_it_is_known_to_pad_with_zero(value: str) -> None:
    text = f"""m (float[N,4,8,8] x, float computed) => (float[A,B,C,D] y, float[A,B,C,D] z) {{
        p = Pad (x, pads{value})
        y = Conv (p, w)
        z = Conv (x, v)
    }}"""
    numbers = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "zero": np.float32(0), "three": np.float32(3)}
    reads, groups, reasons = decisions(text, CONV | numbers)
    passes = value in ("", ", zero")
    assert ("p<-x" in reads) == passes
    assert groups == ((("p", "x"),) if passes else ())
    assert reasons == ({} if passes else {"p": "it pads with a value other than 0"})


def test_resize_without_a_mode_copies() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4,16,16] y, float[N,4,8,8] z) {
        z = Conv (x, w)
        r = Resize (x, empty, scales)
        y = Conv (r, v)
    }"""
    scales = {"empty": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    assert "r<-x" in decisions(text, CONV | scales)[0]  # ONNX's default is nearest
    reads, _, reasons = decisions(text.replace("Resize", 'Resize <mode = "cubic">'), CONV | scales)
    assert "r<-x" not in reads
    assert reasons == {"r": "it interpolates, which needs more than 8 bits"}


def test_operator_that_moves_values_reads_int8_only_where_its_input_is_quantized_anyway() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,4,8,8] y{more}) {{
        t = Transpose <perm = [0,1,3,2]> (x)
        y = Conv (t, w)
        {rest}
    }}"""
    reads, _, reasons = decisions(text.format(more="", rest=""), CONV)
    assert (reads, reasons) == (["y<-t"], {"t": "TensorRT moves the quantization before it"})
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
    reads, groups, reasons = decisions(text, CONV | {"k": floats(2, 4, 8, 8)})
    assert (reads, groups, reasons) == (["y<-c"], (), {"c": "input 1 is constant"})


@pytest.mark.parametrize(
    ("text", "weights", "reason"),
    [
        (
            "m (float[N,6] x) => (float[N] y) { y = MatMul (x, w) }",
            {"w": floats(6)},
            "constant input 1 is float32 with 1 dimension(s)",
        ),
        (
            "m (double[N,6] x) => (double[N,4] y) { y = MatMul (x, w) }",
            {"w": floats(6, 4).astype(np.float64)},
            "input 0 ('x') is float64, not float32",
        ),
    ],
)
def test_operands_that_int8_does_not_take_are_named(text: str, weights: dict[str, np.ndarray], reason: str) -> None:
    assert decisions(text, weights)[2] == {"y": reason}


def test_layer_of_a_constant_input_is_left_alone() -> None:
    text = """m (float[4] b) => (float[2,4,8,8] y) { y = Conv (k, w, b) }"""  # its bias is computed: not folded
    assert decisions(text, CONV | {"k": floats(2, 4, 8, 8)})[2] == {"y": "its input is constant"}


# --- where INT8 does not pay


@pytest.mark.parametrize(
    ("text", "weight", "pays"),
    [
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = Conv (x, w) }", (3, 8, 1, 1), False),
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = Conv (x, w) }", (4, 8, 1, 1), True),
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = Conv (x, w) }", (5, 8, 1, 1), True),
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = ConvTranspose (x, w) }", (8, 3, 1, 1), False),
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = ConvTranspose (x, w) }", (8, 4, 1, 1), True),
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = ConvTranspose <group = 2> (x, w) }", (8, 1, 1, 1), False),
        ("m (float[N,8,8,8] x) => (float[A,B,C,D] y) { y = ConvTranspose <group = 2> (x, w) }", (8, 2, 1, 1), True),
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


def test_product_with_a_computed_vector_is_one_column() -> None:
    text = "m (float[4,6] x, float[6] v) => (float[4] y) { y = MatMul (x, v) }"
    assert "one column (GEMV)" in decisions(text, {})[2]["y"]


def test_matrix_of_unknown_shape_is_taken_to_be_large() -> None:
    text = "m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }"
    prepared = prepare(parse(text, {"w": floats(6, 4)}))
    prepared.graph.input[0].type.tensor_type.ClearField("shape")
    assert plan(prepared).tensors == ("x",)
