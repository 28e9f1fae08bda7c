"""Questions to a Q/DQ graph as it is written."""

from __future__ import annotations

import numpy as np
import pytest

from models import parse
from quantlab.onnx_model import GraphView

CONSTANTS = {
    "s": np.asarray(np.float32(0.1)),
    "z": np.asarray(np.int8(0)),
    "codes": np.ones((4, 4), np.int8),
    "w": np.ones((4, 4), np.float32),
}
TEXT = """m (float[N,4] x, bool c) => (float[N,4] y, float[N,4] t) {
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    stored = DequantizeLinear (codes, s, z)
    wq = QuantizeLinear (w, s, z)
    kept = DequantizeLinear (wq, s, z)
    node = Constant <value = float[2] {1, 2}> ()
    a = MatMul (d, stored)
    y = MatMul (a, kept)
    t = If (c) <then_branch = f () => (float[N,4] u) { u = Neg (a) },
                else_branch = g () => (float[N,4] v) { v = Abs (y) }>
}"""


@pytest.fixture
def view() -> GraphView:
    return GraphView(parse(TEXT, CONSTANTS))


def test_readers_are_found_in_subgraphs_too(view: GraphView) -> None:
    assert [(n.op_type, index) for n, index in view.readers["a"]] == [("MatMul", 0), ("Neg", 0)]
    assert view.outputs == {"y", "t"}
    assert view.producer["a"].op_type == "MatMul"
    assert "x" not in view.producer


def test_constants_are_initializers_and_constant_nodes(view: GraphView) -> None:
    assert view.is_constant("w")
    assert view.is_constant("node")
    assert not view.is_constant("x")
    np.testing.assert_array_equal(view.constant("node"), [1, 2])
    assert view.constant("a") is None
    assert (view.type_of("codes"), view.type_of("a")) == (3, None)


def test_weights_are_known_from_either_node_of_a_pair(view: GraphView) -> None:
    q, d, stored, wq, kept = view.qdq_nodes
    assert [view.is_weight(n) for n in (q, d, stored, wq, kept)] == [False, False, True, True, True]
    assert view.weight(d) is None
    for node, name in ((stored, "codes"), (wq, "w"), (kept, "w")):
        np.testing.assert_array_equal(view.weight(node), CONSTANTS[name])
        assert view.weight(node).dtype == CONSTANTS[name].dtype  # type: ignore[union-attr]


def test_maker_is_asked_for_with_its_operator(view: GraphView) -> None:
    assert view.maker("d", "DequantizeLinear") is view.producer["d"]
    assert view.maker("d", "QuantizeLinear") is None
    assert view.maker("x", "DequantizeLinear") is None


def test_pair_behind_a_tensor_and_tensor_behind_a_pair(view: GraphView) -> None:
    found = view.pair_after("x")
    assert found is not None
    assert [n.output[0] for n in found] == ["q", "d"]
    assert view.pair_after("a") is None
    assert view.pair_after("s") is None  # read by the pair, but not as what it quantizes
    assert {t: view.source(t) for t in ("d", "kept", "stored", "a", "x")} == {
        "d": "x", "kept": "w", "stored": "stored", "a": "a", "x": "x",
    }  # fmt: skip


def test_codes_that_no_quantizelinear_made_are_no_pair() -> None:
    text = "m (float[N] x) => (float[N] y) { c = Cast <to = 3> (x)  y = DequantizeLinear (c, s, z) }"
    view = GraphView(parse(text, CONSTANTS))
    assert view.pair_after("x") is None
    assert view.source("y") == "y"


def test_node_with_an_attribute_called_value_is_no_constant() -> None:
    text = "m (int64[1] n) => (float[N] y) { y = ConstantOfShape <value = float[1] {3}> (n) }"
    view = GraphView(parse(text))
    assert not view.is_constant("y")
    assert view.constant("y") is None
