"""What looks like a channel shuffle and is none, or is needed elsewhere, stays as it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from models import floats, parse, run
from quantlab.qdq import plan, prepare, requantize

WEIGHTS = {"w": floats(6, 8, 1, 1), "v": floats(6, 8, 1, 1, seed=1)}


def shuffled(
    order: str = "0,2,1,3,4",
    inner: tuple[int, ...] = (0, 2, 6, 8, 8),
    outer: tuple[int, ...] = (0, 12, 8, 8),
    more: str = "",
    outputs: str = "",
    kernel: int = 1,
) -> onnx.ModelProto:
    text = f"""m (float[2,8,8,8] x) => (float[N,M,P,Q] y{outputs}) {{
        a = Conv (x, w)
        b = Conv (x, v)
        c = Concat <axis = 1> (a, b)
        k1 = Reshape (c, inner)
        k2 = Transpose <perm = [{order}]> (k1)
        r = Reshape (k2, outer)
        y = Conv (r, u)
        {more}
    }}"""
    shapes = {"inner": np.array(inner), "outer": np.array(outer)}
    return parse(text, WEIGHTS | {"u": floats(5, 12, kernel, kernel, seed=2)} | shapes)


def operators(model: onnx.ModelProto) -> list[str]:
    return sorted(node.op_type for node in model.graph.node)


def same_outputs(model: onnx.ModelProto) -> bool:
    batch = {"x": floats(2, 8, 8, 8, seed=5)}
    wanted, got = run(model, batch), run(prepare(model), batch)
    # sums of 12 products in another order: 12 roundings of 2^-24 of their magnitudes, which are below 12 sigma
    return all(np.allclose(p, q, rtol=0, atol=12 * 2**-24 * 150) for p, q in zip(wanted, got, strict=True))


def test_shuffle_is_absorbed() -> None:
    model = shuffled()
    assert operators(prepare(model)) == ["Concat", "Conv", "Conv", "Conv"]
    assert same_outputs(model)


@pytest.mark.parametrize(
    "model",
    [
        shuffled("0,2,1,4,3"),  # height and width change places too
        shuffled(outer=(0, 12, 4, 16), kernel=3),  # another shape of image
        shuffled(inner=(0, 4, 6, 4, 8)),
        shuffled(inner=(1, 2, 12, 8, 8), outer=(2, 12, 8, 8)),  # channels of several samples
        shuffled(outputs=", float[A,B,C,D,E] k1"),
        shuffled(outputs=", float[A,B,C,D,E] k2"),
        shuffled(outputs=", float[A,B,C,D,E] z", more="z = Relu (k1)"),
        shuffled(outputs=", float[A,B,C,D,E] z", more="z = Transpose <perm = [0,1,2,4,3]> (k1)"),
        shuffled(outputs=", float[A,B,C,D] r"),
    ],
    ids=["pixels", "image", "split", "samples", "inner", "transposed", "relu", "again", "result"],
)
def test_what_is_no_shuffle_or_needed_elsewhere_stays(model: onnx.ModelProto) -> None:
    assert operators(prepare(model)) == operators(model)
    assert same_outputs(model)


def test_shuffle_of_integers_stays() -> None:
    text = """m (int64[2,8,8,8] x) => (int64[N,M,P,Q] y) {
        c = Concat <axis = 1> (x, x)
        k1 = Reshape (c, inner)
        k2 = Transpose <perm = [0,2,1,3,4]> (k1)
        r = Reshape (k2, outer)
        y = Concat <axis = 1> (r, x)
    }"""
    model = parse(text, {"inner": np.array([0, 2, 8, 8, 8]), "outer": np.array([0, 16, 8, 8])})
    assert operators(prepare(model)) == operators(model)


def test_user_of_the_suffix_keeps_his_tensors() -> None:
    text = """m (float[2,8,8,8] x) => (float[N,M,P,Q] y) {
        a__aligned = Conv (x, w)
        r = Relu (a__aligned)
        y = Conv (r, z)
    }"""
    model = parse(text, {"w": WEIGHTS["w"], "z": floats(4, 6, 1, 1)})
    table = quantlab.calibrate(model, [{"x": floats(2, 8, 8, 8)}], "minmax")
    assert set(table.amax) == {"x", "r"}
    model = shuffled(more="c__aligned = Relu (b)", outputs=", float[A,B,C,D] c__aligned")
    assert same_outputs(model)
    names = [name for node in prepare(model).graph.node for name in node.output]
    assert len(names) == len(set(names))


def test_table_of_the_fp32_model_serves_the_model_made_with_it() -> None:
    model = shuffled()
    table = quantlab.calibrate(model, [{"x": floats(2, 8, 8, 8)}], "minmax")
    made = quantlab.quantize(model, table, selection=quantlab.Selection(include=("*",)))
    again = requantize(made.model, table)
    assert again.placement.tensors == made.placement.tensors
    batch = {"x": floats(2, 8, 8, 8, seed=5)}
    np.testing.assert_array_equal(run(again.model, batch)[0], run(made.model, batch)[0])


def test_tensor_that_a_branch_of_an_if_reads_is_needed_in_float() -> None:
    text = """m (bool cond, float[2,32,8,8] x) => (float[A,B,C,D] y, float[E,F,G,H] z) {
        a = Conv (x, w)
        d = Conv <group = 32, pads = [1,1,1,1]> (a, dw)
        e = Relu (d)
        f = Conv (e, v)
        y = Conv (f, v)
        z = If (cond) <
            then_branch = t () => (float[I,J,K,L] o1) { o1 = Sigmoid (e) },
            else_branch = g () => (float[I,J,K,L] o2) { o2 = Relu (e) }
        >
    }"""
    weights = {"w": floats(32, 32, 1, 1), "v": floats(32, 32, 1, 1, seed=1), "dw": floats(32, 1, 3, 3)}
    placement = plan(prepare(parse(text, weights)))
    assert [tensor for _, _, tensor in placement.activations] == ["e", "f"]
    assert any("depthwise" in skipped.reason for skipped in placement.skipped)
