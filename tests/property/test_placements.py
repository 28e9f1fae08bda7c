"""The laws of the default placement, on drawn little networks of the blocks that it knows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import quantlab
from models import floats, run
from placement_parts import ints, named, normal_batch
from quantlab.errors import GraphError
from quantlab.qdq import EVERYTHING, lint, plan, prepare

CHANNELS, SIZE = 8, 8
ACTIVATIONS = {
    "none": "{y} = Identity ({x})",
    "relu": "{y} = Relu ({x})",
    "clip": "{y} = Clip ({x}, low, high)",
    "leaky": "{y} = LeakyRelu ({x})",
    "silu": "{y}s = Sigmoid ({x})  {y} = Mul ({x}, {y}s)",
    "hard": "{y}s = HardSigmoid ({x})  {y} = Mul ({y}s, {x})",
    "hard written out": "{y}a = Add ({x}, three)  {y}c = Clip ({y}a, low, high)  {y}m = Mul ({x}, {y}c)  "
    "{y} = Mul ({y}m, sixth)",
    "gelu": "{y}d = Div ({x}, root)  {y}e = Erf ({y}d)  {y}p = Add ({y}e, one)  {y}m = Mul ({x}, {y}p)  "
    "{y} = Mul ({y}m, half)",
    "norm": "{y} = BatchNormalization ({x}, gain, gain, gain, gain)",
}
LAYERS = {
    "point": ("Conv", (CHANNELS, CHANNELS, 1, 1)),
    "wide": ("Conv <pads = [1,1,1,1]>", (CHANNELS, CHANNELS, 3, 3)),
    "depthwise": (f"Conv <group = {CHANNELS}, pads = [1,1,1,1]>", (CHANNELS, 1, 3, 3)),
    "grouped": ("Conv <group = 2, pads = [1,1,1,1]>", (CHANNELS, CHANNELS // 2, 3, 3)),
    "transposed": ("ConvTranspose <pads = [1,1,1,1]>", (CHANNELS, CHANNELS, 3, 3)),
    "transposed depthwise": (f"ConvTranspose <group = {CHANNELS}, pads = [1,1,1,1]>", (CHANNELS, 1, 3, 3)),
}
NUMBERS = {"low": 0.0, "high": 6.0, "three": 3.0, "sixth": 1 / 6, "root": 2**0.5, "one": 1.0, "half": 0.5}
CONSTANTS = {name: np.asarray(value, np.float32) for name, value in NUMBERS.items()} | {
    "gain": np.linspace(0.5, 1.5, CHANNELS, dtype=np.float32),
    "parts": ints(CHANNELS // 2, CHANNELS // 2),
    "five": ints(0, 2, CHANNELS // 2, SIZE, SIZE),
    "four": ints(0, CHANNELS, SIZE, SIZE),
}
MEANS = {
    "pool": "{y} = GlobalAveragePool ({x})",
    "mean": "{y} = ReduceMean <axes = [2,3]> ({x})",
    "mean from behind": "{y} = ReduceMean <axes = [-1,-2]> ({x})",
}
SUMS = st.sampled_from(["residual", "branches", "concat"])


class Network:
    """Lines of ONNX text, their weights, and the outputs."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.weights: dict[str, np.ndarray] = dict(CONSTANTS)
        self.outputs: list[str] = []
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def add(self, line: str, **names: str) -> str:
        y = self.name()
        self.lines.append(line.format(y=y, **names))
        return y

    def layer(self, x: str, kind: str) -> str:
        op, shape = LAYERS[kind]
        return self.weighted(x, op, shape)

    def weighted(self, x: str, op: str, shape: tuple[int, ...]) -> str:
        fan_in = np.prod(shape[1:]) if op.startswith("Conv <") or op == "Conv" else shape[0]
        w = f"w{len(self.weights)}"
        self.weights[w] = floats(*shape, seed=len(self.weights), scale=float(fan_in) ** -0.5)
        return self.add(f"{{y}} = {op} ({{x}}, {w})", x=x)


def block(net: Network, x: str, draw: st.DrawFn) -> str:
    """One more block behind x."""
    kind = draw(st.sampled_from(["layer", "layer", "layer", "gate", "sum", "float", "pool", "shuffle", "reader"]))
    layer, activation = (draw(st.sampled_from(sorted(one))) for one in (LAYERS, ACTIVATIONS))
    if kind == "layer":
        return net.add(ACTIVATIONS[activation], x=net.layer(x, layer))
    if kind == "gate":
        squeezed = net.add(MEANS[draw(st.sampled_from(sorted(MEANS)))], x=x)
        inner = net.add(ACTIVATIONS["relu"], x=net.weighted(squeezed, "Conv", (4, CHANNELS, 1, 1)))
        gate = net.add("{y} = Sigmoid ({x})", x=net.weighted(inner, "Conv", (CHANNELS, 4, 1, 1)))
        return net.add(draw(st.sampled_from(["{y} = Mul ({x}, {g})", "{y} = Mul ({g}, {x})"])), x=x, g=gate)
    if kind == "sum":
        a, form = net.layer(x, layer), draw(SUMS)
        b = x if form == "residual" else net.layer(x, draw(st.sampled_from(sorted(LAYERS))))
        if form == "concat":
            both = net.add("{y} = Concat <axis = 1> ({a}, {b})", a=a, b=b)
            return net.weighted(both, "Conv", (CHANNELS, 2 * CHANNELS, 1, 1))
        return net.add(ACTIVATIONS[activation], x=net.add("{y} = Add ({a}, {b})", a=a, b=b))
    if kind == "shuffle":
        left, right = net.name(), net.name()
        net.lines.append(f"{left}, {right} = Split <axis = 1> ({x}, parts)")
        left = net.weighted(left, "Conv", (CHANNELS // 2, CHANNELS // 2, 1, 1))
        joined = net.add("{y} = Concat <axis = 1> ({a}, {b})", a=left, b=right)
        apart = net.add("{y}r = Reshape ({x}, five)  {y} = Transpose <perm = [0,2,1,3,4]> ({y}r)", x=joined)
        return net.add("{y} = Reshape ({x}, four)", x=apart)
    if kind == "reader":
        net.outputs.append(net.add("{y} = Softmax <axis = 1> ({x})", x=x))
        return x
    line = "{y} = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> ({x})" if kind == "pool" else \
        "{y} = Softmax <axis = 1> ({x})"  # fmt: skip
    return net.add(line, x=x)


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """One to five blocks; the end may be that of a classifier."""
    net = Network()
    batch, first = draw(st.sampled_from(["N", "2"])), draw(st.booleans())
    height = draw(st.sampled_from([SIZE, "H"]))  # where that is dynamic, layers are taken to be large
    channels = 3 if first else CHANNELS
    x = net.weighted("x", "Conv <pads = [1,1,1,1]>", (CHANNELS, 3, 3, 3)) if first else "x"
    for _ in range(draw(st.integers(1, 5))):
        x = block(net, x, draw)
    assume(x != "x")
    shape = f"[A,{CHANNELS},B,{SIZE}]"
    last = f"float{shape} {x}"
    if draw(st.booleans()):
        net.weights["head"] = floats(CHANNELS, 5)
        pooled = net.add("{y} = ReduceMean <axes = [2,3], keepdims = 0> ({x})", x=x)
        last = f"float[A,5] {net.add('{y} = Gemm ({x}, head)', x=pooled)}"
    outputs = ", ".join([last, *(f"float{shape} {name}" for name in net.outputs)])
    text = f"m (float[{batch},{channels},{height},{SIZE}] x) => ({outputs}) {{\n" + "\n".join(net.lines) + "\n}"
    return named(text, {k: v for k, v in net.weights.items() if k in text})


def calibrated(model: onnx.ModelProto) -> quantlab.CalibrationTable:
    try:
        return quantlab.calibrate(model, [normal_batch(model, 2, seed) for seed in (1, 2)], quantlab.MinMax())
    except GraphError as error:
        assume("nothing in the model can be INT8" not in str(error))
        raise


@given(networks())
@settings(max_examples=40)
def test_network_is_quantized_runs_and_lints_clean(model: onnx.ModelProto) -> None:
    """calibrate, then quantize: valid ONNX that runs, without a finding, the same bytes twice"""
    table = calibrated(model)
    result = quantlab.quantize(model, table)
    onnx.checker.check_model(result.model, full_check=True)
    assert all(np.isfinite(y).all() for y in run(result.model, normal_batch(model, 2)))
    assert lint(result.model) == []
    again = quantlab.quantize(model, table).model
    assert again.SerializeToString(deterministic=True) == result.model.SerializeToString(deterministic=True)


@given(networks())
@settings(max_examples=40)
def test_everything_can_be_quantized_with_the_same_table(model: onnx.ModelProto) -> None:
    """the table of the default has all that a user may ask for"""
    table = calibrated(model)
    result = quantlab.quantize(model, table, selection=EVERYTHING)
    run(result.model, normal_batch(model, 2))
    assert {s.tensor for s in plan(prepare(model)).weights} <= {s.tensor for s in result.placement.weights}


@given(networks())
@settings(max_examples=40)
def test_prepared_network_is_the_same_network(model: onnx.ModelProto) -> None:
    """prepare changes no output beyond rounding"""
    batch = normal_batch(model, 2)
    for want, got in zip(run(model, batch), run(prepare(model), batch), strict=True):
        # sums of at most 72 products in at most 13 layers: each rounds by 2^-24 of values not far from the largest
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * max(1, np.abs(want).max()))


@pytest.mark.parametrize("kind", LAYERS)
def test_every_layer_of_the_blocks_keeps_its_shape(kind: str) -> None:
    net = Network()
    y = net.layer("x", kind)
    text = f"m (float[N,{CHANNELS},{SIZE},{SIZE}] x) => (float[N,{CHANNELS},{SIZE},{SIZE}] {y}) {{ {net.lines[0]} }}"
    model = named(text, {k: v for k, v in net.weights.items() if k in text})
    assert run(model, {"x": floats(2, CHANNELS, SIZE, SIZE)})[0].shape == (2, CHANNELS, SIZE, SIZE)
