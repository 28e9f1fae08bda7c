"""What the tests of the FP16 conversion share."""

from __future__ import annotations

import numpy as np
import onnx

from models import floats, parse, run
from quantlab.fp16 import Fp16Model
from quantlab.onnx_model import infer_shapes

HEADER = '<ir_version: 9, opset_import: ["" : 19]>'
PAIR = "{1}_q = QuantizeLinear ({0}, {1}_s, zero)\n {1} = DequantizeLinear ({1}_q, {1}_s, zero)\n"
ZERO = {"zero": np.asarray(0, np.int8)}


def onnx_runtime_rounds() -> bool:
    """Whether QuantizeLinear of FP16 rounds to the nearest code: that of ONNX Runtime 1.23 cuts off."""
    text = "m (float16[3] x) => (int8[3] q) { q = QuantizeLinear (x, s, zero) }"
    model = parse(text, {"s": np.asarray(np.float16(0.5))} | ZERO, HEADER)
    return run(model, {"x": np.float16([0.3, 0.7, -0.7])})[0].tolist() == [1, 1, -1]


def scalar(value: float) -> np.ndarray:
    return np.asarray(value, np.float32)


def lines(model: onnx.ModelProto) -> list[str]:
    return [f"{n.op_type}({','.join(n.input)})" for n in model.graph.node]


def types(model: onnx.ModelProto) -> dict[str, int]:
    values = (*model.graph.input, *model.graph.output, *infer_shapes(model).graph.value_info)
    return {v.name: v.type.tensor_type.elem_type for v in values} | {
        t.name: t.data_type for t in model.graph.initializer
    }


def kept(result: Fp16Model) -> dict[str, str]:
    return dict(result.kept)


def assert_pairs_are_adjacent(model: onnx.ModelProto) -> None:
    """No Cast between a DequantizeLinear and what reads it."""
    dequantized = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    assert not [n.name for n in model.graph.node if n.op_type == "Cast" and n.input[0] in dequantized]


def small_layer(**weights: np.ndarray) -> onnx.ModelProto:
    """Q/DQ - MatMul with an int8 weight per channel - Add of a bias - Relu."""
    text = (
        "m (float[N,4] x) => (float[N,3] y) {\n"
        + PAIR.format("x", "a")
        + """w = DequantizeLinear <axis = 1> (w_q, w_s, w_zero)
        p = MatMul (a, w)
        b = Add (p, bias)
        y = Relu (b)
    }"""
    )
    codes = np.random.default_rng(0).integers(-127, 128, (4, 3)).astype(np.int8)
    given = {"a_s": scalar(0.02), "w_q": codes, "w_s": floats(3, seed=1) ** 2 + np.float32(0.01), "bias": floats(3)}
    return parse(text, given | ZERO | {"w_zero": np.zeros(3, np.int8)} | weights, HEADER)
