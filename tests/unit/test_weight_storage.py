"""How weights are stored where nobody says: float behind pairs for networks with which TensorRT 8 takes float only."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

import quantlab
from models import OPSET, encoder, floats, initializers, run
from placement_parts import OPSET_20, ints, named, normal_batch, on_normal_values
from quantlab import WeightStyle
from quantlab.qdq import EVERYTHING, lint

OPSET_17 = '<ir_version: 9, opset_import: ["" : 17]>'
W = {"w": floats(8, 8, seed=1), "k": floats(8, 8, 1, 1, seed=2), "g": floats(8, seed=3)}
LSTM = {"i": floats(1, 16, 8, seed=4), "h": floats(1, 16, 4, seed=5), "w4": floats(4, 8, seed=6)}
PICTURE = "m (float[N,8,4,4] x) => (float[A,B,C,D] y)"

NETWORKS = {
    "Conv": (f"{PICTURE} {{ y = Conv (x, k) }}", "int8"),
    "Gemm": ("m (float[N,8] x) => (float[A,B] y) { y = Gemm (x, w) }", "int8"),
    "Conv and Softmax": (f"{PICTURE} {{ a = Conv (x, k)  y = Softmax (a) }}", "int8"),
    "MatMul": ("m (float[N,8] x) => (float[A,B] y) { y = MatMul (x, w) }", "float"),
    "Conv and MatMul": ("m (float[N,8,4,4] x) => (float[A,B] y) "
                        "{ a = Conv (x, k)  t = Flatten (a)  y = MatMul (t, long) }", "float"),
    "LayerNormalization": (f"{PICTURE} {{ a = LayerNormalization <axis = 1> (x, n)  y = Conv (a, k) }}", "float"),
    "LSTM": ("m (float[5,N,8] x) => (float[A,B] y) { a, b = LSTM <hidden_size = 4> (x, i, h)  "
             "c = Squeeze (b, axis)  y = Gemm (c, w4) }", "float"),
}  # fmt: skip


def network(name: str) -> onnx.ModelProto:
    weights = W | LSTM | {"n": np.ones((8, 4, 4), np.float32), "axis": ints(0), "long": floats(128, 8)}
    used = {key: value for key, value in weights.items() if re.search(rf"\b{key}\b", NETWORKS[name][0])}
    return named(NETWORKS[name][0], used, OPSET_17 if name == "LayerNormalization" else OPSET)


def stored(model: onnx.ModelProto) -> set[str]:
    """int8 or float: what the weights of a Q/DQ model are."""
    constants = initializers(model)
    maker = {n.output[0]: n for n in model.graph.node}
    found = set()
    for node in model.graph.node:
        dq = maker.get(node.input[1]) if node.op_type in ("Conv", "Gemm", "MatMul") else None
        if dq is not None and dq.op_type == "DequantizeLinear":
            found.add("int8" if dq.input[0] in constants else "float")
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_stored_as_the_network_wants_them(name: str) -> None:
    model = network(name)
    result = on_normal_values(model, selection=EVERYTHING)
    assert stored(result.model) == {NETWORKS[name][1]}
    assert lint(result.model) == []


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("style", ["int8", "float"])
def test_style_that_is_asked_for_is_obeyed_and_gives_the_same_outputs(name: str, style: str) -> None:
    model = network(name)
    asked = on_normal_values(model, selection=EVERYTHING, weights=WeightStyle(stored=style))
    assert stored(asked.model) == {style}
    auto = on_normal_values(model, selection=EVERYTHING)
    batch = normal_batch(model)
    np.testing.assert_array_equal(run(asked.model, batch)[0], run(auto.model, batch)[0])
    assert [e.sqnr_db.tolist() for e in asked.weight_errors] == [e.sqnr_db.tolist() for e in auto.weight_errors]


def test_matmul_that_stays_float_decides_too() -> None:
    text = f"{PICTURE} {{ a = Conv (x, k)  y = MatMul (a, a) }}"
    model = named(text, {"k": W["k"]})
    result = on_normal_values(model, selection=quantlab.Selection(include=("a",)))
    assert [node for node, _, _ in result.placement.activations] == ["a"]
    assert stored(result.model) == {"float"}


def test_operator_of_another_domain_does_not_decide() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "my" : 1]>'
    text = f"{PICTURE} {{ a = my.MatMul (x, x)  y = Conv (x, k) }}"
    model = named(text.replace("y)", "y, float[N,8,4,4] a)"), {"k": W["k"]}, header)
    table = quantlab.CalibrationTable({"x": np.float32(3)})
    assert stored(quantlab.quantize(model, table).model) == {"int8"}


def test_scale_per_weight_goes_with_either_style() -> None:
    model = network("MatMul")
    result = on_normal_values(model, weights=WeightStyle(per_channel=False))
    assert stored(result.model) == {"float"}
    assert initializers(result.model)["w_scale"].shape == ()


@pytest.mark.parametrize("fused", [False, True])
def test_encoder_is_stored_in_float_and_keeps_its_own_constants(fused: bool) -> None:
    model = encoder(1, fused=fused)
    result = quantlab.quantize(model, quantlab.calibrate(model, [{"x": floats(2, 7, 32)}], quantlab.MinMax()))
    assert stored(result.model) == {"float"}
    given, kept = initializers(model), initializers(result.model)
    for site in result.placement.weights:
        np.testing.assert_array_equal(kept[site.tensor], given[site.tensor])
    onnx.checker.check_model(result.model, full_check=True)


def test_operators_at_their_newest_are_stored_alike() -> None:
    text = "m (float[N,8] x) => (float[A,B] y) { a = Gelu (x)  y = Gemm (a, w) }"
    assert stored(on_normal_values(named(text, {"w": W["w"]}, OPSET_20), selection=EVERYTHING).model) == {"int8"}
