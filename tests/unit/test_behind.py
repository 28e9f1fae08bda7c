"""Networks of kinds whose default placement was slower than another are told so."""

from __future__ import annotations

import numpy as np
import pytest

from models import floats, parse
from quantlab.qdq import prepare
from quantlab.qdq.behind import behind_notices
from quantlab.qdq.measured import BEHIND, HARD, MANY_DEPTHWISE, NECK, RECURRENT

WEIGHTS = {"w": floats(4, 4, 1, 1), "double": np.array([1, 1, 2, 2], np.float32),
           "half": np.array([1, 1, 0.5, 0.5], np.float32)}  # fmt: skip
TEXT = "m (float[1,4,8,8] x, float[1,4,{s},{s}] r) => (float[1,C,{s},{s}] y) {{ {nodes} }}"


@pytest.mark.parametrize(
    ("size", "nodes", "kinds"),
    [
        (16, "a = Conv (x, w)  b = Resize (a, , double)  y = Concat <axis = 1> (b, r)", [NECK]),
        (16, "b = Resize (x, , double)  c = Transpose <perm = [0, 1, 3, 2]> (b)  y = Concat <axis = 1> (r, c)", [NECK]),
        (16, "b = Resize (x, , double)  c = Conv (b, w)  y = Concat <axis = 1> (c, r)", []),
        (16, "b = Resize (x, , double)  y = Add (b, r)", []),
        (4, "b = Resize (x, , half)  y = Concat <axis = 1> (b, r)", []),
        (8, "y = Concat <axis = 1> (x, r)", []),
    ],
)
def test_neck_is_a_concat_of_what_was_enlarged(size: int, nodes: str, kinds: list[str]) -> None:
    prepared = prepare(parse(TEXT.format(s=size, nodes=nodes), WEIGHTS))
    lines = behind_notices(prepared)
    assert [line.split(" (TensorRT 8.6.0")[0] for line in lines] == [BEHIND[kind] for kind in kinds]


def test_recurrent_network_is_told() -> None:
    text = "m (float[T,N,4] x) => (float[T,1,N,3] y) { y = GRU <hidden_size = 3> (x, w, r) }"
    prepared = prepare(parse(text, {"w": floats(1, 9, 4), "r": floats(1, 9, 3)}))
    (line,) = behind_notices(prepared)
    assert line.startswith(BEHIND[RECURRENT])
    assert "quantlab tune" in line


@pytest.mark.parametrize(
    ("count", "last", "is_told"),
    [(MANY_DEPTHWISE, "HardSwish", True), (MANY_DEPTHWISE, "Relu", False), (MANY_DEPTHWISE - 1, "HardSwish", False)],
)
def test_hardswish_behind_every_depthwise_convolution_is_told(count: int, last: str, is_told: bool) -> None:
    ops = ["HardSwish"] * (count - 1) + [last]
    lines = [f"c{k} = Conv <group = 4, pads = [1,1,1,1]> (a{k}, w)  a{k + 1} = {op} (c{k})" for k, op in enumerate(ops)]
    text = (
        f"m (float[1,4,8,8] x) => (float[1,4,8,8] y) {{ a0 = Identity (x)  {'  '.join(lines)}  y = Relu (a{count}) }}"
    )
    prepared = prepare(parse(text, {"w": floats(4, 1, 3, 3)}, '<ir_version: 8, opset_import: ["" : 17]>'))
    assert [line.startswith(BEHIND[HARD]) for line in behind_notices(prepared)] == [True] * is_told
