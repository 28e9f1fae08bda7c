"""Networks whose numbers float32 holds exactly: scales are powers of two, weights and biases whole multiples of them,
so that two models that ought to compute the same must give the same bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

import quantlab
from models import OPSET, parse
from quantlab.calibration import CalibrationTable
from quantlab.qdq import prepare
from quantlab.qdq.planning import plan

STEP = 2.0**-7
"""Scale of every weight."""
IN = 2.0**-5
"""Scale of the input and of everything that stays symmetric."""
EXACT_MODELS = {
    "one by one": """m (float[4,8,6,6] x) => (float[4,8,6,6] y) {
        a = Conv <pads = [1,1,1,1]> (x, w16_8_3_3, b16)
        r = Relu (a)
        y = Conv (r, w8_16_1_1, b8)
    }""",
    "clip": """m (float[4,8,6,6] x) => (float[4,8,6,6] y) {
        a = Conv <pads = [1,1,1,1]> (x, w16_8_3_3, b16)
        r = Clip (a, zero, six)
        y = Conv (r, w8_16_1_1)
    }""",
    "zero padding": """m (float[4,8,6,6] x) => (float[4,8,3,3] y) {
        a = Conv (x, w16_8_1_1, b16)
        r = Relu (a)
        y = Conv <pads = [1,1,1,1], strides = [2,2]> (r, w8_16_3_3, b8)
    }""",
    "residual": """m (float[4,8,6,6] x) => (float[4,8,6,6] y) {
        a = Conv (x, w16_8_1_1, b16)
        r = Relu (a)
        b = Conv <pads = [1,1,1,1]> (r, w16_16_3_3, b16b)
        s = Relu (b)
        c = Conv <pads = [1,1,1,1]> (s, v16_16_3_3, b16c)
        d = Add (c, r)
        t = Relu (d)
        y = Conv (t, w8_16_1_1, b8)
    }""",
    "max pooling": """m (float[4,8,6,6] x) => (float[4,8,3,3] y) {
        a = Conv <pads = [1,1,1,1]> (x, w32_8_3_3, b32)
        r = Relu (a)
        p = MaxPool <kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]> (r)
        y = Conv (p, w8_32_1_1, b8)
    }""",
    "depthwise": """m (float[4,16,6,6] x) => (float[4,8,6,6] y) {
        a = Conv <pads = [1,1,1,1], group = 16> (x, w16_1_3_3, b16)
        r = Relu (a)
        y = Conv (r, w8_16_1_1, b8)
    }""",
    "gemm": """m (float[4,16] x) => (float[4,8] y) {
        a = Gemm <transB = 1> (x, w32_16, b32)
        r = Relu (a)
        y = Gemm <transB = 1> (r, w8_32, b8)
    }""",
    "slice": """m (float[4,8,6,6] x) => (float[4,8,3,3] y) {
        a = Conv (x, w16_8_1_1, b16)
        r = Relu (a)
        b = Conv <pads = [1,1,1,1]> (r, w16_16_3_3, b16b)
        d = Add (b, r)
        t = Relu (d)
        c = Slice (t, starts, ends, axes, steps)
        e = Conv <pads = [1,1,1,1], strides = [2,2]> (t, v16_16_3_3, b16c)
        f = Add (e, c)
        y = Conv (f, w8_16_1_1, b8)
    }""",
}
"""Name -> network; every tensor behind a ReLU or Clip can have all codes but 't' of the last."""


@dataclass(frozen=True)
class Exact:
    """A network with symmetric scales, and what its tensors would have with all codes."""

    fp32: onnx.ModelProto
    qdq: onnx.ModelProto
    amax: dict[str, float]
    batch: dict[str, np.ndarray]


def _weight(name: str, seed: int) -> np.ndarray:
    """Codes times STEP, with 127 in every output, so that the scale is STEP."""
    shape = [int(n) for n in name[1:].split("_")]
    codes = np.random.default_rng(seed).integers(-100, 101, shape)
    codes.reshape(shape[0], -1)[:, 0] = 127
    return (codes * STEP).astype(np.float32)


def _bias(name: str, seed: int) -> np.ndarray:
    size = int("".join(c for c in name if c.isdigit()))
    return (np.random.default_rng(seed).integers(-2000, 8000, size) * IN * STEP).astype(np.float32)


def exact_network(text: str) -> onnx.ModelProto:
    """A network of `EXACT_MODELS`, or another with such names of weights."""
    given = {
        "zero": np.float32(0), "six": np.float32(6), "axes": np.array([2, 3]), "steps": np.array([2, 2]),
        "starts": np.array([0, 0]), "ends": np.array([6, 6]),
    }  # fmt: skip
    proto = parse(text)
    made = {name for node in proto.graph.node for name in node.output} | {i.name for i in proto.graph.input}
    read = dict.fromkeys(name for node in proto.graph.node for name in node.input if name not in made)
    weights = {}
    for seed, name in enumerate(read):
        weights[name] = given[name] if name in given else (_bias if name[0] == "b" else _weight)(name, seed)
    return parse(text, weights, OPSET)


def exact_model(name: str) -> Exact:
    """One of `EXACT_MODELS`."""
    fp32 = exact_network(EXACT_MODELS[name])
    everything = quantlab.Selection(include=("*",))
    tensors = plan(prepare(fp32), everything).tensors
    table = CalibrationTable({t: np.float32(127 * IN) for t in tensors})
    qdq = quantlab.quantize(fp32, table, selection=everything).model
    size = [d.dim_value or 4 for d in fp32.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(9).integers(-127, 128, size) * IN
    wide = dict.fromkeys(tensors, 255 * IN / 2)
    return Exact(fp32, qdq, wide, {fp32.graph.input[0].name: x.astype(np.float32)})
