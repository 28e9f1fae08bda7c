"""Which layers are quantized, what stays float and why; graphs in ONNX text."""

from __future__ import annotations

import numpy as np
import pytest

from models import CONCAT, floats, initializers, parse, quantized, run
from placement_parts import CONV, decisions
from quantlab.qdq import Selection, plan, prepare


def test_attention_reads_both_operands_and_leaves_softmax_float() -> None:
    text = """m (float[N,T,8] x) => (float[N,T,8] y) {
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
    text = "m (float[N,4,6,6] x) => (float[N,4,8,8] y) { a = ConvTranspose <group = 2> (x, w)  y = Conv (a, v) }"
    model = parse(text, {"w": floats(4, 2, 3, 3), "v": floats(4, 4, 1, 1)})  # its result is read in INT8
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
    text = """m (float[N,4,H,W] x) => (float[N,5] y) {
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


def test_operator_of_another_domain_with_a_known_name_is_left_alone() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "my" : 1]>'
    model = parse(
        "m (float[N,4,8,8] x) => (float[N,4,8,8] y) { y = my.Conv (x, w) }", {"w": floats(4, 4, 1, 1)}, header
    )
    placement = plan(prepare(model))
    assert not placement.activations
    assert "ONNX Runtime does not have this operator" in placement.skipped[0].reason


def test_placement_is_described_line_by_line() -> None:
    model = parse(CONCAT, CONV)
    for node in model.graph.node:
        node.name = f"node_{node.output[0]}"
    assert plan(prepare(model), Selection(exclude=("node_b",))).describe() == [
        "activation x: read by node_a[0] (operand)",
        "activation a: read by node_c[0] (INT8 kernel); one scale with b, c",
        "activation b: read by node_c[1] (INT8 kernel); one scale with a, c",
        "activation c: read by node_y[0] (operand); one scale with a, b",
        "weight w: node_a[1], scales along axis 0",
        "weight u: node_y[1], scales along axis 0",
        "float node_b (Conv): excluded by 'node_b'",
    ]


def test_loop_is_left_alone_with_the_reason() -> None:
    text = """m (float[N,4,H,W] x) => (float[N,4,H,W] y) {
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


def test_only_a_missing_scale_lacks_a_tensor() -> None:
    text = "m (float[N,4,H,W] x) => (float[N,4,H,W] y) { a = Conv (x, w)  r = Relu (a)  y = Conv (r, v) }"
    placement = plan(prepare(parse(text, CONV)), scaled={"x"})
    assert [(s.op, s.lacks) for s in placement.skipped] == [("Relu", ""), ("Conv", "r")]
    pooled = "m (float[N,4,H,W] x) => (float[N,4,A,B] y) { p = MaxPool <kernel_shape = [5,5]> (x)  y = Conv (p, v) }"
    placement = plan(prepare(parse(pooled, CONV)), scaled={"p"})
    assert [(s.op, s.reason, s.lacks) for s in placement.skipped] == [("MaxPool", "tensor 'x' has no scale", "x")]


def test_node_to_keep_in_float_that_the_model_lacks_is_no_matter() -> None:
    model = parse("m (float[N,4,8,8] x) => (float[N,4,8,8] y) { y = Conv (x, w) }", CONV)
    model.graph.node[0].name = "conv"
    assert plan(prepare(model), keep_float={"gone": "it was float"}).skipped == ()
    assert [s.reason for s in plan(prepare(model), keep_float={"conv": "it was float"}).skipped] == ["it was float"]


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


def test_one_scale_per_weight_is_described() -> None:
    model = parse("m (float[N,4,8,8] x) => (float[N,4,8,8] y) { y = Conv (x, w) }", CONV)
    model.graph.node[0].name = "conv"
    placement = plan(prepare(model)).per_tensor_weights()
    assert placement.describe() == ["activation x: read by conv[0] (operand)", "weight w: conv[1], one scale"]
