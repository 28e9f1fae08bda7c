"""What integer inputs may be fed, by where their values go."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import floats, parse
from quantlab.data import IntegerUse, integer_uses, made_up_batch
from quantlab.errors import GraphError
from quantlab.onnx_model import input_specs
from quantlab.ort import Session

USES = {
    "index": ("e = Gather (table, x)", (0, 7)),
    "two tables": ("a = Gather (short, x) b = Gather (table, x) e = Add (a, b)", (0, 3)),
    "index that is cast and moved": ("c = Cast <to = 6> (x) u = Unsqueeze (c, one) e = Gather (table, u)", (0, 7)),
    "other axis": ("e = Gather <axis = 1> (table, x)", (0, 4)),
    "index of a quantized table": ("d = DequantizeLinear (codes, scale) e = Gather (d, x)", (0, 7)),
    "index of elements": ("e = GatherElements (table, x)", (0, 7)),
    "one-hot": ("e = OneHot (x, depth, ends)", (0, 5)),
    "mask": ("m = Cast <to = 1> (x) n = Sub (onef, m) b = Mul (n, big) e = Softmax (b)", (0, 2)),
    "mask over values": ("g = ReduceSum <keepdims = 0> (table) m = Cast <to = 1> (x) p = Mul (m, g) e = MatMul (p, w)",
                         (0, 2)),
    "compared": ("m = Equal (x, two) n = Not (m) e = Cast <to = 1> (n)", (0, 2)),
    "compared, then counted as index": ("m = Equal (x, two) n = Cast <to = 7> (m) c = CumSum (n, zero) "
                                        "e = Gather (table, c)", (0, 2)),
    "unused": ("e = Identity (table)", (0, 2)),
}  # fmt: skip
UNKNOWN = {
    "computed index": ("p = Add (x, two) e = Gather (table, p)", "an index is computed from it"),
    "shape": ("e = Expand (onef, x)", "it decides in Expand what runs"),
    "range": ("s = ReduceMax <keepdims = 0> (x) r = Range (zero, s, two) e = Cast <to = 1> (r)", "it decides in Range"),
    "branch": ("m = Equal (x, two) n = ReduceMax <keepdims = 0> (x) o = Greater (n, zero) e = If (o) <then_branch = t "
               "() => (float[N] y) { y = Identity (onef) }, else_branch = f () => (float[N] z) "
               "{ z = Identity (big) }>", "it decides in If"),
    "quantity": ("m = Cast <to = 1> (x) e = MatMul (m, w)", "it is a quantity that MatMul reads"),
    "table of unknown length": ("t = NonZero (table) e = Gather (t, x)", "the length of what Gather selects from"),
}  # fmt: skip
CONSTANTS = {
    "table": floats(7, 4), "short": floats(3, 4), "w": floats(4, 4), "codes": np.zeros((7, 4), np.int8),
    "scale": np.float32(1), "one": np.array([1]), "depth": np.array(5), "ends": np.array([0.0, 1.0], np.float32),
    "onef": np.ones(1, np.float32), "big": np.full(1, -1e4, np.float32), "two": np.array(2), "zero": np.array(0),
}  # fmt: skip


INDEXED = [name for name in USES if "index" in name or "axis" in name or "tables" in name][:-1]


def network(body: str, dtype: str = "int64") -> onnx.ModelProto:
    words = body.replace("(", " ").replace(",", " ").replace(")", " ").split()
    weights = {name: np.asarray(value) for name, value in CONSTANTS.items() if name in words}
    return parse(f"m ({dtype}[N,4] x) => (float e) {{ {body} }}", weights)


@pytest.mark.parametrize(("body", "valid"), USES.values(), ids=USES)
def test_made_up_integers_are_valid_where_they_are_used(body: str, valid: tuple[int, int]) -> None:
    model = network(body)
    uses = integer_uses(model)
    assert uses == {"x": IntegerUse(*valid)}
    batch = made_up_batch(input_specs(model), {"x": (16, 4)}, np.random.default_rng(0), uses)
    assert (batch["x"].min(), batch["x"].max()) == (valid[0], valid[1] - 1)
    Session(model, optimize=False).run(batch)


@pytest.mark.parametrize("name", INDEXED)
def test_one_integer_more_is_out_of_the_table(name: str) -> None:
    body, (_, high) = USES[name]
    with pytest.raises(GraphError, match="(?i)out of|must be within"):
        Session(network(body), optimize=False).run({"x": np.full((1, 4), high)})


@pytest.mark.parametrize(("body", "why"), UNKNOWN.values(), ids=UNKNOWN)
def test_integers_that_only_their_owner_knows_are_not_made_up(body: str, why: str) -> None:
    model = network(body)
    assert integer_uses(model)["x"].unknown.startswith(why)
    made = made_up_batch(input_specs(model), {"x": (2, 4)}, np.random.default_rng(0), integer_uses(model))
    assert not made["x"].any()  # 0 is within any table


@pytest.mark.parametrize(("dtype", "valid"), [("uint8", (0, 256)), ("int8", (-128, 128)), ("bool", (0, 2))])
def test_small_types_take_any_value_as_a_quantity(dtype: str, valid: tuple[int, int]) -> None:
    uses = integer_uses(network("m = Cast <to = 1> (x) e = MatMul (m, w)", dtype))
    assert uses == {"x": IntegerUse(*valid)}


def test_length_of_a_sequence_is_one_and_text_is_not_made_up() -> None:
    text = """m (float[3,2,4] x, int32[2] lengths, string[2] words) => (float y, string w) {
        y, = GRU <hidden_size = 4> (x, weight, recurrent, , lengths)
        w = Identity (words)
    }"""
    model = parse(text, {"weight": floats(1, 12, 4), "recurrent": floats(1, 12, 4)})
    assert integer_uses(model) == {"lengths": IntegerUse(1, 2), "words": IntegerUse(unknown="it is object")}
