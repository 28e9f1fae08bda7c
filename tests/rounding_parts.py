"""Networks whose weights are rounded, with their data, and what became of them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import onnx

import quantlab
from models import floats, parse, sqnr_db
from quantlab.ort import Session
from quantlab.qdq import WeightStyle, prepare
from quantlab.transforms.rounding import Rounded, round_weights

ALL = quantlab.Selection(include=("*",))
Batches = list[dict[str, np.ndarray]]


class Net(NamedTuple):
    """text: the network. weights: name -> shape; others: constants as they are; inputs: name -> shape of a sample;
    rounded: the layers; left: word of the reason by layer."""

    text: str
    weights: dict[str, tuple[int, ...]]
    rounded: tuple[str, ...]
    others: dict[str, np.ndarray] = {}  # noqa: RUF012
    inputs: dict[str, tuple[int, ...]] = {"x": (4, 8, 8)}  # noqa: RUF012
    left: dict[str, str] = {}  # noqa: RUF012


NETS = {
    "conv relu conv": Net(
        "m (float[N,4,8,8] x) => (float[N,5,6,6] y) { a = Conv (x, w, b)  r = Relu (a)  y = Conv (r, v, c) }",
        {"w": (16, 4, 3, 3), "b": (16,), "v": (5, 16, 1, 1), "c": (5,)}, ("a", "y"),
    ),
    "without biases": Net(
        "m (float[N,4,8,8] x) => (float[N,5,6,6] y) { a = Conv (x, w)  r = Relu (a)  y = Conv (r, v) }",
        {"w": (16, 4, 3, 3), "v": (5, 16, 1, 1)}, ("a", "y"),
    ),
    "depthwise": Net(
        """m (float[N,4,8,8] x) => (float[N,5,8,8] y) { a = Conv (x, w, b)  r = Relu (a)
            d = Conv <group = 16, pads = [1,1,1,1]> (r, u)  s = Relu (d)  y = Conv (s, v) }""",
        {"w": (16, 4, 1, 1), "b": (16,), "u": (16, 1, 3, 3), "v": (5, 16, 1, 1)}, ("a", "d", "y"),
    ),
    "transposed": Net(
        """m (float[N,4,8,8] x) => (float[N,6,h,k] y) { a = Conv (x, w)  r = Relu (a)
            y = ConvTranspose <group = 2, strides = [2,2]> (r, v) }""",
        {"w": (16, 4, 1, 1), "v": (16, 3, 3, 3)}, ("a", "y"),
    ),
    "MatMul and Add": Net(
        """m (float[N,6,12] x) => (float[N,6,5] y) { a = MatMul (x, w)  p = Add (b, a)  r = Relu (p)
            y = MatMul (r, v) }""",
        {"w": (12, 24), "b": (24,), "v": (24, 5)}, ("a", "y"), inputs={"x": (6, 12)},
    ),
    "Gemm": Net(
        "m (float[N,12] x) => (float[N,5] y) { a = Gemm <transB = 1> (x, w, b)  r = Relu (a)  y = Gemm (r, v) }",
        {"w": (24, 12), "b": (24,), "v": (24, 5)}, ("a", "y"), inputs={"x": (12,)},
    ),
    "Gemm with a factor": Net(
        "m (float[N,12] x) => (float[N,5] y) { a = Gemm <alpha = 0.5> (x, w)  r = Relu (a)  y = Gemm (r, v) }",
        {"w": (12, 24), "v": (24, 5)}, ("y",), inputs={"x": (12,)}, left={"a": "no product with a matrix"},
    ),
    "shared weight": Net(
        """m (float[N,4,8,8] x) => (float[N,5,8,8] y) { a = Conv (x, w)  r = Relu (a)  b = Conv (r, w)  s = Relu (b)
            y = Conv (s, v) }""",
        {"w": (4, 4, 1, 1), "v": (5, 4, 1, 1)}, ("y",), left={"a": "other nodes read", "b": "other nodes read"},
    ),
    "residual": Net(
        """m (float[N,4,8,8] x) => (float[N,5,8,8] y) { a = Conv (x, w, b)  r = Relu (a)
            c = Conv <pads = [1,1,1,1]> (r, u)  d = Add (c, r)  t = Relu (d)  y = Conv (t, v) }""",
        {"w": (16, 4, 1, 1), "b": (16,), "u": (16, 16, 3, 3), "v": (5, 16, 1, 1)}, ("a", "c", "y"),
    ),
    "If": Net(
        """m (float[N,4,8,8] x) => (float[N,5,8,8] y) { a = Conv (x, w)  n = ReduceMax <keepdims = 0> (a)
            g = Greater (n, nought)
            r = If (g) <then_branch = t () => (float[N,16,8,8] p) { p = Relu (a) },
                        else_branch = e () => (float[N,16,8,8] q) { q = Conv (a, u) }>
            y = Conv (r, v) }""",
        {"w": (16, 4, 1, 1), "u": (16, 16, 1, 1), "v": (5, 16, 1, 1)}, ("a", "y"), {"nought": np.float32(0)},
    ),
    "weight of two branches": Net(
        """m (float[N,4,8,8] x) => (float[N,5,8,8] y) { a = Conv (x, w)  n = ReduceMax <keepdims = 0> (a)
            g = Greater (n, nought)
            r = If (g) <then_branch = t () => (float[N,4,8,8] p) { o = Conv (a, u)  p = Add (o, h) },
                        else_branch = e () => (float[N,4,8,8] q) { k = Mul (a, h)  q = Conv (k, u) }>
            y = Conv (r, v) }""",
        {"w": (4, 4, 1, 1), "u": (4, 4, 1, 1), "v": (5, 4, 1, 1), "h": (4, 1, 1)}, ("a", "y"),
        {"nought": np.float32(0)},
    ),
    "shared bias": Net(
        """m (float[N,4,8,8] x) => (float[N,5,8,8] y) { a = Conv (x, w, b)  r = Relu (a)
            c = Conv <pads = [1,1,1,1]> (r, u, b)  t = Relu (c)  y = Conv (t, v) }""",
        {"w": (16, 4, 1, 1), "b": (16,), "u": (16, 16, 3, 3), "v": (5, 16, 1, 1)}, ("a", "c", "y"),
    ),
    "bias with a first axis": Net(
        """m (float[N,6,12] x) => (float[N,6,5] y) { a = MatMul (x, w)  p = Add (a, b)  r = Relu (p)
            y = MatMul (r, v) }""",
        {"w": (12, 24), "b": (1, 1, 24), "v": (24, 5)}, ("a", "y"), inputs={"x": (6, 12)},
    ),
    "bias of more than one row": Net(
        """m (float[N,6,12] x) => (float[N,6,5] y) { a = MatMul (x, w)  p = Add (a, b)  r = Relu (p)
            y = MatMul (r, v) }""",
        {"w": (12, 24), "b": (6, 24), "v": (24, 5)}, ("a", "y"), inputs={"x": (6, 12)},
    ),
    "output between": Net(
        """m (float[N,4,8,8] x) => (float[N,5,6,6] y, float[N,16,6,6] a) { a = Conv (x, w)  r = Relu (a)
            y = Conv (r, v) }""",
        {"w": (16, 4, 3, 3), "v": (5, 16, 1, 1)}, ("a", "y"),
    ),
    "weight that a branch reads": Net(
        """m (float[N,4,8,8] x) => (float[N,5,8,8] y) { a = Conv (x, w)  n = ReduceMax <keepdims = 0> (a)
            g = Greater (n, nought)
            r = If (g) <then_branch = t () => (float[N,4,8,8] p) { p = Relu (a) },
                        else_branch = e () => (float[N,4,8,8] q) { q = Conv (a, w) }>
            y = Conv (r, v) }""",
        {"w": (4, 4, 1, 1), "v": (5, 4, 1, 1)}, ("a", "y"), {"nought": np.float32(0)},
    ),
    "two inputs": Net(
        """m (float[N,4,8,8] x, float[N,6] z) => (float[N,5] y) { a = Conv (x, w)  r = Relu (a)
            p = GlobalAveragePool (r)  f = Flatten (p)  b = Gemm (f, v)  c = Gemm (z, u)  y = Add (b, c) }""",
        {"w": (16, 4, 3, 3), "v": (16, 5), "u": (6, 5)}, ("a", "b", "c"), inputs={"x": (4, 8, 8), "z": (6,)},
    ),
    "infinite mask": Net(
        """m (float[N,6,12] x) => (float[N,6,5] y) { l = Greater (x, nought)  i = Where (l, nought, low)
            m = ReduceMax <axes = [2], keepdims = 1> (i)  t = Transpose <perm = [0,2,1]> (m)
            q = MatMul (x, w)  k = Transpose <perm = [0,2,1]> (x)  s = MatMul (q, k)  e = Add (s, t)
            p = Softmax <axis = -1> (e)  o = MatMul (p, x)  y = MatMul (o, v) }""",
        {"w": (12, 12), "v": (12, 5)}, ("q", "y"), {"nought": np.float32(0.7), "low": np.float32(-np.inf)},
        inputs={"x": (6, 12)},
    ),
    "vector": Net(
        "m (float[12] x) => (float[5] y) { a = MatMul (x, w)  r = Relu (a)  y = MatMul (r, v) }",
        {"w": (12, 24), "v": (24, 5)}, ("a", "y"), inputs={"x": (12,)},
    ),
    "batches of one": Net(
        "m (float[1,4,8,8] x) => (float[1,5,6,6] y) { a = Conv (x, w, b)  r = Relu (a)  y = Conv (r, v, c) }",
        {"w": (16, 4, 3, 3), "b": (16,), "v": (5, 16, 1, 1), "c": (5,)}, ("a", "y"),
    ),
}  # fmt: skip


def network(name: str) -> onnx.ModelProto:
    net = NETS[name]
    weights = {n: floats(*shape, seed=k, scale=0.4) for k, (n, shape) in enumerate(net.weights.items())}
    model = parse(net.text, weights | net.others)
    for node in model.graph.node:
        node.name = node.output[0]
    return model


@cache
def batches(name: str, count: int = 4, size: int = 16, seed: int = 0) -> Batches:
    """Values that vary together, as those of images do."""
    free = not NETS[name].text.startswith(("m (float[1,", "m (float[12]"))
    found = []
    for k in range(count if free else count * size):
        batch = {}
        for index, (tensor, shape) in enumerate(NETS[name].inputs.items()):
            mixed = floats(shape[0], 3, seed=99 + index)
            each = floats(size if free else 1, 3, *shape[1:], seed=1000 * seed + 10 * k + index)
            x = np.einsum("cm,nm...->nc...", mixed, each) + 0.5 + 0.05 * floats(len(each), *shape, seed=k)
            batch[tensor] = (x if "N" in NETS[name].text or "1," in NETS[name].text[9:12] else x[0]).astype(np.float32)
        found.append(batch)
    return found


@cache
def quantized(name: str, weights: WeightStyle | None = None) -> onnx.ModelProto:
    model, observer = network(name), quantlab.MinMax()
    table = quantlab.calibrate(model, batches(name), observer)
    return quantlab.quantize(model, table, selection=ALL, weights=weights).model


def rounded(name: str, weights: WeightStyle | None = None, **values: object) -> Rounded:
    return round_weights(prepare(network(name)), quantized(name, weights), batches(name), **values)


@cache
def usual(name: str) -> Rounded:
    return rounded(name)


def quality(name: str, model: onnx.ModelProto) -> float:
    """On data that had no part in anything."""
    unseen = batches(name, 6, seed=7)
    sessions = [Session(m, optimize=False) for m in (network(name), model)]
    wanted, got = (np.stack([session.run(batch)["y"] for batch in unseen]) for session in sessions)
    return sqnr_db(wanted, got)
