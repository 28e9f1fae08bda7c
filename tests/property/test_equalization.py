"""The law of range equalization: `fp32` computes what the network did, and `network` with Q/DQ what `fp32` does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import floats, parse, run
from quantlab.numerics import scale_from_amax
from quantlab.ort import ActivationReader
from quantlab.qdq import EVERYTHING, insert, plan, prepare
from quantlab.transforms import equalize
from quantlab.transforms.rewrite import rewrite
from quantlab.transforms.walk import follow


class Net(NamedTuple):
    """text: the network, whose input is x. scaled: tensors whose channels get factors. weights: by name."""

    text: str
    scaled: tuple[str, ...]
    weights: dict[str, np.ndarray]
    low: int = 13


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Normal values for every name; those of the first axis differ in magnitude, so that channels do."""
    found = {}
    for seed, (name, shape) in enumerate(shapes.items()):
        spread = np.exp2(np.linspace(-3, 1, shape[0])).reshape(-1, *[1] * (len(shape) - 1))
        found[name] = (floats(*shape, seed=seed) * spread).astype(np.float32)
    return found


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


SIX = {"zero": np.float32(0), "six": np.float32(6)}
IMAGE = "float[N,3,8,8] x"
TOKENS = "float[N,5,8] x"
NETS = {
    "relu": Net(
        f"m ({IMAGE}) => (float[N,4,8,8] y) {{ a = Conv (x, w, b)  r = Relu (a)  y = Conv (r, v) }}",
        ("r",), weights(w=(6, 3, 1, 1), b=(6,), v=(4, 6, 1, 1)),
    ),
    "relu6": Net(
        f"m ({IMAGE}) => (float[N,4,8,8] y) {{ a = Conv (x, w, b)  r = Clip (a, zero, six)  y = Conv (r, v) }}",
        ("r",), weights(w=(6, 3, 1, 1), b=(6,), v=(4, 6, 1, 1)) | SIX,
    ),
    "depthwise": Net(
        f"""m ({IMAGE}) => (float[N,4,8,8] y) {{ a = Conv (x, w, b)  r = Clip (a, zero, six)
            d = Conv <group = 6, pads = [1,1,1,1]> (r, u)  s = Clip (d, zero, six)  y = Conv (s, v) }}""",
        ("r", "s"), weights(w=(6, 3, 1, 1), b=(6,), u=(6, 1, 3, 3), v=(4, 6, 1, 1)) | SIX,
    ),
    "grouped": Net(
        f"""m ({IMAGE}) => (float[N,4,8,8] y) {{ a = Conv (x, w)  r = LeakyRelu (a)
            d = Conv <group = 2> (r, u)  p = PRelu (d, slope)  y = Conv (p, v) }}""",
        ("r", "p"), weights(w=(6, 3, 1, 1), u=(4, 3, 1, 1), v=(4, 4, 1, 1), slope=(4, 1, 1)),
    ),
    "residual": Net(
        f"""m ({IMAGE}) => (float[N,4,8,8] y) {{ a = Conv (x, w)  r = Relu (a)  b = Conv (r, u)  s = Add (b, a)
            t = Relu (s)  y = Conv (t, v) }}""",
        ("r", "t"), weights(w=(6, 3, 1, 1), u=(6, 6, 1, 1), v=(4, 6, 1, 1)),
    ),
    "concat": Net(
        f"""m ({IMAGE}) => (float[N,4,8,8] y) {{ a = Conv (x, w)  b = Conv (x, u)  c = Concat <axis = 1> (a, x, b)
            r = Relu (c)  y = Conv (r, v) }}""",
        ("r",), weights(w=(6, 3, 1, 1), u=(2, 3, 1, 1), v=(4, 11, 1, 1)),
    ),
    "rows joined": Net(
        f"""m ({IMAGE}) => (float[N,4,16,8] y) {{ a = Conv (x, w)  b = Conv (x, u)  c = Concat <axis = 2> (a, b)
            y = Conv (c, v) }}""",
        ("c",), weights(w=(6, 3, 1, 1), u=(6, 3, 1, 1), v=(4, 6, 1, 1)),
    ),
    "slice": Net(
        f"""m ({IMAGE}) => (float[N,4,8,8] y) {{ a = Conv (x, w)  r = Relu (a)  s = Slice (r, from, to, axes, by)
            y = Conv (s, v) }}""",
        ("s",), weights(w=(6, 3, 1, 1), v=(4, 3, 1, 1))
        | {"from": ints(-1), "to": ints(-100), "axes": ints(1), "by": ints(-2)},
    ),
    "split": Net(
        f"""m ({IMAGE}) => (float[N,4,8,8] y) {{ a = Conv (x, w)  b, c = Split <axis = 1> (a, sizes)
            d = Conv (b, u)  e = Concat <axis = 1> (d, c)  y = Conv (e, v) }}""",
        ("e",), weights(w=(6, 3, 1, 1), u=(2, 4, 1, 1), v=(4, 4, 1, 1)) | {"sizes": ints(4, 2)},
    ),
    "pad and pools": Net(
        f"""m ({IMAGE}) => (float[N,4,4,4] y) {{ a = Conv (x, w)  r = Relu (a)  p = Pad (r, pads)
            q = MaxPool <kernel_shape = [3,3]> (p)  s = AveragePool <kernel_shape = [2,2], strides = [2,2]> (q)
            y = Conv (s, v) }}""",
        ("s",), weights(w=(6, 3, 1, 1), v=(4, 6, 1, 1)) | {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)},
    ),
    "channels of zeros": Net(
        f"""m ({IMAGE}) => (float[N,4,8,8] y) {{ a = Conv (x, w)  r = Relu (a)  p = Pad (r, pads)
            y = Conv (p, v) }}""",
        ("p",), weights(w=(6, 3, 1, 1), v=(4, 9, 1, 1)) | {"pads": ints(0, 1, 0, 0, 0, 2, 0, 0)},
    ),
    "resize": Net(
        f"""m ({IMAGE}) => (float[N,4,16,16] y) {{ a = Conv (x, w)  r = Relu (a)
            p = Resize <mode = "linear"> (r, , scales)
            y = Conv (p, v) }}""",
        ("p",), weights(w=(6, 3, 1, 1), v=(4, 6, 1, 1)) | {"scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    "flatten": Net(
        f"""m ({IMAGE}) => (float[N,5] y) {{ a = Conv (x, w)  r = Relu (a)  f = Flatten (r)
            y = Gemm <alpha = 0.5, beta = 2.0> (f, v, c) }}""",
        ("f",), weights(w=(6, 3, 1, 1), v=(384, 5), c=(1, 5)),
    ),
    "pooled": Net(
        f"""m ({IMAGE}) => (float[N,5] y) {{ a = Conv (x, w)  r = Relu (a)  p = GlobalAveragePool (r)
            f = Reshape (p, shape)  g = Gemm <transB = 1> (f, u, b)  h = Relu (g)  y = Gemm (h, v, c) }}""",
        ("f", "h"), weights(w=(6, 3, 1, 1), u=(7, 6), b=(7,), v=(7, 5), c=(5,)) | {"shape": ints(-1, 6)},
    ),
    "gate": Net(
        f"""m ({IMAGE}) => (float[N,4,8,8] y) {{ a = Conv (x, w)  r = Relu (a)  p = GlobalAveragePool (r)
            q = Conv (p, u)  g = Sigmoid (q)  s = Mul (g, r)  y = Conv (s, v) }}""",
        ("s",), weights(w=(6, 3, 1, 1), u=(6, 6, 1, 1), v=(4, 6, 1, 1)),
    ),
    "transposed": Net(
        f"""m ({IMAGE}) => (float[N,4,16,16] y) {{ a = Conv (x, w)  r = Relu (a)
            t = ConvTranspose <strides = [2,2], group = 2> (r, u, b)  s = Relu (t)  y = Conv (s, v) }}""",
        ("r", "s"), weights(w=(6, 3, 1, 1), u=(6, 2, 2, 2), b=(4,), v=(4, 4, 1, 1)),
    ),
    "pixels": Net(
        f"""m ({IMAGE}) => (float[N,4,8,8] y) {{ a = Conv (x, w)  d = DepthToSpace <blocksize = 2> (a)
            s = SpaceToDepth <blocksize = 2> (d)  y = Conv (s, v) }}""",
        ("s",), weights(w=(8, 3, 1, 1), v=(4, 8, 1, 1)),
    ),
    "signal": Net(
        """m (float[N,3,9] x) => (float[N,4,7] y) { a = Conv (x, w)  n = BatchNormalization (a, g, b, mu, var)
            r = Relu (n)  y = Conv (r, v) }""",
        ("r",), weights(w=(6, 3, 1), v=(4, 6, 3), g=(6,), b=(6,), mu=(6,)) | {"var": np.ones(6, np.float32)},
    ),
    "volume": Net(
        """m (float[N,3,4,4,4] x) => (float[N,4,4,4,4] y) { a = Conv (x, w)  r = Relu (a)
            i = InstanceNormalization (r, g, b)
            y = Conv (i, v) }""",
        ("i",), weights(w=(6, 3, 1, 1, 1), v=(4, 6, 1, 1, 1), g=(6,), b=(6,)),
    ),
    "normalized tokens": Net(
        f"""m ({TOKENS}) => (float[N,5,4] y) {{ l = LayerNormalization (x, g, b)  a = MatMul (l, w)  c = Add (bias, a)
            r = Relu (c)  y = MatMul (r, v) }}""",
        ("l", "r"), weights(g=(8,), b=(8,), w=(8, 6), bias=(6,), v=(6, 4)), 17,
    ),
    "normalization in parts": Net(
        f"""m ({TOKENS}) => (float[N,5,4] y) {{ mean = ReduceMean <axes = [-1]> (x)  d = Sub (x, mean)  s = Mul (d, d)
            var = ReduceMean <axes = [-1]> (s)  e = Add (var, one)  q = Sqrt (e)  n = Div (d, q)  m = Mul (n, g)
            l = Add (m, b)  y = MatMul (l, v) }}""",
        ("l",), weights(g=(8,), b=(8,), v=(8, 4)) | {"one": np.float32(1)},
    ),
    "attention": Net(
        f"""m ({TOKENS}) => (float[N,5,4] y) {{ a = MatMul (x, w)  h = Reshape (a, heads)
            t = Transpose <perm = [0,2,1,3]> (h)
            k = Transpose <perm = [0,2,3,1]> (h)  qk = MatMul (t, k)  s = Softmax (qk)
            b = MatMul (x, u)  bh = Reshape (b, heads)  bt = Transpose <perm = [0,2,1,3]> (bh)
            o = MatMul (s, bt)  ot = Transpose <perm = [0,2,1,3]> (o)  m = Reshape (ot, flat)  y = MatMul (m, v) }}""",
        ("m",), weights(w=(8, 6), u=(8, 6), v=(6, 4)) | {"heads": ints(0, 5, 2, 3), "flat": ints(0, 5, 6)},
    ),
    "first token": Net(
        f"""m ({TOKENS}) => (float[N,4] y) {{ a = MatMul (x, w)  r = Relu (a)  t = Gather <axis = 1> (r, first)
            y = MatMul (t, v) }}""",
        ("t",), weights(w=(8, 6), v=(6, 4)) | {"first": np.array(0, np.int64)},
    ),
    "gated": Net(
        f"""m ({TOKENS}) => (float[N,5,4] y) {{ a = MatMul (x, w)  s = Sigmoid (a)  g = Mul (a, s)  b = MatMul (x, u)
            h = Mul (g, b)  y = MatMul (h, v) }}""",
        ("h",), weights(w=(8, 6), u=(8, 6), v=(6, 4)),
    ),
}  # fmt: skip
OPSETS = (13, 15, 17, 18, 19, 21)


def made(net: Net, opset: int) -> onnx.ModelProto:
    proto = parse(net.text, net.weights, header=f'<ir_version: 8, opset_import: ["" : {max(13, net.low)}]>')
    if opset > max(13, net.low):
        proto = onnx.version_converter.convert_version(proto, opset)
    return prepare(proto)


def batches_for(proto: onnx.ModelProto, count: int = 3) -> list[dict[str, np.ndarray]]:
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    return [{"x": floats(4, *shape, seed=90 + k, scale=3)} for k in range(count)]


def assert_same(want: np.ndarray, got: np.ndarray) -> None:
    """Float rounding: sums of a few hundred products, each of them rounded."""
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=6, deadline=None)
@given(opset=st.sampled_from(OPSETS), seed=st.integers(0, 2**16))
def test_any_factors_leave_the_function_as_it_was(name: str, opset: int, seed: int) -> None:
    """f(x; W1, W2) = f(x; D^-1 W1, W2 D) for every positive D"""
    net = NETS[name]
    prepared = made(net, opset)
    found = follow(prepared, plan(prepared, EVERYTHING))
    roots = found.channels.roots()
    d = np.exp2(np.random.default_rng(seed).uniform(-4, 0, len(roots)))
    d[0] = 1
    result = rewrite(prepared, found, d[roots])
    batch = batches_for(prepared)[0]
    assert_same(run(prepared, batch)[0], run(result.fp32, batch)[0])
    read = ActivationReader(prepared, list(net.scaled)).read_one(batch)
    scaled = ActivationReader(result.fp32, list(net.scaled)).read_one(batch)
    for tensor in net.scaled:
        factors = d[roots][found.layouts[tensor]]
        assert np.unique(factors).size > 1
        assert_same(read[tensor] / factors.astype(np.float32), scaled[tensor])


@pytest.mark.parametrize("name", NETS)
def test_quantized_network_equals_quantized_fp32(name: str) -> None:
    """Q(min(x / d, 6 / d)) = Q(max(x / d, 0)) where 127 scale <= 6 / d"""
    prepared = made(NETS[name], 17)
    placement, batches = plan(prepared, EVERYTHING), batches_for(prepared)
    result = equalize(prepared, placement, batches)
    assert_same(run(prepared, batches[0])[0], run(result.fp32, batches[0])[0])
    values = ActivationReader(result.fp32, list(placement.tensors)).read_one(batches[0])
    amax = {t: np.float32(min(np.abs(v).max(), result.caps.get(t, np.inf))) for t, v in values.items()}
    pair = [
        insert(proto, placement, lambda t: scale_from_amax(amax[t])).model for proto in (result.fp32, result.network)
    ]
    np.testing.assert_array_equal(*(run(model, batches[0])[0] for model in pair))
