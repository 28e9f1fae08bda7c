"""A network whose places of INT8 are switched at run time: the numbers are those of the Q/DQ model, place by place."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from models import CONCAT, conv_net, encoder, floats, parse
from placement_parts import CONV, normal_batch
from quantlab.errors import GraphError
from quantlab.ort import Session
from quantlab.qdq import EVERYTHING, prepare
from quantlab.tune.switched_graph import Site, cut_tensors, switched_graph
from quantlab.tune.switched_model import SwitchedModel

CHAIN = """m (float[N,4,8,8] x) => (float[N,4,6,6] y) {
    a = Conv <pads = [1,1,1,1], group = 4> (x, d)
    r = Relu (a)
    b = Conv (r, w)
    s = Add (b, r)
    c = Conv (s, v)
    p = MaxPool <kernel_shape = [3,3]> (c)
    y = Conv (p, w)
}"""
"""A depthwise convolution, a residual sum, a pooling, and a weight that two layers read."""
NETS = {
    "conv_net": conv_net(),
    "fixed batch": conv_net(batch="4"),
    "concat": parse(CONCAT, CONV),
    "chain": parse(CHAIN, {"d": floats(4, 1, 3, 3), "w": CONV["w"], "v": CONV["v"]}),
    "encoder": encoder(layers=2),
    "fused encoder": encoder(layers=1, fused=True),
}


@pytest.fixture(params=NETS)
def net(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return NETS[request.param]


def equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[n], second[n]) for n in first)


def test_all_switches_off_is_fp32_and_all_on_is_the_quantized_model_bit_for_bit(net: onnx.ModelProto) -> None:
    batch = normal_batch(net)
    table = quantlab.calibrate(net, [batch])
    graph = switched_graph(net, table)
    model = SwitchedModel(graph)
    wanted = Session(prepare(net), optimize=False).run(batch)
    outputs, _ = model.run_fp32(batch)
    assert equal(outputs, wanted)
    assert equal(model.run(batch, ()), wanted)
    quantized = quantlab.quantize(net, table, selection=EVERYTHING)
    assert equal(model.run(batch, graph.sites), Session(quantized.model, optimize=False).run(batch))
    assert {(s.node, s.input, s.tensor) for s in graph.sites if not s.is_weight} == set(quantized.placement.activations)
    assert {(s.node, s.input) for s in graph.sites if s.is_weight} == {
        (w.node, w.input) for w in quantized.placement.weights
    }


def test_run_from_the_last_tensor_that_does_not_change_gives_the_same_bits(net: onnx.ModelProto) -> None:
    batch = normal_batch(net)
    graph = switched_graph(net, quantlab.calibrate(net, [batch]))
    model = SwitchedModel(graph)
    outputs, starts = model.run_fp32(batch)
    for site in graph.sites:
        whole = model.run(batch, [site])
        assert equal(model.run(batch, [site], starts), whole)
        assert not equal(whole, outputs)  # normal values: no place is exact
    assert equal(model.run(batch, (), starts), outputs)


def test_place_in_int8_gives_the_numbers_of_the_formula() -> None:
    """y = x @ w with x rounded to multiples of its scale, or w to those of each column; small integers: exact"""
    model = parse(
        "m (float[N,4] x) => (float[N,2] y) { y = MatMul (x, w) }",
        {"w": np.array([[127, 0.5], [3.4, 1], [0, 0], [-2, 63.5]], np.float32)},
    )
    model.graph.node[0].name = "product"
    table = quantlab.CalibrationTable({"x": np.float32(63.5)})  # scale 0.5
    graph = switched_graph(model, table)
    switched = SwitchedModel(graph)
    x = np.array([[1.1, -2.9, 0.2, 70], [0.76, 0, 63.5, -1]], np.float32)
    w = np.array([[127, 0.5], [3.4, 1], [0, 0], [-2, 63.5]], np.float32)
    x8 = np.array([[1.0, -3.0, 0.0, 63.5], [1.0, 0, 63.5, -1]], np.float32)
    w8 = np.array([[127, 0.5], [3, 1], [0, 0], [-2, 63.5]], np.float32)  # scales 1 and 0.5
    read, weight = Site("product", 0, "x", False), Site("product", 1, "w", True)
    assert graph.sites == (read, weight)
    for sites, (a, b) in {(): (x, w), (read,): (x8, w), (weight,): (x, w8), (read, weight): (x8, w8)}.items():
        np.testing.assert_allclose(switched.run({"x": x}, sites)["y"], a @ b, rtol=1e-6)


def test_cuts_are_the_tensors_through_which_everything_goes() -> None:
    net = NETS["chain"]
    prepared = prepare(net)
    cuts = cut_tensors(prepared)
    assert list(cuts) == ["a", "r", "s", "c", "p"]  # not b, beside which r is still needed
    assert [prepared.graph.node[before - 1].output[0] for before in cuts.values()] == list(cuts)
    branches = parse("m (float[N,4] x) => (float[N,4] y, float[N,4] z) { y = Relu (x)  z = Tanh (y) }")
    assert cut_tensors(branches) == {}  # y leaves the network on its way


def test_model_with_nothing_to_quantize_is_refused_with_the_reasons() -> None:
    model = parse("m (float[N,4] x) => (float[N,4] y) { y = Softmax (x) }")
    with pytest.raises(GraphError, match="nothing in the model can be INT8: Softmax: its result needs more than 8"):
        switched_graph(model, quantlab.CalibrationTable({}))
