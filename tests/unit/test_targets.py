"""What of a model is calibrated."""

from __future__ import annotations

import pytest

from models import conv_net, floats, image_batches, parse, quantized
from quantlab.errors import ConfigError, GraphError
from quantlab.onnx_model import model_hash
from quantlab.qdq import ALL_TENSORS, QDQ_TENSORS, calibration_target, plan, prepare


def test_tensors_that_quantize_needs_are_those_of_the_placement() -> None:
    target = calibration_target(conv_net())
    assert target == calibration_target(conv_net(), QDQ_TENSORS)
    assert target.tensors == plan(prepare(conv_net())).tensors == ("image", "r", "t", "f")
    assert target.model_hash == model_hash(conv_net())


def test_layer_for_which_int8_does_not_pay_can_still_be_asked_for() -> None:
    model = parse("m (float[1,6] x) => (float[1,4] y) { y = MatMul (x, w) }", {"w": floats(6, 4)})
    assert plan(prepare(model)).tensors == ()
    assert calibration_target(model).tensors == ("x",)


def test_constants_of_the_network_are_computed() -> None:
    text = "m (float[N,6] x) => (float[N,4] y) { v = Add (w, w)  y = MatMul (x, v) }"
    target = calibration_target(parse(text, {"w": floats(6, 4)}))
    assert [n.op_type for n in target.network.graph.node] == ["MatMul"]


def test_all_tensors_and_chosen_ones_are_taken_as_given() -> None:
    assert calibration_target(conv_net(), ALL_TENSORS).tensors is None
    assert calibration_target(conv_net(), ["s", "a"]).tensors == ("s", "a")


def test_tensors_that_are_no_names_are_refused_with_the_remedy() -> None:
    with pytest.raises(
        ConfigError, match=r"tensors is 'image', expected 'qdq', 'all' or a list of names Hint: tensors="
    ):
        calibration_target(conv_net(), "image")
    with pytest.raises(ConfigError, match="tensors is a list of int and str, expected Sequence of str or str"):
        calibration_target(conv_net(), ["image", 3])  # type: ignore[list-item]


def test_model_that_is_quantized_or_has_nothing_to_quantize_is_refused() -> None:
    with pytest.raises(GraphError, match="calibration needs the FP32 model"):
        calibration_target(quantized(conv_net(), image_batches()).model)
    model = parse("m (float[N,4] x, float[N,4] z) => (float[N,4] y) { a = Relu (x)  y = Mul (a, z) }")
    text = "nothing in the model can be INT8: Mul: element-wise arithmetic .*; Relu: TensorRT fuses it"
    with pytest.raises(GraphError, match=text):
        calibration_target(model)
    assert calibration_target(model, ALL_TENSORS).tensors is None
