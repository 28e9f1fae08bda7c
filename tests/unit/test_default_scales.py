"""One calibration serves the default placement, everything, and what a user leaves out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, encoder, floats, initializers, run
from placement_parts import ints, named, normal_batch, on_normal_values
from quantlab.qdq import EVERYTHING, Selection, calibration_target, lint, plan, prepare, requantize

W = {
    "w": floats(8, 8, 1, 1), "v": floats(8, 8, 1, 1, seed=1), "d": floats(8, 1, 3, 3, seed=2), "u": floats(4, 8, 1, 1),
    "e": floats(8, 4, 1, 1, seed=3), "first": floats(8, 3, 3, 3), "g": floats(8, 4, 3, 3, seed=4),
    "five": ints(0, 2, 4, 8, 8), "four": ints(0, 8, 8, 8), "half": ints(4, 4), "h": floats(4, 4, 1, 1, seed=5),
    "wide": floats(8, 16, 1, 1, seed=6),
}  # fmt: skip
DW = "Conv <group = 8, pads = [1,1,1,1]>"
IN, OUT = "m (float[N,8,8,8] x) =>", "(float[A,B,C,D] y)"
BODIES = {
    "gate": f"a = {DW} (x, d)  r = Relu (a)  g0 = GlobalAveragePool (r)  h0 = Conv (g0, u)  j = Conv (h0, e)  "
    "s = Sigmoid (j)  m = Mul (r, s)  y = Conv (m, v)",
    "mean gate": f"a = {DW} (x, d)  g0 = ReduceMean <axes = [2,3]> (a)  h0 = Conv (g0, u)  j = Conv (h0, e)  "
    "s = Sigmoid (j)  m = Mul (s, a)  y = Conv (m, v)",
    "gate at the end": "a = Conv (x, w)  g0 = GlobalAveragePool (a)  j = Conv (g0, w)  s = Sigmoid (j)  y = Mul (a, s)",
    "hard swish": f"a = {DW} (x, d)  s = HardSigmoid (a)  r = Mul (a, s)  y = Conv (r, v)",
    "hard swish at the end": f"b = Conv (x, w)  a = {DW} (b, d)  s = HardSigmoid (a)  y = Mul (a, s)",
    "grouped silu": "a = Conv <group = 2, pads = [1,1,1,1]> (x, g)  s = Sigmoid (a)  r = Mul (a, s)  y = Conv (r, v)",
    "depthwise at the end": f"a = Conv (x, w)  y = {DW} (a, d)",
    "depthwise chain at the end": f"a = Conv (x, w)  b = {DW} (a, d)  c = {DW} (b, d)  y = Softmax (c)",
    "depthwise with a float reader": f"a = {DW} (x, d)  b = Conv (a, w)  c = Softmax (a)  y = Add (b, c)",
    "depthwise shortcut": f"i = Conv (x, v)  a = Conv (i, w)  b = {DW} (i, d)  s = Add (a, b)  y = Conv (s, v)",
    "depthwise shortcut first": f"i = Conv (x, v)  b = {DW} (i, d)  a = Conv (i, w)  s = Add (b, a)  y = Conv (s, v)",
    "isolated shortcut": "i = Softmax (x)  a = Conv (i, w)  b = Conv (i, v)  s = Add (a, b)  y = Softmax (s)",
    "shortcut": "i = Conv (x, v)  a = Conv (i, w)  b = Conv (i, v)  s = Add (a, b)  y = Conv (s, v)",
    "isolated": "a = Softmax (x)  b = Conv (a, w)  c = Softmax (b)  f = Conv (c, w)  k = Conv (f, v)  y = Softmax (k)",
    "few channels": "  ".join(f"c{k} = Conv ({f'c{k - 1}' if k else 'x'}, w)" for k in range(7)) + "  y = Relu (c6)",
    "few channels and sums": "c0 = Conv (x, w)  " + "  ".join(
        f"b{k} = Conv (c{k - 1}, w)  a{k} = Conv (b{k}, v)  c{k} = Add (a{k}, c{k - 1})" for k in range(1, 5)
    ) + "  y = Softmax (c4)",
    "shuffle": "a, b = Split <axis = 1> (x, half)  c = Conv (a, h)  i = Concat <axis = 1> (c, b)  "
    "r = Reshape (i, five)  t = Transpose <perm = [0,2,1,3,4]> (r)  q = Reshape (t, four)  y = Conv (q, w)",
    "shuffle and split": "a, b = Split <axis = 1> (x, half)  c = Conv (a, h)  i = Concat <axis = 1> (c, b)  "
    "r = Reshape (i, five)  t = Transpose <perm = [0,2,1,3,4]> (r)  q = Reshape (t, four)  "
    "k, l = Split <axis = 1> (q, half)  o = Conv (k, h)  p = Concat <axis = 1> (o, l)  y = Conv (p, w)",
    "shuffle between others": "a = Conv (x, w)  r = Reshape (a, five)  t = Transpose <perm = [0,2,1,3,4]> (r)  "
    "q = Reshape (t, four)  b = Relu (q)  y = Conv (b, w)",
    "pooling before a float layer": "p = MaxPool <kernel_shape = [1,1]> (x)  a = Conv (p, w)  "
    f"b = {DW} (p, d)  c = Softmax (b)  y = Add (a, c)",
    "concat": f"a = Conv (x, w)  b = {DW} (x, d)  c = Concat <axis = 1> (a, b)  y = Conv (c, wide)",
}  # fmt: skip


def network(body: str) -> onnx.ModelProto:
    shape = "2,8,8,8" if "isolated" in body else "N,8,H,8"  # else all of them are small
    return named(f"m (float[{shape}] x) => {OUT} {{ {BODIES[body]} }}", W)


NETWORKS = {name: (lambda name=name: network(name)) for name in BODIES} | {
    "conv_net": conv_net,
    "small encoder": lambda: encoder(1, rows="2,7"),
    "encoder": lambda: encoder(1),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_table_serves_the_default_everything_and_what_is_left_out(name: str) -> None:
    model = NETWORKS[name]()
    batch = normal_batch(model, 2)
    table = quantlab.calibrate(model, [batch], quantlab.MinMax())
    assert set(table.amax) == set(calibration_target(model).tensors)
    for selection in (None, EVERYTHING):
        result = quantlab.quantize(model, table, selection=selection)
        onnx.checker.check_model(result.model, full_check=True)
        assert np.isfinite(run(result.model, batch)[0]).all()
    assert lint(quantlab.quantize(model, table).model) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_table_serves_the_network_without_any_one_of_its_layers(name: str) -> None:
    model = NETWORKS[name]()
    table = quantlab.calibrate(model, [normal_batch(model, 2)], quantlab.MinMax())
    for node in {reader for reader, _, _ in plan(prepare(model), EVERYTHING).activations}:
        quantlab.quantize(model, table, selection=Selection(exclude=(node,)))


@pytest.mark.parametrize("name", NETWORKS)
def test_quantized_network_is_placed_anew_as_it_is(name: str) -> None:
    model = NETWORKS[name]()
    batch = normal_batch(model, 2)
    given = on_normal_values(model, size=2).model
    if not any(node.op_type == "QuantizeLinear" for node in given.graph.node):
        return  # all of it stays float
    again = requantize(given)
    assert again.before == again.after == ()
    np.testing.assert_array_equal(run(again.model, batch)[0], run(given, batch)[0])
    assert pairs(again.model) == pairs(given)


def pairs(model: onnx.ModelProto) -> set[str]:
    constants = initializers(model)
    return {n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in constants}


@pytest.mark.parametrize("name", NETWORKS)
def test_default_needs_no_tensor_twice_and_gives_the_same_bytes(name: str) -> None:
    model = NETWORKS[name]()
    table = quantlab.calibrate(model, [normal_batch(model, 2)], quantlab.MinMax())
    first, second = (quantlab.quantize(model, table).model.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    tensors = calibration_target(model).tensors
    assert tensors is not None
    assert len(set(tensors)) == len(tensors)


@pytest.mark.parametrize("name", NETWORKS)
def test_prepared_network_computes_the_same(name: str) -> None:
    model = NETWORKS[name]()
    batch = normal_batch(model, 2)
    want = run(model, batch)[0]
    # every output is a sum of at most 9 * 8 products behind at most 13 layers; float32 rounds each by 2^-24
    np.testing.assert_allclose(run(prepare(model), batch)[0], want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


def test_layers_that_the_default_leaves_out_are_float_and_named_in_the_plan() -> None:
    left = {name: [s.node for s in plan(prepare(network(name))).skipped if s.op == "Conv"] for name in BODIES}
    assert left["depthwise at the end"] == ["y"]
    assert left["depthwise chain at the end"] == ["b", "c"]
    assert left["isolated"] == ["b"]
    assert left["gate"] == left["hard swish"] == left["concat"] == []
    assert len(left["few channels"]) == 7
