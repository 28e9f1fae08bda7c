"""Tiny ONNX models for tests, as ONNX text with seeded weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
from onnx import numpy_helper

import quantlab

OPSET = '<ir_version: 8, opset_import: ["" : 13]>'
CONCAT = """m (float[N,4,8,8] x) => (float[N,4,8,8] y) {
    a = Conv (x, w)
    b = Conv (x, v)
    c = Concat <axis = 1> (a, b)
    y = Conv (c, u)
}"""
"""Two branches whose outputs must share one scale; w, v: (4, 4, 1, 1), u: (4, 8, 1, 1)."""


def parse(text: str, weights: dict[str, np.ndarray] | None = None, header: str = OPSET) -> onnx.ModelProto:
    """A model from ONNX text; `weights` become initializers."""
    proto = onnx.parser.parse_model(header + text)
    proto.graph.initializer.extend(numpy_helper.from_array(w, n) for n, w in (weights or {}).items())
    return proto


def floats(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """float32 normal values."""
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def conv_net(batch: str = "N") -> onnx.ModelProto:
    """conv - relu - conv - add(skip) - relu - pool - gemm: 3x8x8 images, 5 classes."""
    text = f"""
    net (float[{batch},3,8,8] image) => (float[{batch},5] logits) {{
        a = Conv <pads = [1,1,1,1]> (image, w1, b1)
        r = Relu (a)
        c = Conv <pads = [1,1,1,1]> (r, w2)
        s = Add (c, r)
        t = Relu (s)
        p = GlobalAveragePool (t)
        f = Flatten (p)
        logits = Gemm <transB = 1> (f, w3, b3)
    }}"""
    weights = {"w1": floats(8, 3, 3, 3, seed=1), "b1": floats(8, seed=2), "w2": floats(8, 8, 3, 3, seed=3, scale=0.2)}
    return parse(text, weights | {"w3": floats(5, 8, seed=4), "b3": floats(5, seed=5)})


def image_batches(count: int = 4, size: int = 6, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Batches for `conv_net`."""
    return [{"image": floats(size, 3, 8, 8, seed=seed + k)} for k in range(count)]


def run(model: onnx.ModelProto, batch: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs on ONNX Runtime with graph optimisation off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, batch)


def quantized(model: onnx.ModelProto, batches: list[dict[str, np.ndarray]], **kwargs: object) -> quantlab.Quantized:
    """Calibrated with min-max on `batches` and quantized."""
    return quantlab.quantize(model, quantlab.calibrate(model, batches, quantlab.MinMax()), **kwargs)


def initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """All constants by name."""
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
