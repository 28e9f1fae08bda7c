"""Tiny ONNX models for tests, as ONNX text with seeded weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx.parser
import onnxruntime
from onnx import numpy_helper

import quantlab
from quantlab.data import ArrayBatches
from quantlab.ort import Session

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


def plus(amount: float) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """A backend: `conv_net` with a constant added to the logits."""
    session = Session(conv_net())
    return lambda batch: {"logits": session.run(batch)["logits"] + np.float32(amount)}


def coloured(count: int, seed: int = 50) -> np.ndarray:
    """Images for `conv_net` of random colours, which it puts into three classes; it has one for all that are noise."""
    return floats(count, 3, 8, 8, seed=seed) + floats(count, 3, 1, 1, seed=seed + 1, scale=3)


def labelled(count: int = 40) -> ArrayBatches:
    """Images in batches of 16 with the classes that `conv_net` gives them."""
    x = coloured(count)
    return ArrayBatches({"image": x}, batch_size=16, labels=run(conv_net(), {"image": x})[0].argmax(1))


def quantized(model: onnx.ModelProto, batches: list[dict[str, np.ndarray]], **kwargs: object) -> quantlab.Quantized:
    """Calibrated with min-max on `batches` and quantized."""
    return quantlab.quantize(model, quantlab.calibrate(model, batches, quantlab.MinMax()), **kwargs)


def sqnr_db(want: np.ndarray, got: np.ndarray) -> float:
    """Signal over noise of `got`, in dB."""
    noise = np.square(want.astype(np.float64) - got).sum()
    return float(10 * np.log10(np.square(want, dtype=np.float64).sum() / noise)) if noise else float("inf")


def initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """All constants by name."""
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def encoder(
    layers: int = 4, width: int = 32, heads: int = 4, fused: bool = False, rows: str = "N,T"
) -> onnx.ModelProto:
    """A transformer encoder as PyTorch exports it: attention, LayerNorm, GELU, residual adds.

    fused: LayerNormalization and Gelu as operators (opset 20), else as the arithmetic that older opsets have.
    """
    head, weights, lines = width // heads, {}, []

    def weight(name: str, *shape: int, scale: float | None = None) -> str:
        values = floats(*shape, seed=len(weights), scale=scale or shape[0] ** -0.5)
        weights[name] = values if scale != 0 else np.ones(shape, np.float32)
        return name

    def linear(y: str, x: str, name: str, inner: int, outer: int) -> None:
        lines.append(f"{y}_m = MatMul ({x}, {weight(f'{name}_w', inner, outer)})")
        lines.append(f"{y} = Add ({weight(f'{name}_b', outer, scale=0.1)}, {y}_m)")

    def norm(y: str, x: str, name: str) -> None:
        weight(f"{name}_g", width, scale=0)
        weight(f"{name}_b", width, scale=0.1)
        if fused:
            lines.append(f"{y} = LayerNormalization <axis = -1> ({x}, {name}_g, {name}_b)")
            return
        lines.extend([
            f"{y}_mean = ReduceMean <axes = [-1]> ({x})", f"{y}_c = Sub ({x}, {y}_mean)", f"{y}_sq = Pow ({y}_c, two)",
            f"{y}_var = ReduceMean <axes = [-1]> ({y}_sq)", f"{y}_ve = Add ({y}_var, eps)", f"{y}_std = Sqrt ({y}_ve)",
            f"{y}_n = Div ({y}_c, {y}_std)", f"{y}_s = Mul ({y}_n, {name}_g)", f"{y} = Add ({y}_s, {name}_b)",
        ])  # fmt: skip

    def gelu(y: str, x: str) -> None:
        if fused:
            lines.append(f"{y} = Gelu ({x})")
            return
        lines.extend([
            f"{y}_d = Div ({x}, root2)", f"{y}_e = Erf ({y}_d)", f"{y}_p = Add ({y}_e, one)",
            f"{y}_x = Mul ({x}, {y}_p)", f"{y} = Mul ({y}_x, half)",
        ])  # fmt: skip

    x = "x"
    for k in range(layers):
        norm(f"l{k}a", x, f"n{k}a")
        for part, order in (("q", "0,2,1,3"), ("k", "0,2,3,1"), ("v", "0,2,1,3")):
            linear(f"l{k}{part}", f"l{k}a", f"{part}{k}", width, width)
            lines.append(f"l{k}{part}r = Reshape (l{k}{part}, split)")
            lines.append(f"l{k}{part}t = Transpose <perm = [{order}]> (l{k}{part}r)")
        lines.append(f"l{k}s = MatMul (l{k}qt, l{k}kt)")
        lines.append(f"l{k}d = Div (l{k}s, root_head)")
        lines.append(f"l{k}p = Softmax <axis = -1> (l{k}d)")
        lines.append(f"l{k}o = MatMul (l{k}p, l{k}vt)")
        lines.append(f"l{k}ot = Transpose <perm = [0,2,1,3]> (l{k}o)")
        lines.append(f"l{k}or = Reshape (l{k}ot, join)")
        linear(f"l{k}z", f"l{k}or", f"o{k}", width, width)
        lines.append(f"l{k}r1 = Add ({x}, l{k}z)")
        norm(f"l{k}b", f"l{k}r1", f"n{k}b")
        linear(f"l{k}f", f"l{k}b", f"f{k}", width, 4 * width)
        gelu(f"l{k}g", f"l{k}f")
        linear(f"l{k}h", f"l{k}g", f"h{k}", 4 * width, width)
        lines.append(f"l{k}r2 = Add (l{k}r1, l{k}h)")
        x = f"l{k}r2"
    norm("y", x, "n")
    numbers = {"two": 2.0, "eps": 1e-5, "root2": 2**0.5, "one": 1.0, "half": 0.5, "root_head": head**0.5}
    constants = {n: np.asarray(v, np.float32) for n, v in numbers.items()}
    shapes = {"split": np.array([0, 0, heads, head]), "join": np.array([0, 0, width])}
    header = '<ir_version: 9, opset_import: ["" : 20]>' if fused else OPSET
    text = f"net (float[{rows},{width}] x) => (float[{rows},{width}] y) {{\n" + "\n".join(lines) + "\n}"
    model = parse(text, weights | constants | shapes, header)
    for node in model.graph.node:
        node.name = f"{node.output[0]}_{node.op_type}"
    return model
