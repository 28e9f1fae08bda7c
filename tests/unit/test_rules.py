"""Every row of the rules: graph in (ONNX text), exact graph out, and the same bytes twice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

import quantlab
from models import floats, parse, run
from placement_parts import shown
from quantlab.qdq import EVERYTHING, RULES, Selection


class Case(NamedTuple):
    """text: the network; its input is x. out: every node as `shown` has it. selection: for rows whose layers the
    default leaves in float."""

    op: str
    text: str
    out: list[str]
    weights: dict[str, np.ndarray]
    selection: Selection | None = None


W = {"w": floats(4, 4, 1, 1), "v": floats(4, 4, 1, 1, seed=1)}
IMAGE = "m (float[2,4,8,8] x) => (float[2,4,8,8] y)"


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def between(node: str, output: str = "float[A,B,C,D] y") -> str:
    """A node between two convolutions: the first makes a, the second reads b."""
    return f"m (float[2,4,8,8] x) => ({output}) {{ a = Conv (x, w)  {node}  y = Conv (b, v) }}"


FIRST, LAST = "a = Conv(pair(x), int8(w))", "y = Conv(pair(b), int8(v))"


def moved(op: str, node: str, *constants: tuple[str, np.ndarray], more: str = "", v: np.ndarray | None = None) -> Case:
    """An operator that only moves values, between two convolutions: INT8 passes, the pair stays behind it."""
    weights = W | dict(constants) | ({} if v is None else {"v": v})
    return Case(op, between(node), [FIRST, f"b = {op}(a{more})", LAST], weights)


CASES = [
    Case("Conv", f"{IMAGE} {{ y = Conv (x, w) }}", ["y = Conv(pair(x), int8(w))"], W),
    Case("ConvTranspose", f"{IMAGE} {{ y = ConvTranspose (x, w) }}", ["y = ConvTranspose(pair(x), int8(w))"], W),
    Case(
        "Gemm", "m (float[6,4] x) => (float[6,5] y) { y = Gemm (x, w, b) }", ["y = Gemm(pair(x), int8(w), b)"],
        {"w": floats(4, 5), "b": floats(5)},
    ),
    Case(
        "MatMul", "m (float[6,4] x) => (float[6,6] y) { a = MatMul (x, w)  t = Transpose (x)  y = MatMul (a, t) }",
        ["a = MatMul(pair(x), int8(w))", "t = Transpose(pair(x))", "y = MatMul(pair(a), pair(t))"], {"w": floats(4, 4)},
        EVERYTHING,
    ),
    Case(
        "AveragePool", between("b = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1]> (a)"),
        [FIRST, "b = AveragePool(pair(a))", LAST], W,
    ),
    Case(
        "GlobalAveragePool", between("b = GlobalAveragePool (a)", "float[2,4,1,1] y"),
        [FIRST, "b = GlobalAveragePool(pair(a))", LAST], W,
    ),
    Case(
        "MaxPool", between("b = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (a)"),
        [FIRST, "b = MaxPool(pair(a))", LAST], W,
    ),
    Case(
        "Concat", between("b = Concat <axis = 1> (a, x)"),
        [FIRST, "b = Concat(pair(a), pair(x))", LAST], W | {"v": floats(4, 8, 1, 1)},
    ),
    moved("Reshape", "b = Reshape (a, shape)", ("shape", ints(2, 4, 4, 16)), more=", shape"),
    Case(
        "Flatten", "m (float[2,4,8,8] x) => (float[2,6] y) { a = Conv (x, w)  b = Flatten (a)  y = Gemm (b, v) }",
        [FIRST, "b = Flatten(a)", "y = Gemm(pair(b), int8(v))"], W | {"v": floats(256, 6)},
    ),
    moved("Transpose", "b = Transpose <perm = [0,1,3,2]> (a)"),
    Case(
        "Squeeze", "m (float[2,4,8,1] x) => (float[A,B,C] y) "
        "{ a = Conv (x, w)  b = Squeeze (a, axis)  y = MatMul (b, v) }",
        [FIRST, "b = Squeeze(a, axis)", "y = MatMul(pair(b), int8(v))"], W | {"axis": ints(3), "v": floats(8, 5)},
    ),
    Case(
        "Unsqueeze", "m (float[6,4] x) => (float[A,B,C,D] y) "
        "{ a = MatMul (x, w)  b = Unsqueeze (a, axes)  y = Conv (b, v) }",
        ["a = MatMul(pair(x), int8(w))", "b = Unsqueeze(a, axes)", LAST],
        {"w": floats(4, 4), "axes": ints(2, 3), "v": W["v"]},
    ),
    moved(
        "Slice", "b = Slice (a, from, to)", ("from", ints(0, 0, 0, 0)), ("to", ints(2, 4, 4, 4)), more=", from, to"
    ),
    Case(
        "Split", "m (float[2,4,8,8] x) => (float[2,4,8,8] y, float[2,2,8,8] c) "
        "{ a = Conv (x, w)  b, c = Split <axis = 1> (a)  y = Conv (b, v) }",
        [FIRST, "b, c = Split(a)", LAST], W | {"v": floats(4, 2, 1, 1)},
    ),
    moved("Pad", "b = Pad (a, pads)", ("pads", ints(0, 0, 1, 1, 0, 0, 1, 1)), more=", pads"),
    moved("Identity", "b = Identity (a)"),
    moved("DepthToSpace", "b = DepthToSpace <blocksize = 2> (a)", v=floats(4, 1, 1, 1)),
    moved("SpaceToDepth", "b = SpaceToDepth <blocksize = 2> (a)", v=floats(4, 16, 1, 1)),
    moved("Expand", "b = Expand (a, shape)", ("shape", ints(2, 4, 8, 8)), more=", shape"),
    moved("Tile", "b = Tile (a, repeats)", ("repeats", ints(1, 1, 2, 1)), more=", repeats"),
    moved(
        "Resize", "b = Resize (a, empty, scales)", ("empty", np.zeros(0, np.float32)),
        ("scales", np.array([1, 1, 2, 2], np.float32)), more=", empty, scales",
    ),
    Case(
        "Mul", between("g = GlobalAveragePool (a)  h = Conv (g, w)  s = Sigmoid (h)  b = Mul (a, s)"),
        [
            FIRST, "g = GlobalAveragePool(pair(a))", "h = Conv(pair(g), int8(w))", "s = Sigmoid(h)",
            "b = Mul(pair(a), pair(s))", LAST,
        ], W,
    ),
    Case(
        "Add", between("b = Add (a, x)"), [FIRST, "b = Add(a, pair(x))", LAST], W
    ),
    Case("Relu", between("b = Relu (a)"), [FIRST, "b = Relu(a)", LAST], W),
    Case(
        "SiLU", between("s = Sigmoid (a)  b = Mul (a, s)"), [FIRST, "s = Sigmoid(a)", "b = Mul(a, s)", LAST], W
    ),
    Case(
        "LayerNormalization", "m (float[6,4] x) => (float[6,5] y) "
        "{ a = LayerNormalization (x, g)  y = MatMul (a, w) }",
        ["a = LayerNormalization(x, g)", "y = MatMul(pair(a), int8(w))"], {"w": floats(4, 5), "g": floats(4)},
        EVERYTHING,
    ),
]  # fmt: skip


def written(case: Case) -> quantlab.Quantized:
    header = '<ir_version: 9, opset_import: ["" : 17]>' if case.op == "LayerNormalization" else None
    model = parse(case.text, case.weights, header) if header else parse(case.text, case.weights)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    table = quantlab.calibrate(model, [{"x": floats(*shape, seed=9)}], quantlab.MinMax())
    return quantlab.quantize(model, table, selection=case.selection)


@pytest.mark.parametrize("case", CASES, ids=[case.op for case in CASES])
def test_rule_gives_exactly_this_graph_twice_in_the_same_bytes(case: Case) -> None:
    first, second = written(case), written(case)
    assert shown(first.model) == case.out
    assert first.model.SerializeToString(deterministic=True) == second.model.SerializeToString(deterministic=True)
    shape = [d.dim_value for d in first.model.graph.input[0].type.tensor_type.shape.dim]
    assert np.isfinite(run(first.model, {"x": floats(*shape, seed=9)})[0]).all()


def test_every_row_of_the_rules_has_a_case() -> None:
    assert set(RULES) <= {case.op for case in CASES}
