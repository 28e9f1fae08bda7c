"""Models that quantlab itself placed come back from repair and requantize as they were; what is dropped is told."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from models import floats, parse
from quantlab.qdq import EVERYTHING, Selection, WeightStyle, lint, quantize_model, repair, requantize

TWO_BRANCHES = """m (float[2,8,8,8] x) => (float[2,8,8,8] y) {
    a = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu (a)
    main = Conv <pads = [1,1,1,1]> (r, v)
    side = Conv (x, u)
    sum = Add (main, side)
    last = Relu (sum)
    y = Conv <pads = [1,1,1,1]> (last, t)
}"""
WEIGHTS = {"w": floats(8, 8, 3, 3), "v": floats(8, 8, 3, 3, seed=1), "u": floats(8, 8, 1, 1, seed=2),
           "t": floats(8, 8, 3, 3, seed=3)}  # fmt: skip
DENSE = "m (float[5,8] x) => (float[5,2] y) { a = MatMul (x, p) r = Relu (a) y = Gemm (r, q) }"
NARROW = """m (float[2,8,8,8] x) => (float[2,8,8,8] y, float[2,1,8,8] z) {
    y = Conv <pads = [1,1,1,1]> (x, w)
    z = Conv (x, n)
}"""
CASES = {
    "the side of a sum": (TWO_BRANCHES, WEIGHTS, None, None),
    "everything": (TWO_BRANCHES, WEIGHTS, EVERYTHING, None),
    "a layer left out": (TWO_BRANCHES, WEIGHTS, Selection(exclude=("last",)), None),
    "float weights": (TWO_BRANCHES, WEIGHTS, None, WeightStyle(stored="float")),
    "one scale per weight": (TWO_BRANCHES, WEIGHTS, None, WeightStyle(per_channel=False)),
    "matrices": (DENSE, {"p": floats(8, 4), "q": floats(4, 2, seed=1)}, EVERYTHING, None),
    "too few channels": (NARROW, {"w": WEIGHTS["w"], "n": floats(1, 8, 1, 1)}, None, None),
    "too few channels, asked for": (NARROW, {"w": WEIGHTS["w"], "n": floats(1, 8, 1, 1)}, EVERYTHING, None),
}


def ours(case: str) -> onnx.ModelProto:
    text, weights, selection, style = CASES[case]
    model = parse(text, weights)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    table = quantlab.calibrate(model, [{"x": floats(*shape, seed=9)}], "minmax", tensors="all")
    made = quantize_model(model, table, selection, style).model
    assert not lint(made)
    return made


def drawn(model: onnx.ModelProto) -> list[tuple[str, list[str], list[str]]]:
    return [(node.op_type, list(node.input), list(node.output)) for node in model.graph.node]


@pytest.mark.parametrize("case", CASES)
def test_own_model_comes_back_as_it_was(case: str) -> None:
    model = ours(case)
    for again in (requantize(model), repair(model)):
        assert drawn(again.model) == drawn(model)
        assert not [note for note in again.notes if "Q/DQ" in note or "INT8" in note]
    before = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    after = {t.name: onnx.numpy_helper.to_array(t) for t in repair(model).model.graph.initializer}
    assert before.keys() == after.keys()
    for name, values in before.items():
        if CASES[case][3] is None or not name.endswith("weight"):
            np.testing.assert_allclose(values, after[name], rtol=0, atol=np.abs(values).max() / 100)


PAIRS = """m (float[2,8,8,8] x) => (float[2,8,8,8] y) {
    xq = QuantizeLinear (x, s, z)  xd = DequantizeLinear (xq, s, z)
    rq = QuantizeLinear (x, s, z)  rd = DequantizeLinear (rq, s, z)
    FIRST
    SECOND
    mq = QuantizeLinear (READ, s, z)  md = DequantizeLinear (mq, s, z)
    sum = Add (md, OTHER)
    y = Relu (sum)
}"""


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("has_pair", ["main", "side"])
def test_branch_of_a_sum_that_has_a_scale_is_read_in_int8_whatever_the_order(turned: bool, has_pair: str) -> None:
    """Another exporter's order of the two convolutions is no reason to lose the pair."""
    lines = ["main = Conv <pads = [1,1,1,1]> (rd, v)", "side = Conv (xd, u)"]
    first, second = reversed(lines) if turned else lines
    text = PAIRS.replace("FIRST", first).replace("SECOND", second).replace("READ", has_pair)
    text = text.replace("OTHER", "side" if has_pair == "main" else "main")
    given = {"s": np.asarray(np.float32(0.05)), "z": np.asarray(np.int8(0)), "v": WEIGHTS["v"], "u": WEIGHTS["u"]}
    again = requantize(parse(text, given))
    assert has_pair in again.placement.tensors
    assert not again.notes


def test_layers_and_pairs_that_are_dropped_are_named_with_the_reason() -> None:
    text = PAIRS.replace("FIRST", "main = Conv <pads = [1,1,1,1]> (rd, v)").replace("SECOND", "side = Conv (xd, u)")
    text = (
        text.replace("READ", "main")
        .replace("OTHER", "side")
        .replace(
            "y = Relu (sum)",
            """
        tq = QuantizeLinear (sum, s, z)  td = DequantizeLinear (tq, s, z)
        y = Sigmoid (td)""",
        )
    )
    given = {"s": np.asarray(np.float32(0.05)), "z": np.asarray(np.int8(0)), "v": WEIGHTS["v"], "u": WEIGHTS["u"]}
    model = parse(text, given)
    assert [n for n in requantize(model).notes if "dropped" in n] == [
        "Q/DQ dropped on 'sum': Sigmoid: TensorRT fuses it into the kernel before it"
    ]
    less = requantize(model, selection=Selection(exclude=("op:Conv",))).notes
    assert any(n.endswith("no longer in INT8: Conv: excluded by 'op:Conv'") for n in less)
    assert any(n.startswith("Q/DQ dropped on 'x': Conv: excluded by") for n in less)
