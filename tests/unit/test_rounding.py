"""Weights rounded layer by layer: only codes and biases change, and new data are met better."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from models import floats, initializers, parse, run, sqnr_db
from quantlab.errors import DataError
from quantlab.onnx_model import GraphView
from quantlab.qdq import WeightStyle, prepare
from quantlab.qdq.lint import lint
from quantlab.transforms import rounding, staged
from quantlab.transforms.rounding import round_weights
from quantlab.transforms.stored import integer_weight, weight_tensor
from quantlab.transforms.ways import NEAREST, WAYS
from rounding_parts import ALL, NETS, batches, network, quality, quantized, rounded, usual


def biases(model: onnx.ModelProto) -> set[str]:
    """Constants in float that are no weights of a Q/DQ pair, no scales."""
    view = GraphView(model)
    used = {name for node in view.qdq_nodes for name in node.input}
    return {name for name, x in initializers(model).items() if x.dtype == np.float32 and name not in used}


def without_bias(node: onnx.NodeProto) -> tuple[object, ...]:
    index = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}.get(node.op_type)
    inputs = list(node.input)[:index] if index else list(node.input)
    if node.op_type == "Add":
        inputs = [name for name in inputs if "bias" not in name and name != "b"]
    attributes = [a.SerializeToString() for a in node.attribute]
    return node.op_type, node.name, tuple(inputs), tuple(node.output), tuple(attributes)


@pytest.mark.parametrize("name", NETS)
def test_only_codes_and_biases_differ(name: str) -> None:
    before = quantized(name)
    done = usual(name)
    assert tuple(layer.node for layer in done.layers) == NETS[name].rounded
    assert set(done.left) == set(NETS[name].left)
    assert all(why in done.left[node] for node, why in NETS[name].left.items())
    assert [without_bias(n) for n in before.graph.node] == [without_bias(n) for n in done.model.graph.node]
    view, old, new = GraphView(before), initializers(before), initializers(done.model)
    codes = {weight_tensor(view, node) for node in view.qdq_nodes if view.is_weight(node)}
    for tensor, values in old.items():
        if tensor in new and tensor not in codes:
            np.testing.assert_array_equal(new[tensor], values)
    assert set(new) - set(old) <= biases(done.model)
    for tensor in codes:
        assert new[tensor].shape == old[tensor].shape
        assert new[tensor].dtype == old[tensor].dtype
        assert np.abs(new[tensor].astype(int)).max() <= 127 or new[tensor].dtype != np.int8
    onnx.checker.check_model(done.model)
    assert [f.code for f in lint(done.model)] == [f.code for f in lint(before)]


@pytest.mark.parametrize("name", NETS)
def test_unseen_data_are_met_no_worse(name: str) -> None:
    before = quantized(name)
    done = usual(name)
    assert quality(name, done.model) > quality(name, before) - 0.1
    for layer in done.layers:
        assert layer.way in WAYS
        assert layer.samples == sum(len(np.atleast_2d(b["x"])) for b in batches(name))
        assert layer.after_db >= layer.before_db - 0.01


@pytest.mark.parametrize(
    ("name", "gain_db"),
    [
        ("conv relu conv", 0.3),
        ("without biases", 0.3),
        ("residual", 0.3),
        ("transposed", 0.3),
        ("batches of one", 0.3),
        ("MatMul and Add", 0.05),
        ("Gemm", 0.05),
    ],
)
def test_rounding_helps_where_inputs_vary_together(name: str, gain_db: float) -> None:
    assert quality(name, usual(name).model) > quality(name, quantized(name)) + gain_db


@pytest.mark.parametrize("name", ["conv relu conv", "MatMul and Add", "transposed"])
def test_float_weights_become_the_same_codes(name: str) -> None:
    done, as_float = usual(name), rounded(name, WeightStyle(stored="float"))
    assert [layer.way for layer in done.layers] == [layer.way for layer in as_float.layers]
    for one, other in zip(done.layers, as_float.layers, strict=True):
        found = []
        for model, layer in ((done.model, one), (as_float.model, other)):
            node = next(n for n in model.graph.node if n.name == layer.node)
            found.append(integer_weight(GraphView(model), node))
        np.testing.assert_array_equal(found[0].codes, found[1].codes)
        np.testing.assert_array_equal(found[0].scale, found[1].scale)
        assert found[0].axis == found[1].axis
    x = batches(name, seed=3)[0]
    np.testing.assert_array_equal(run(done.model, x)[0], run(as_float.model, x)[0])


def test_float_weight_that_a_branch_reads_too_stays() -> None:
    name = "weight that a branch reads"
    before = quantized(name, WeightStyle(stored="float"))
    done = rounded(name, WeightStyle(stored="float"))
    assert done.left == {"a": "other nodes read its weight too"}
    np.testing.assert_array_equal(initializers(done.model)["w"], initializers(before)["w"])


def test_one_scale_per_weight_is_kept() -> None:
    before = quantized("residual", WeightStyle(per_channel=False))
    done = rounded("residual", WeightStyle(per_channel=False))
    assert {layer.node for layer in done.layers} == set(NETS["residual"].rounded)
    assert quality("residual", done.model) > quality("residual", before)


@pytest.mark.parametrize("name", ["residual", "If", "two inputs", "infinite mask", "shared weight"])
def test_little_memory_gives_the_same_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plenty = usual(name)
    monkeypatch.setattr(staged, "MOST_BYTES", 0)
    assert rounded(name).model.SerializeToString() == plenty.model.SerializeToString()


@pytest.mark.parametrize("name", ["residual", "MatMul and Add"])
def test_every_time_the_same_bytes(name: str) -> None:
    assert rounded(name).model.SerializeToString() == usual(name).model.SerializeToString()


def test_inputs_are_left_as_they_are() -> None:
    fp32, qdq = prepare(network("residual")), quantized("residual")
    before = fp32.SerializeToString(), qdq.SerializeToString()
    round_weights(fp32, qdq, batches("residual"))
    assert (fp32.SerializeToString(), qdq.SerializeToString()) == before


def test_way_that_was_chosen_before_is_taken() -> None:
    ways = dict.fromkeys(NETS["residual"].rounded, WAYS[-1]) | {"a": NEAREST}
    done = rounded("residual", ways=ways)
    assert {layer.node: layer.way for layer in done.layers} == ways
    assert done.layers[0].changed == 0
    assert done.layers[0].after_db == done.layers[0].before_db
    assert done.layers[1].changed > 0


def test_every_layer_is_told() -> None:
    told: list[int] = []
    rounded("residual", on_layer=told.append)
    assert told == [1, 2, 3]


def test_batches_of_any_size_give_the_same_codes() -> None:
    name = "conv relu conv"
    whole = batches(name)
    single = [{"x": b["x"][k : k + 1]} for b in whole for k in range(len(b["x"]))]
    uneven = [{"x": x} for x in np.split(np.concatenate([b["x"] for b in whole]), [3, 4, 11])]
    qdq, fp32 = quantized(name), prepare(network(name))
    ways = [{layer.node: layer.way for layer in round_weights(fp32, qdq, b).layers} for b in (whole, single, uneven)]
    assert ways[0] == ways[1] == ways[2]


def test_one_sample_leaves_the_nearest_codes() -> None:
    name = "conv relu conv"
    done = round_weights(prepare(network(name)), quantized(name), batches(name, 1, 1))
    assert [layer.way for layer in done.layers] == [NEAREST, NEAREST]


def test_layer_that_no_data_reach_stays() -> None:
    text = """m (float[N,4] x) => (float[N,3] y) { k = Less (x, nought)  i = NonZero (k)  t = Transpose (i)
        d = GatherND (x, t)  e = Unsqueeze (d, one)  f = MatMul (e, u)  g = ReduceSum <keepdims = 0> (f, nil)
        h = Gemm (x, v)  y = Add (h, g) }"""
    constants = {"nought": np.float32(0), "one": np.array([1]), "nil": np.array([0])}
    model = parse(text, {"u": floats(1, 3), "v": floats(4, 3)} | constants)
    for node in model.graph.node:
        node.name = node.output[0]
    data = [{"x": floats(6, 4, seed=k)} for k in range(4)]
    qdq = quantlab.quantize(model, quantlab.calibrate(model, data), selection=ALL).model
    told: list[int] = []
    done = round_weights(prepare(model), qdq, [{"x": np.abs(b["x"])} for b in data], told.append)
    assert done.left == {"f": "its input is empty, or has another shape than in FP32"}
    assert [layer.node for layer in done.layers] == ["h"]
    assert told == [1, 2]


def test_constant_that_is_an_output_or_a_branch_reads_is_kept() -> None:
    text = """m (float[N,4,8,8] x) => (float[N,5,8,8] y, float[5] k) { a = Conv (x, w)  n = ReduceMax <keepdims = 0> (a)
        g = Greater (n, nought)
        r = If (g) <then_branch = t () => (float[N,4,8,8] p) { p = Relu (a) },
                    else_branch = e () => (float[N,4,8,8] q) { q = Mul (a, h) }>
        y = Conv (r, v, k) }"""
    weights = {"w": floats(4, 4, 1, 1), "v": floats(5, 4, 1, 1), "k": floats(5), "h": floats(4, 1, 1)}
    fp32 = parse(text, weights | {"nought": np.float32(0)})
    for node in fp32.graph.node:
        node.name = node.output[0]
    data = batches("conv relu conv")
    before = quantlab.quantize(fp32, quantlab.calibrate(fp32, data), selection=ALL).model  # prepared: h in its branch
    moved = next(n for n in before.graph.node if n.op_type == "If")
    branch = next(a.g for a in moved.attribute if a.name == "else_branch")
    outside = onnx.ModelProto()
    outside.CopyFrom(before)
    inner = next(a.g for n in outside.graph.node if n.op_type == "If" for a in n.attribute if a.name == "else_branch")
    outside.graph.initializer.extend(branch.initializer)
    del inner.initializer[:]
    done = round_weights(prepare(fp32), outside, data)
    assert {layer.node for layer in done.layers} == {"a", "y"}
    assert {"h", "k"} <= set(initializers(done.model))
    wanted, got = (run(model, data[0]) for model in (fp32, done.model))
    assert sqnr_db(wanted[0], got[0]) > 25
    np.testing.assert_array_equal(got[1], weights["k"])


def test_layer_whose_inputs_cannot_be_squared_stays() -> None:
    fp32 = network("Gemm")
    data = [{"x": batch["x"] * np.float32(1e19)} for batch in batches("Gemm")]
    qdq = quantlab.quantize(fp32, quantlab.calibrate(fp32, data, quantlab.MinMax()), selection=ALL).model
    done = round_weights(prepare(fp32), qdq, data)
    assert set(done.left) == {"a", "y"}
    assert "too large to be squared" in done.left["a"]
    assert done.model.SerializeToString() == qdq.SerializeToString()


def test_no_batches_are_refused() -> None:
    with pytest.raises(DataError, match="no batches to round the weights with"):
        round_weights(prepare(network("Gemm")), quantized("Gemm"), [])


def test_layer_with_very_many_inputs_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.transforms.rounding.WIDEST", 4)
    found = rounded("conv relu conv")
    assert found.left
    assert all("inputs, more than 4" in why for why in found.left.values())
    assert not found.layers


def test_positions_as_rows_are_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 samples with 64 positions each, as many patches are taken whether the positions are an axis or rows."""
    text = """m (float[N,4,8,8] x) => (float[A,B{more}] y) {{ a = Conv (x, w)  r = Relu (a)
        t = Transpose <perm = [0,2,3,1]> (r)  f = Reshape (t, shape)  y = MatMul (f, v) }}"""
    seen: list[tuple[int, int]] = []
    real = rounding._round

    def spied(*given: object) -> object:
        halves = given[3]
        seen.append((sum(part.patches for part in halves), sum(part.samples for part in halves)))  # type: ignore[attr-defined]
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(rounding, "_round", spied)
    monkeypatch.setattr(rounding, "PATCHES", 32)
    monkeypatch.setattr(rounding, "PATCHES_PER_INPUT", 1)
    for shape, more in (([-1, 64, 16], ",5"), ([-1, 16], "")):
        weights = {"w": floats(16, 4, 1, 1), "v": floats(16, 5), "shape": np.array(shape)}
        model = parse(text.format(more=more), weights)
        for node in model.graph.node:
            node.name = node.output[0]
        data = [{"x": floats(4, 4, 8, 8, seed=k)} for k in range(2)]
        table = quantlab.calibrate(model, data, "minmax")
        round_weights(prepare(model), quantlab.quantize(model, table, selection=ALL).model, data)
    assert seen == [(32, 8)] * 4
