"""Channel shuffles absorbed into convolutions: the same numbers, no Reshape and Transpose, parts at multiples of 32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import floats, initializers, run
from placement_parts import graph_of, ints, named, normal_batch, on_normal_values, shown
from quantlab.qdq import lint, prepare
from quantlab.qdq.shuffles import is_selection

HALF = 20
SHUFFLE = "r = Reshape ({x}, five)  t = Transpose <perm = [0,2,1,3,4]> (r)  {y} = Reshape (t, four)"
W = {
    "k": floats(HALF, HALF, 1, 1, scale=0.2), "l": floats(HALF, HALF, 1, 1, seed=1, scale=0.2),
    "b": floats(HALF, seed=2), "slope": floats(2 * HALF, 1, 1, seed=8),
    "w": floats(8, 2 * HALF, 1, 1, seed=3, scale=0.2), "h": floats(8, HALF, 3, 3, seed=4, scale=0.1),
    "d": floats(2 * HALF, 1, 3, 3, seed=5, scale=0.3), "e": floats(2 * HALF, seed=6),
    "half": ints(HALF, HALF), "five": ints(0, 2, HALF, 6, 6), "four": ints(0, 2 * HALF, 6, 6),
    "from": ints(HALF), "to": ints(2 * HALF), "axis": ints(1), "v": floats(8, 8 + HALF, 1, 1, seed=7, scale=0.2),
}  # fmt: skip
JOIN = (
    "m, n = Split <axis = 1> (x, half)  p = Conv (m, k, b)  a = Relu (p)  q = Conv (n, l)  c = Concat <axis = 1> (a, q)"
)


SILU = "z = Sigmoid (f)  i = Mul (f, z)"
PASSED_ON = "g, o = Split <axis = 1> (s, half)  i = Conv <pads = [1,1,1,1]> (g, h)  j = Concat <axis = 1> (i, o)  " \
    "y = Conv (j, v)"  # fmt: skip
"""The second half becomes a convolution of zeros and ones."""


def network(behind: str, join: str = JOIN, more: str = "", shuffle: str = SHUFFLE) -> onnx.ModelProto:
    """A shuffle of two times 20 channels; it makes s."""
    body = "  ".join([join, shuffle.format(x="c", y="s"), behind])
    return named(f"m (float[N,{2 * HALF},6,6] x) => (float[A,B,C,D] y{more}) {{ {body} }}", W)


def ops(model: onnx.ModelProto) -> list[str]:
    return sorted(n.op_type for n in model.graph.node)


@pytest.mark.parametrize(
    ("behind", "kept"),
    [
        ("y = Conv (s, w)", ["Conv"]),
        ("g, o = Split <axis = 1> (s, half)  y = Conv (g, h)", ["Conv"]),
        ("g = Slice (s, from, to, axis)  y = Conv (g, h)", ["Conv"]),
        ("f = Conv <group = 40, pads = [1,1,1,1]> (s, d, e)  y = Conv (f, w)", ["Conv", "Conv"]),
        (f"f = Conv <group = 40> (s, d)  {SILU}  y = Conv (i, w)", ["Conv", "Conv", "Mul", "Sigmoid"]),
        (PASSED_ON, ["Concat", "Conv", "Conv", "Conv"]),
    ],
)  # fmt: skip
def test_shuffle_that_convolutions_read_becomes_an_order_of_columns(behind: str, kept: list[str]) -> None:
    model = network(behind)
    prepared = prepare(model)
    assert ops(prepared) == sorted(["Concat", "Conv", "Conv", "Relu", "Split", *kept])
    batch = normal_batch(model, 2)
    want = run(model, batch)[0]
    # the same products in another order: each of at most 360 sums rounds by 2^-24 of the largest
    np.testing.assert_allclose(run(prepared, batch)[0], want, rtol=1e-5, atol=360 * 2**-24 * np.abs(want).max())


@pytest.mark.parametrize("activation", ["i = PRelu (f, slope)", "i = Mul (f, slope)", "i = Add (f, slope)"])
def test_values_per_channel_behind_a_depthwise_convolution_stay_with_their_channels(activation: str) -> None:
    model = network(f"g = Conv <group = 40> (s, d)  f = Relu (g)  {activation}  y = Conv (i, w)")
    batch = normal_batch(model, 2)
    want = run(model, batch)[0]
    got = run(prepare(model), batch)[0]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=360 * 2**-24 * np.abs(want).max())


def test_values_per_channel_stay_with_their_channels_where_nothing_is_made_wider() -> None:
    half = 32
    weights = {
        "k": floats(half, half, 1, 1, scale=0.2), "l": floats(half, half, 1, 1, seed=1, scale=0.2),
        "d": floats(2 * half, 1, 3, 3, seed=2, scale=0.3), "slope": floats(2 * half, 1, 1, seed=3),
        "w": floats(8, 2 * half, 1, 1, seed=4, scale=0.2), "half": ints(half, half),
        "five": ints(0, 2, half, 6, 6), "four": ints(0, 2 * half, 6, 6),
    }  # fmt: skip
    shuffle = SHUFFLE.format(x="c", y="s")
    body = (
        f"{JOIN.replace(', b)', ')')}  {shuffle}  f = Conv <group = 64> (s, d)  i = PRelu (f, slope)  y = Conv (i, w)"
    )
    model = named(f"m (float[N,{2 * half},6,6] x) => (float[A,B,C,D] y) {{ {body} }}", weights)
    batch = normal_batch(model, 2)
    want = run(model, batch)[0]
    np.testing.assert_allclose(
        run(prepare(model), batch)[0], want, rtol=1e-5, atol=9 * 64 * 2**-24 * np.abs(want).max()
    )


def test_second_part_of_a_concat_begins_at_32_channels() -> None:
    constants = initializers(prepare(network("y = Conv (s, w)")))
    shapes = {name: value.shape for name, value in constants.items() if name.endswith("__aligned")}
    assert shapes == {"k__aligned": (32, HALF, 1, 1), "b__aligned": (32,), "w__aligned": (8, 32 + HALF, 1, 1)}
    assert not constants["k__aligned"][HALF:].any()
    assert not constants["w__aligned"][:, HALF:32].any()
    np.testing.assert_array_equal(constants["k__aligned"][:HALF], W["k"])


@pytest.mark.parametrize("activation", ["a = Sigmoid (p)", "a = Clip (p)"])
def test_part_whose_zeros_would_not_stay_zero_is_not_made_wider(activation: str) -> None:
    model = network("y = Conv (s, w)", JOIN.replace("a = Relu (p)", activation))
    prepared = prepare(model)
    assert initializers(prepared)["w__aligned"].shape == (8, 2 * HALF, 1, 1)
    assert "Transpose" not in ops(prepared)


@pytest.mark.parametrize(
    ("behind", "join", "more"),
    [
        ("y = Relu (s)", JOIN, ""),  # not a convolution
        ("y = Conv (s, w)  z = Relu (s)", JOIN, ", float[A,B,C,D] z"),
        ("y = Conv (s, w)", JOIN, ", float[A,B,C,D] s"),  # it leaves the network
        ("y = Conv (s, w)", JOIN, ", float[A,B,C,D] c"),
        ("y = Conv (s, w)  z = Relu (c)", JOIN, ", float[A,B,C,D] z"),  # others read what is shuffled
        ("y = Conv (s, w)", "c = Relu (x)", ""),  # no Concat before it
        ("y = Conv <group = 2> (s, h)", JOIN, ""),
        ("f = Conv <group = 40> (s, d)  y = Relu (f)", JOIN, ""),
    ],
)
def test_shuffle_that_others_need_stays(behind: str, join: str, more: str) -> None:
    model = network(behind, join, more)
    prepared = prepare(model)
    assert {"Reshape", "Transpose"} <= set(ops(prepared))
    for want, got in zip(run(model, normal_batch(model, 2)), run(prepared, normal_batch(model, 2)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_selection_is_a_convolution_that_only_picks() -> None:
    picks = np.zeros((2, 4, 1, 1), np.float32)
    picks[0, 3] = picks[1, 0] = 1
    text = "m (float[N,4,6,6] x) => (float[A,B,C,D] y) {{ y = Conv{attributes} (x, w{more}) }}"

    def selects(weight: np.ndarray, attributes: str = "", more: str = "") -> bool:
        graph = graph_of(text.format(attributes=attributes, more=more), {"w": weight, "b": floats(len(weight))})
        return is_selection(graph.nodes[0])

    assert selects(picks)
    assert selects(np.zeros_like(picks))
    assert not selects(2 * picks)
    assert not selects(np.ones_like(picks))
    assert not selects(np.pad(picks, ((0, 0), (0, 0), (0, 2), (0, 2))))
    assert not selects(picks, " <pads = [1,1,1,1]>")
    assert not selects(picks, more=", b")


def test_shuffle_in_int8_takes_one_scale_and_lints_clean() -> None:
    result = on_normal_values(network(PASSED_ON))
    assert lint(result.model) == []
    assert any(line.startswith("o = Conv(pair(c__aligned)") for line in shown(result.model))
    group = next(group for group in result.placement.groups if "o" in group)
    assert {"c__aligned", "a__aligned", "q", "j", "i"} <= set(group)
    assert not result.warnings  # the channels that were added are no dead ones
