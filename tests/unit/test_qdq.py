"""Placement and insertion: graphs in ONNX text, exact decisions and numbers out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, image_batches, initializers, parse, quantized, run
from quantlab.calibration import CalibrationTable
from quantlab.errors import DataError, GraphError
from quantlab.numerics import PerChannel, amax_of, fake_quantize
from quantlab.onnx_model import activation_qdq
from quantlab.qdq import EVERYTHING, Selection, plan, prepare


def structure(model: onnx.ModelProto) -> list[tuple[str, list[str], list[str]]]:
    return [(n.op_type, list(n.input), list(n.output)) for n in model.graph.node]


def test_conv_net_gets_exactly_these_nodes() -> None:
    result = quantized(conv_net(), image_batches())
    got = [(op, inputs) for op, inputs, _ in structure(result.model)]
    assert got == [
        ("QuantizeLinear", ["image", "image_scale", "image_zero_point"]),
        ("DequantizeLinear", ["image_quantized", "image_scale", "image_zero_point"]),
        ("DequantizeLinear", ["w1_quantized", "w1_scale", "w1_zero_point"]),
        ("Conv", ["image_dequantized", "w1_dequantized", "b1"]),
        ("Relu", ["a"]),
        ("QuantizeLinear", ["r", "r_scale", "r_zero_point"]),
        ("DequantizeLinear", ["r_quantized", "r_scale", "r_zero_point"]),
        ("DequantizeLinear", ["w2_quantized", "w2_scale", "w2_zero_point"]),
        ("Conv", ["r_dequantized", "w2_dequantized"]),
        ("Add", ["c", "r_dequantized"]),  # only the skip branch
        ("Relu", ["s"]),
        ("QuantizeLinear", ["t", "t_scale", "t_zero_point"]),
        ("DequantizeLinear", ["t_quantized", "t_scale", "t_zero_point"]),
        ("GlobalAveragePool", ["t_dequantized"]),
        ("Flatten", ["p"]),
        ("QuantizeLinear", ["f", "f_scale", "f_zero_point"]),
        ("DequantizeLinear", ["f_quantized", "f_scale", "f_zero_point"]),
        ("DequantizeLinear", ["w3_quantized", "w3_scale", "w3_zero_point"]),
        ("Gemm", ["f_dequantized", "w3_dequantized", "b3"]),
    ]
    assert [(s.op, s.reason) for s in result.placement.skipped] == [
        ("Relu", "TensorRT fuses it into the kernel before it"),
        ("Relu", "TensorRT fuses it into the kernel before it"),
        ("Flatten", "TensorRT moves the quantization before it"),
    ]


def test_same_inputs_outputs_and_identical_bytes_twice() -> None:
    model = conv_net()
    first, second = quantized(model, image_batches()), quantized(model, image_batches())
    assert first.model.SerializeToString(deterministic=True) == second.model.SerializeToString(deterministic=True)
    assert [i.name for i in first.model.graph.input] == ["image"]
    assert [o.name for o in first.model.graph.output] == ["logits"]
    assert first.model.graph.input[0].type == model.graph.input[0].type
    onnx.checker.check_model(first.model, full_check=True)


def test_input_model_is_not_changed() -> None:
    model = conv_net()
    before = model.SerializeToString(deterministic=True)
    quantized(model, image_batches())
    assert model.SerializeToString(deterministic=True) == before


def test_output_equals_fake_quantized_arithmetic_by_hand() -> None:
    model = parse("m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }", {"w": floats(6, 4, seed=1)})
    batch = {"x": floats(5, 6, seed=2)}
    result = quantized(model, [batch])
    x = fake_quantize(batch["x"], amax_of(batch["x"]))
    w = fake_quantize(floats(6, 4, seed=1), amax_of(floats(6, 4, seed=1), PerChannel(1)), PerChannel(1))
    np.testing.assert_allclose(run(result.model, batch)[0], x @ w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "weight", "axis"),
    [
        ("m (float[N,3,8,8] x) => (float[N,4,6,6] y) { y = Conv (x, w) }", (4, 3, 3, 3), 0),
        ("m (float[N,4,8,8] x) => (float[N,4,6,6] y) { y = Conv <group = 4> (x, w) }", (4, 1, 3, 3), 0),
        ("m (float[N,3,8] x) => (float[N,4,6] y) { y = Conv (x, w) }", (4, 3, 3), 0),
        ("m (float[N,3,6,6] x) => (float[N,5,8,8] y) { y = ConvTranspose (x, w) }", (3, 5, 3, 3), 1),
        ("m (float[N,6] x) => (float[N,4] y) { y = Gemm (x, w) }", (6, 4), 1),
        ("m (float[N,6] x) => (float[N,4] y) { y = Gemm <transB = 1> (x, w) }", (4, 6), 0),
        ("m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }", (6, 4), 1),
        ("m (float[2,N,6] x) => (float[2,N,4] y) { y = MatMul (x, w) }", (2, 6, 4), 2),
    ],
)
def test_weight_scales_lie_along_the_output_channels(text: str, weight: tuple[int, ...], axis: int) -> None:
    w = floats(*weight, seed=3)
    model = parse(text, {"w": w})
    shape = [d.dim_value or 2 for d in model.graph.input[0].type.tensor_type.shape.dim]
    result = quantized(
        model, [{"x": floats(*shape)}], selection=EVERYTHING, weights=quantlab.WeightStyle(stored="int8")
    )
    (node,) = [n for n in result.model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == "w_quantized"]
    assert {a.name: a.i for a in node.attribute} == {"axis": axis}
    constants = initializers(result.model)
    assert constants["w_quantized"].dtype == np.int8
    np.testing.assert_array_equal(constants["w_scale"], amax_of(w, PerChannel(axis)) / np.float32(127))
    assert run(result.model, {"x": floats(*shape)})[0].shape[-1] > 0


def test_matmul_of_two_activations_quantizes_both() -> None:
    model = parse("m (float[N,T,4] a, float[N,4,5] b) => (float[N,T,5] y) { y = MatMul (a, b) }")
    result = quantized(model, [{"a": floats(2, 3, 4), "b": floats(2, 4, 5)}])
    assert result.placement.tensors == ("a", "b")
    assert not result.placement.weights


def test_tensor_with_several_consumers_gets_one_pair() -> None:
    text = "m (float[N,6] x) => (float[N,4] y, float[N,4] z) { y = MatMul (x, w)  z = MatMul (x, v) }"
    result = quantized(parse(text, {"w": floats(6, 4), "v": floats(6, 4, seed=1)}), [{"x": floats(2, 6)}])
    assert [n.input[0] for n in result.model.graph.node if n.op_type == "QuantizeLinear"] == ["x", "w", "v"]


def test_shared_weight_is_stored_once() -> None:
    text = "m (float[N,4] x) => (float[N,4] z) { y = MatMul (x, w)  z = MatMul (y, w) }"
    model, batches = parse(text, {"w": floats(4, 4)}), [{"x": floats(2, 4)}]
    codes = quantized(model, batches, weights=quantlab.WeightStyle(stored="int8")).model
    assert [n for n in initializers(codes) if n.endswith("_quantized")] == ["w_quantized"]
    pairs = quantized(model, batches).model
    assert [n.input[0] for n in pairs.graph.node if n.op_type == "QuantizeLinear"] == ["x", "w", "y"]


def test_name_taken_by_the_model_is_not_taken_again() -> None:
    text = "m (float[N,6] x) => (float[N,4] x_quantized) { x_quantized = MatMul (x, w) }"
    result = quantized(parse(text, {"w": floats(6, 4)}), [{"x": floats(2, 6)}])
    onnx.checker.check_model(result.model, full_check=True)
    assert [o.name for o in result.model.graph.output] == ["x_quantized"]


def test_excluded_node_stays_float_and_is_listed() -> None:
    model = conv_net()
    name = next(n.name for n in prepare(model).graph.node if n.op_type == "Gemm")
    result = quantized(model, image_batches(), selection=Selection(exclude=(name,)))
    assert ("Gemm", f"excluded by '{name}'") in [(s.op, s.reason) for s in result.placement.skipped]
    assert "w3" in initializers(result.model)


def test_excluded_node_that_does_not_exist_raises() -> None:
    with pytest.raises(GraphError, match="no node matches 'nope'"):
        quantized(conv_net(), image_batches(), selection=Selection(exclude=("nope",)))


def test_other_types_and_domains_and_subgraphs_are_left_with_a_reason() -> None:
    text = """m (float16[N,6] x) => (float16[N,4] y) { y = MatMul (x, w) }"""
    placement = plan(prepare(parse(text, {"w": floats(6, 4).astype(np.float16)})))
    (skipped,) = placement.skipped
    assert skipped.reason == "input 0 ('x') is float16, not float32"
    branch = """m (bool c, float[N] x) => (float[N] y) {
        y = If (c) <then_branch = a () => (float[N] t) { t = Relu (x) },
                    else_branch = b () => (float[N] e) { e = Neg (x) }>
    }"""
    (skipped,) = plan(prepare(parse(branch))).skipped
    assert "holds a subgraph" in skipped.reason


def test_dead_channel_is_reported_and_harmless() -> None:
    w = floats(4, 3, 1, 1)
    w[2] = 0
    model = parse("m (float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv (x, w) }", {"w": w})
    result = quantized(model, [{"x": floats(1, 3, 8, 8)}])
    assert any("1 of 4 channels are all zero" in warning for warning in result.warnings)
    assert not run(result.model, {"x": floats(1, 3, 8, 8)})[0][:, 2].any()


def test_weight_with_nan_is_named() -> None:
    w = floats(6, 4)
    w[0, 0] = np.nan
    model = parse("m (float[N,6] x) => (float[N,4] y) { y = MatMul (x, w) }", {"w": w})
    table = CalibrationTable({"x": np.float32(1)})
    with pytest.raises(GraphError, match="constant 'w' of node .* has NaN"):
        quantlab.quantize(model, table)


def test_model_that_has_qdq_is_refused() -> None:
    result = quantized(conv_net(), image_batches())
    table = quantlab.calibrate(conv_net(), image_batches())
    with pytest.raises(GraphError, match="already has 11 QuantizeLinear/DequantizeLinear nodes"):
        quantlab.quantize(result.model, table)
    with pytest.raises(GraphError, match="calibration needs the FP32 model"):
        quantlab.calibrate(result.model, image_batches())


def test_table_that_lacks_a_tensor_is_refused() -> None:
    with pytest.raises(DataError, match="no tensor 'r'"):
        quantlab.quantize(conv_net(), CalibrationTable({"image": np.float32(1)}))


@pytest.mark.parametrize("to", [16, 17], ids=["bfloat16", "float8"])
def test_types_that_numpy_lacks_stay_float_with_the_reason(to: int) -> None:
    header = '<ir_version: 10, opset_import: ["" : 19]>'
    text = f"""m (float[N,4,H,W] x) => (float[N,8,W,H] y) {{
        c = Cast <to = {to}> (x)
        d = Transpose <perm = [0,1,3,2]> (c)
        e = Cast <to = 1> (d)
        y = Conv (e, w)
    }}"""
    placement = plan(prepare(parse(text, {"w": floats(8, 4, 1, 1)}, header)))
    assert placement.tensors == ("e",)
    moves = next(s.reason for s in placement.skipped if s.op == "Transpose")
    assert moves.startswith("it moves ")


def test_model_that_is_all_constant_has_nothing_to_calibrate() -> None:
    model = parse("m (float[N,4] x) => (float[2] y) { y = Add (a, b) }", {"a": floats(2), "b": floats(2)})
    with pytest.raises(GraphError, match="nothing in the model can be INT8"):
        quantlab.calibrate(model, [{"x": floats(2, 4)}])


def test_tensor_that_was_all_zero_has_scale_one_and_is_named() -> None:
    table = CalibrationTable({t: np.float32(t != "t") for t in ("image", "r", "t", "f")})
    result = quantlab.quantize(conv_net(), table)
    assert result.warnings == ("tensor 't' was all zero in calibration; its scale is 1",)
    assert initializers(result.model)["t_scale"] == 1


def test_pair_behind_a_loop_that_reads_an_activation_in_its_body_is_no_constants() -> None:
    """The loop's own inputs are constants: what it reads besides stands in its body only."""
    text = """m (float[N,4] x) => (float[N,4] y) {
        a = Relu (x)
        l = Loop (two, yes, zeros) <body = b (int64 i, bool c, float[N,4] s) => (bool d, float[N,4] t) {
            d = Identity (c)
            t = Add (s, a)
        }>
        q = QuantizeLinear (l, scale, zero)
        y = DequantizeLinear (q, scale, zero)
    }"""
    constants = {"two": np.array(2), "yes": np.array(True), "zeros": np.zeros((1, 4), np.float32)}
    model = parse(text, constants | {"scale": np.float32(0.1), "zero": np.int8(0)})
    assert [node.op_type for node in activation_qdq(model)] == ["QuantizeLinear", "DequantizeLinear"]
