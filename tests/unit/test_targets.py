"""What of a model is calibrated."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

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


IF = """{ t = Conv (x, w) }, else_branch = b () => (float[1,4,5,5] e) { e = Conv (x, w) }>"""
NOTHING = {
    "inside an If that an input decides": (
        """m (float[1,4,5,5] x, int64 rate) => (float[1,4,5,5] y) {
            k = Constant <value = int64 {16000}> ()  c = Equal (rate, k)
            y = If (c) <then_branch = a () => (float[1,4,5,5] t) """ + IF + " }",
        r"its layers \(2 Conv\) stand inside If \('If_0'\).*; input 'rate' decides.*Hint: make input 'rate' an init",
    ),
    "inside an If that a shape decides": (
        """m (float[1,4,5,5] x, float[N] z) => (float[1,4,5,5] y) {
            k = Constant <value = int64 {8}> ()  s = Shape (z)  u = Squeeze (s)  c = Less (u, k)
            y = If (c) <then_branch = a () => (float[1,4,5,5] t) """ + IF + " }",
        "the shape of input 'z' decides which branch runs Hint: give input 'z' a fixed shape",
    ),
    "inside a Loop": (
        """m (float[1,4,5,5] x, int64 n) => (float[1,4,5,5] y) {
            c = Constant <value = bool {1}> ()
            y = Loop (n, c, x) <body = b (int64 i, bool d, float[1,4,5,5] v) => (bool e, float[1,4,5,5] r) {
                e = Identity (d)  r = Conv (v, w) }>
        }""",
        r"its layers \(1 Conv\) stand inside Loop \('Loop_0'\), where all stays float Hint: export the model unrolled",
    ),
    "dynamically quantized": (
        """m (float[1,4,5,5] x) => (float[1,4,5,5] y) {
            q, s, z = DynamicQuantizeLinear (x)  p = ConvInteger (q, i, z)  f = Cast <to = 1> (p)  y = Mul (f, s)
        }""",
        r"it is quantized already \(1 ConvInteger\), in a form that TensorRT does not read Hint: start from the float",
    ),
    "recurrent": (
        "m (float[7,1,4] x) => (float[7,1,1,4] y) { y = GRU <hidden_size = 4> (x, a, b) }",
        "INT8: GRU: TensorRT has no INT8 kernel for it Hint",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), NOTHING.values(), ids=NOTHING)
def test_model_without_int8_is_refused_with_what_is_the_matter(text: str, said: str) -> None:
    weights = {
        "w": floats(4, 4, 1, 1),
        "i": np.ones((4, 4, 1, 1), np.int8),
        "a": floats(1, 12, 4),
        "b": floats(1, 12, 4),
    }
    model = parse(text, {name: x for name, x in weights.items() if any(f", {name}{end}" in text for end in ",)")})
    with pytest.raises(GraphError, match=said):
        calibration_target(model)


def test_branch_that_an_initializer_chooses_is_calibrated() -> None:
    model = parse(NOTHING["inside an If that an input decides"][0], {"w": floats(4, 4, 1, 1)})
    model.graph.initializer.append(numpy_helper.from_array(np.array(16000), "rate"))
    del model.graph.input[1]
    assert calibration_target(model).tensors == ("x",)
