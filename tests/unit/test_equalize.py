"""Range equalization: which channels are scaled, by how much, and what is left alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import floats, initializers, parse, run, sqnr_db
from quantlab.errors import DataError
from quantlab.numerics import scale_from_amax
from quantlab.ort import ActivationReader
from quantlab.qdq import EVERYTHING, Placement, insert, plan, prepare
from quantlab.transforms import Equalized, equalize
from quantlab.transforms.channels import Channels, compressed, reshaped
from quantlab.transforms.moments import Moments, measure
from quantlab.transforms.noise import Factors, Reach, TensorSite

SPREAD = np.exp2(-np.arange(8.0)).astype(np.float32)
"""Magnitudes of channels: each half of the one before."""
TWO = "m (float[N,3,6,6] x) => (float[N,4,6,6] y) { a = Conv (x, w)  r = Relu (a)  y = Conv (r, v) }"
SIX = """m (float[N,3,6,6] x) => (float[N,4,6,6] y) {
    a = Conv (x, w)  r = Clip (a, zero, six)  y = Conv (r, v) }"""
LIMITS = {"zero": np.float32(0), "six": np.float32(6)}


def wide(**more: np.ndarray) -> dict[str, np.ndarray]:
    """Two layers, and between them channels of very different reach that count alike."""
    w = floats(8, 3, 1, 1) * SPREAD.reshape(-1, 1, 1, 1)
    return {"w": w, "v": floats(4, 8, 1, 1, seed=1) / SPREAD.reshape(1, -1, 1, 1)} | more


def images(count: int = 8, seed: int = 0) -> list[dict[str, np.ndarray]]:
    return [{"x": floats(8, 3, 6, 6, seed=seed + k, scale=2)} for k in range(count)]


def equalized(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, Placement, Equalized]:
    prepared = prepare(proto)
    placement = plan(prepared, EVERYTHING)
    return prepared, placement, equalize(prepared, placement, images())


def quantized(network: onnx.ModelProto, fp32: onnx.ModelProto, placement: Placement, caps: dict) -> onnx.ModelProto:
    amax = dict.fromkeys(placement.tensors, np.float32(0))
    reader = ActivationReader(fp32, list(placement.tensors))
    for batch in images():
        amax = {t: max(amax[t], np.abs(v).max()) for t, v in reader.read_one(batch).items()}
    amax = placement.shared_amax(amax)
    return insert(network, placement, lambda t: scale_from_amax(min(amax[t], caps.get(t, np.float32(np.inf))))).model


@pytest.mark.parametrize(("text", "more"), [(TWO, {}), (SIX, LIMITS)], ids=["relu", "relu6"])
def test_channels_of_different_reach_are_brought_nearer_to_fp32(text: str, more: dict[str, np.ndarray]) -> None:
    prepared, placement, result = equalized(parse(text, wide(**more)))
    held_back = images(1, seed=60)[0]
    want = run(prepared, held_back)[0]
    before = sqnr_db(want, run(quantized(prepared, prepared, placement, {}), held_back)[0])
    after = sqnr_db(want, run(quantized(result.network, result.fp32, placement, dict(result.caps)), held_back)[0])
    (group,) = result.groups
    assert group.tensors == ("r",)
    assert group.ratio > 8
    assert group.gain_db > 0
    # the activations have 3 dB of 8 channels left at most before; after that the weights' noise remains
    assert after > before + 6


def test_channels_that_reach_equally_far_stay_bit_for_bit() -> None:
    even = {"w": np.tile(floats(1, 3, 1, 1), (8, 1, 1, 1)), "v": floats(4, 8, 1, 1, seed=1)}
    prepared, _, result = equalized(parse(TWO, even))
    assert result.groups == ()
    assert result.fp32 == prepared == result.network


def test_placement_names_weights_and_tensors_of_the_result() -> None:
    prepared, placement, result = equalized(parse(SIX, wide(**LIMITS)))
    assert plan(result.network, EVERYTHING).activations == placement.activations
    assert plan(result.network, EVERYTHING).weights == placement.weights
    assert [n.name for n in result.network.graph.node] == [n.name for n in prepared.graph.node]
    assert [n.op_type for n in result.network.graph.node] == ["Conv", "Relu", "Conv"]
    assert [n.op_type for n in result.fp32.graph.node] == ["Conv", "Relu", "Min", "Conv"]
    assert result.fp32.graph.node[2].output == ["r"]
    assert result.caps == {"r": 6.0}  # the bound of the channel that reaches farthest, whose factor is 1
    assert not {"zero", "six"} & set(initializers(result.network))


OTHERS_READ = {
    "an output": "m (float[N,3,6,6] x) => (float[N,4,6,6] y, float[N,8,6,6] r) {"
    " a = Conv (x, w)  r = Relu (a)  y = Conv (r, v) }",
    "an operator that is not homogeneous": "m (float[N,3,6,6] x) => (float[N,4,6,6] y, float[N,8,6,6] s) {"
    " a = Conv (x, w)  r = Relu (a)  s = Sigmoid (r)  y = Conv (r, v) }",
    "a bound that is read in float": "m (float[N,3,6,6] x) => (float[N,4,6,6] y, float[N,8,6,6] s) {"
    " a = Conv (x, w)  r = Clip (a, zero, six)  s = Neg (r)  y = Conv (r, v) }",
    "a subgraph": "m (float[N,3,6,6] x, bool c) => (float[N,4,6,6] y, float[N,8,6,6] s) {"
    " a = Conv (x, w)  r = Relu (a)  y = Conv (r, v)"
    " s = If (c) <then_branch = g () => (float[N,8,6,6] t) { t = Identity (r) },"
    " else_branch = h () => (float[N,8,6,6] e) { e = Exp (r) }> }",
    "weights of two layers": "m (float[N,3,6,6] x) => (float[N,4,6,6] y, float[N,4,6,6] s) {"
    " a = Conv (x, w)  r = Relu (a)  y = Conv (r, v)  b = Abs (x)  d = Conv (b, w)  t = Exp (d)  s = Conv (t, v) }",
}


@pytest.mark.parametrize("what", OTHERS_READ)
def test_what_others_read_keeps_its_channels(what: str) -> None:
    prepared = prepare(parse(OTHERS_READ[what], wide(**(LIMITS if "Clip" in OTHERS_READ[what] else {}))))
    batches = [batch | ({"c": np.array(True)} if what == "a subgraph" else {}) for batch in images()]
    result = equalize(prepared, plan(prepared, EVERYTHING), batches)
    assert not any("r" in group.tensors for group in result.groups)
    assert result.network == prepared


def test_bias_that_two_layers_share_becomes_two() -> None:
    text = """m (float[N,3,6,6] x) => (float[N,4,6,6] y, float[N,8,6,6] z) {
        a = Conv (x, w, b)  r = Relu (a)  y = Conv (r, v)  z = Conv (x, u, b) }"""
    prepared, _, result = equalized(parse(text, wide(b=floats(8, seed=5) * SPREAD, u=floats(8, 3, 1, 1, seed=6))))
    biases = [node.input[2] for node in result.network.graph.node if len(node.input) > 2]
    assert biases == ["b_equalized", "b"]
    for want, got in zip(run(prepared, images(1)[0]), run(result.network, images(1)[0]), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())


def test_channel_that_one_sample_uses_is_costly_to_scale() -> None:
    """Nothing is clipped in the data themselves; without that sample its factor would clip half of what it reaches."""
    ones = np.ones(2)
    moments = Moments(np.array([8.0, 2.0]), np.array([8.0, 1.0]), np.array([4.0, 0.25]), ones, ones)
    shared = Reach(np.array([1, 2]), moments.reach, moments.second)
    site = TensorSite(shared, np.array([1, 2]), moments, power=2.0)
    d = np.array([1.0, 1.0, 2 / 8])
    rounding = (8 / 127) ** 2 / 12 * (1 + (2 / 8) ** 2)
    assert site.cost(Factors(d, d)) == pytest.approx(rounding / 2)
    cut = 0.25 * (1 - 1 / 2) ** 2
    assert site.cost(Factors(d, np.array([1.0, 1.0, 1 / 8]))) == pytest.approx((rounding + cut) / 2)


def test_moments_rank_the_samples() -> None:
    x = np.zeros((3, 2, 2), np.float32)
    x[0, 0], x[1, 0], x[2, 0] = (1, -3), (2, 0), (-4, 2)
    prepared = prepare(parse("m (float[N,2,2] x) => (float[N,2,2] y) { y = Relu (x) }"))
    found = measure(prepared, [("x", (1,))], [{"x": x[:2]}, {"x": x[2:]}])["x", (1,)]
    assert found.reach.tolist() == [4, 0]
    assert found.second.tolist() == [3, 0]
    assert found.energy.tolist() == pytest.approx([(16 + 4) / 6, 0])
    assert found.active.tolist() == pytest.approx([5 / 6, 0])
    np.testing.assert_allclose(found.variance, [x[:, 0].var(), 0], rtol=1e-6)


def test_empty_stream_is_an_error() -> None:
    prepared = prepare(parse(TWO, wide()))
    with pytest.raises(DataError, match="no batches to equalize"):
        equalize(prepared, plan(prepared, EVERYTHING), [])


def test_progress_counts_samples() -> None:
    prepared, seen = prepare(parse(TWO, wide())), list[int]()
    equalize(prepared, plan(prepared, EVERYTHING), images(3), seen.append)
    assert seen == [8, 16, 24]


def test_tied_variables_have_one_root_and_frozen_ones_zero() -> None:
    channels = Channels()
    a, b, c = channels.fresh(3), channels.fresh(3), channels.fresh(1)
    channels.tie(a, b)
    channels.freeze(b[1:2])
    roots = channels.roots()
    assert roots[a].tolist() == roots[b].tolist() == [1, 0, 3]
    assert roots[c].tolist() == [7]
    assert not channels.are_free(a[1:2])


@pytest.mark.parametrize(
    ("shape", "before", "after", "want"),
    [
        ((1, 6, 1, 1), ["N", 6, 2, 2], [None, 24], np.repeat(np.arange(6), 4).reshape(1, 24)),
        ((1, 6, 1, 1), [None, 6, 1, 1], ["N", 6], np.arange(6).reshape(1, 6)),
        ((1, 1, 6), ["N", "T", 6], [None, None, 2, 3], np.arange(6).reshape(1, 1, 2, 3)),
        ((1, 1, 6), ["N", 4, 6], [None, 6], np.arange(6).reshape(1, 6)),
        ((1, 6), ["N", 6], ["N", 6, 1, 1], np.arange(6).reshape(1, 6, 1, 1)),
        ((1, 6, 1, 1), ["N", 6, "H", "W"], ["N", None], None),
        ((1, 6, 1), ["N", 6, 4], ["N", 8, 3], np.repeat(np.arange(6), 4).reshape(1, 8, 3)),
    ],
)
def test_layout_is_reshaped_with_its_tensor(
    shape: tuple[int, ...], before: list[int | str | None], after: list[int | str | None], want: np.ndarray | None
) -> None:
    got = reshaped(np.arange(6).reshape(shape), before, after)
    assert (got is None) == (want is None)
    if want is not None and got is not None:
        np.testing.assert_array_equal(got, compressed(want))


def test_constant_that_makes_an_axis_of_its_own_is_not_of_the_channels() -> None:
    """(N, 8) times (1, 8, 1, 1) is (1, 8, N, 8): the channels of the first are the last axis of the product."""
    text = """m (float[N,4] x) => (float[1,8,N,5] y, float[N,5] z) {
        g = Gemm <transB = 1> (x, w, b)  r = Relu (g)  z = MatMul (r, u)  m = Mul (r, c)  y = MatMul (m, v) }"""
    weights = {
        "w": floats(8, 4) * SPREAD[:, None],
        "b": floats(8, seed=1) * SPREAD,
        "c": floats(1, 8, 1, 1, seed=2),
        "u": floats(8, 5, seed=3) / SPREAD[:, None],
        "v": floats(8, 5, seed=4) / SPREAD[:, None],
    }
    prepared = prepare(parse(text, weights))
    data = [{"x": floats(16, 4, seed=5)}]
    result = equalize(prepared, plan(prepared, EVERYTHING), data)
    for wanted, got in zip(run(prepared, data[0]), run(result.fp32, data[0]), strict=True):
        assert sqnr_db(wanted, got) > 100
