"""Ifs whose condition is known: every output of the branch that runs is still made, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from models import floats, parse
from quantlab.ort import Session
from quantlab.qdq.prepare import fold, prepare

OTHER = "else_branch = o () => (float[N,4] s, float[N,4] t) { s = Neg (x) t = Neg (x) }"
BRANCHES = {
    "two outputs": "s = Relu (x) t = Abs (x)",
    "outputs of one node": "s, t = Split <axis = 1> (both)",
    "one inside reads another": "s = Relu (x) t = Add (s, x)",
    "a tensor of the graph around": "s = Relu (x) t = Identity (x)",
    "a constant": "s = Relu (x) t = Add (ones, ones)",
    "another If inside": "inner = Not (no) s, t = If (inner) <then_branch = n () => (float[N,4] a, float[N,4] b) "
                         "{ a = Exp (x) b = Abs (x) }, " + OTHER.replace("= o ", "= p ") + ">",
}  # fmt: skip


@pytest.mark.parametrize("body", BRANCHES.values(), ids=BRANCHES)
@pytest.mark.parametrize("condition", ["yes", "no"])
def test_network_with_a_known_branch_gives_the_same(body: str, condition: str) -> None:
    text = f"""m (float[N,4] x) => (float[N,4] y, float[N,4] z) {{
        both = Concat <axis = 1> (x, x)
        u, v = If ({condition}) <then_branch = g () => (float[N,4] s, float[N,4] t) {{ {body} }}, {OTHER}>
        y = MatMul (u, w)
        z = Add (v, y)
    }}"""
    weights = {"w": floats(4, 4), "ones": np.ones((1, 4), np.float32), "yes": np.array(True), "no": np.array(False)}
    model = parse(text, weights)
    batch = {"x": floats(3, 4, seed=5)}
    want = Session(model, optimize=False).run(batch)
    for made in (fold(model), prepare(model)):
        assert "If" not in {node.op_type for node in made.graph.node}
        got = Session(made, optimize=False).run(batch)
        for name in ("y", "z"):
            np.testing.assert_allclose(got[name], want[name], rtol=1e-6)
