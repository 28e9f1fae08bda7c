"""The zoo's own arithmetic: what it counts as work, which rows it calls worse, what it feeds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import conv_net, floats, image_batches, parse, quantized

sys.path.insert(0, str(Path(__file__).parents[1] / "zoo"))

import export_list
import fetch
import inputs
import rows
from rescale import float_model, rescaled
from work import multiply_adds

import quantlab
from quantlab.qdq import import_scales

COUNTED = {
    "y = Conv <group = 2, pads = [1,1,1,1]> (x, w)": ({"w": floats(8, 2, 3, 3)}, 2 * 8 * 5 * 5 * 2 * 9),
    "y = ConvTranspose <strides = [2,2]> (x, w)": ({"w": floats(4, 6, 2, 2)}, 2 * 4 * 5 * 5 * 6 * 4),
    "y = MatMul (x, w)": ({"w": floats(5, 7)}, 2 * 4 * 5 * 7 * 5),
    "r = Reshape (x, s) y = Gemm <transA = 1> (r, w)": ({"s": np.array([100, 2]), "w": floats(100, 3)}, 2 * 3 * 100),
    'y = Einsum <equation = "bchw,co->bohw"> (x, w)': ({"w": floats(4, 3)}, 2 * 4 * 5 * 5 * 3),
    "r = Reshape (x, s) y, = LSTM <hidden_size = 6> (r, w, u)": (
        {"s": np.array([10, 2, 10]), "w": floats(1, 24, 10), "u": floats(1, 24, 6)}, 10 * 2 * 24 * 16,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "weights", "expected"), [(b, *rest) for b, rest in COUNTED.items()], ids=str)
def test_multiply_adds_are_those_of_the_shapes(body: str, weights: dict[str, Any], expected: int) -> None:
    model = parse(f"m (float[2,4,5,5] x) => (float y) {{ {body} }}", weights)
    assert multiply_adds(model, {"x": floats(2, 4, 5, 5)}) == (expected, 0)


def test_share_in_int8_is_that_of_the_products_that_read_codes() -> None:
    batches = image_batches(1, size=1)
    total, none = multiply_adds(conv_net(), batches[0])
    assert (total, none) == (8 * 64 * 27 + 8 * 64 * 72 + 8 * 5, 0)
    made = quantized(conv_net(), batches).model
    assert multiply_adds(made, batches[0]) == (total, total)


ROWS = {
    "closer": ({"mse:all": 20.0, "modelopt-max": 21.0}, {"mse:all": 1.0, "modelopt-max": 1.0}, 1.0),
    "less of it in INT8": ({"mse:all": 20.0, "modelopt-max": 21.0}, {"mse:all": 0.5, "modelopt-max": 0.9}, -np.inf),
    "our default is as large": (
        {"mse:all": 20.0, "mse": 24.0, "modelopt-max": 21.0}, {"mse:all": 1.0, "mse": 0.9, "modelopt-max": 0.9}, -3.0,
    ),
    "nothing in INT8": ({"mse:all": 20.0, "modelopt-max": 60.0}, {"mse:all": 1.0, "modelopt-max": 0.0}, -np.inf),
}  # fmt: skip


@pytest.mark.parametrize(("sqnr", "share", "expected"), ROWS.values(), ids=ROWS)
def test_peers_are_beaten_at_their_own_share(sqnr: dict[str, float], share: dict[str, float], expected: float) -> None:
    row = {"sqnr_db": sqnr, "share": share, "spread_db": dict.fromkeys(sqnr, 0.3)}
    gap = rows.worse_db(row)
    assert (gap.db, gap.peer) == (pytest.approx(expected), "" if expected == -np.inf else "modelopt-max")
    assert gap.doubt == pytest.approx(0 if np.isinf(expected) else 0.6 * 2**0.5)


def test_peers_are_compared_with_their_own_model_under_other_scales() -> None:
    sqnr = {"modelopt-max": 21.0, "modelopt-entropy": 22.0, "mse:all": 30.0}
    sqnr |= {"minmax:with modelopt-entropy": 20.5, "mse:with modelopt-entropy": 21.5}
    row = {"sqnr_db": sqnr, "share": dict.fromkeys(sqnr, 1.0), "spread_db": dict.fromkeys(sqnr, 0.1)}
    assert rows.worse_with_db(row)[::2] == (0.5, "modelopt-entropy")
    assert rows.worse_db(row)[::2] == (-8.0, "modelopt-entropy")


def test_other_scales_leave_the_nodes_of_a_peer_as_they_are() -> None:
    batches = image_batches(1, size=1)
    made = quantized(conv_net(), batches).model
    model, tensors = float_model(made, conv_net())
    table = quantlab.calibrate(model, batches, "minmax", tensors=tensors)
    own, _ = float_model(made, parse("m (float[1] x) => (float[1] y) { y = Neg (x) }"))
    assert {node.op_type for node in own.graph.node} == {node.op_type for node in conv_net().graph.node}
    again = rescaled(made, {name: 2 * amax for name, amax in table.amax.items()})
    assert [node.op_type for node in again.graph.node] == [node.op_type for node in made.graph.node]
    assert multiply_adds(again, batches[0]) == multiply_adds(made, batches[0])
    assert import_scales(again).amax == {name: 2 * amax for name, amax in table.amax.items()}


def recipes() -> list[dict[str, Any]]:
    listed = (fetch.MODELS | export_list.EXPORTS).values()
    found = [recipe for entry in listed for recipe in entry["inputs"].values() if recipe["make"] != "after"]
    return [r for k, r in enumerate(found) if r not in found[:k] and np.prod(r["shape"]) < 70_000]


@pytest.mark.parametrize("recipe", recipes(), ids=lambda r: f"{r['make']}-{'x'.join(map(str, r['shape']))}")
def test_made_up_inputs_are_finite_and_the_same_again(recipe: dict[str, Any]) -> None:
    first, again = (inputs.samples(recipe, 2, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == (2, *recipe["shape"])
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    assert first.std() > 0


def test_every_model_has_a_wheel_a_checksum_and_a_licence() -> None:
    for entry in fetch.MODELS.values():
        wheel = fetch.WHEELS[entry["wheel"]]
        assert wheel["licence"]
        assert {len(entry["sha256"]), len(wheel["sha256"])} == {64}
