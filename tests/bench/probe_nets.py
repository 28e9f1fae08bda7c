"""The networks of `probe_fusions.py`: convolutions, activations and readers in every combination that matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BATCH, CHANNELS, SIZE = 32, 64, 28


class Net:
    """A graph in the making; every node is named `block/what`."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.random = np.random.default_rng(0)

    def input(self, name: str, *shape: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def node(self, op: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def scalar(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, np.float32))

    def pair(self, name: str, x: str) -> str:
        scale, zero = self.scalar(f"{name}_scale", 0.05), self.constant(f"{name}_zero", np.array(0, np.int8))
        return self.node(
            "DequantizeLinear", f"{name}_dq", self.node("QuantizeLinear", f"{name}_q", x, scale, zero), scale, zero
        )

    def weight(self, name: str, shape: tuple[int, ...], axis: int, int8: bool) -> str:
        if not int8:
            return self.constant(name, (self.random.standard_normal(shape) / 20).astype(np.float32))
        codes = self.random.integers(-127, 128, shape).astype(np.int8)
        scales = self.constant(f"{name}_scale", np.full(shape[axis], 0.001, np.float32))
        zeros = self.constant(f"{name}_zero", np.zeros(shape[axis], np.int8))
        return self.node("DequantizeLinear", f"{name}_dq", self.constant(name, codes), scales, zeros, axis=axis)

    def conv(self, name: str, x: str, shape: tuple[int, ...], int8: bool = True, **attributes: object) -> str:
        transposed = attributes.pop("transposed", False)
        w = self.weight(f"{name}_w", shape, 1 if transposed else 0, int8)
        channels = shape[1] if transposed else shape[0]
        b = self.constant(f"{name}_b", np.zeros(channels, np.float32))
        return self.node("ConvTranspose" if transposed else "Conv", name, x, w, b, kernel_shape=shape[2:], **attributes)

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "probe", self.inputs, self.outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


Activation = Callable[[Net, str, str], str]


def unary(op: str, **attributes: object) -> Activation:
    return lambda net, name, x: net.node(op, f"{name}/{op}", x, **attributes)


def clip(net: Net, name: str, x: str) -> str:
    low, high = net.scalar(f"{name}/low", 0.0), net.scalar(f"{name}/high", 6.0)
    return net.node("Clip", f"{name}/Clip", x, low, high)


def prelu(net: Net, name: str, x: str) -> str:
    slope = net.constant(f"{name}/slope", np.full((CHANNELS, 1, 1), 0.1, np.float32))
    return net.node("PRelu", f"{name}/PRelu", x, slope)


def swish(net: Net, name: str, x: str) -> str:
    return net.node("Mul", f"{name}/Mul", x, net.node("Sigmoid", f"{name}/Sigmoid", x))


def hard_sigmoid_mul(net: Net, name: str, x: str) -> str:
    return net.node("Mul", f"{name}/Mul", x, net.node("HardSigmoid", f"{name}/HardSigmoid", x, alpha=1 / 6))


def hard_swish_parts(net: Net, name: str, x: str) -> str:
    shifted = net.node("Add", f"{name}/Add", x, net.scalar(f"{name}/three", 3.0))
    clipped = clip(net, name, shifted)
    gate = net.node("Div", f"{name}/Div", clipped, net.scalar(f"{name}/six", 6.0))
    return net.node("Mul", f"{name}/Mul", x, gate)


def gelu_erf(net: Net, name: str, x: str) -> str:
    erf = net.node("Erf", f"{name}/Erf", net.node("Div", f"{name}/Div", x, net.scalar(f"{name}/root", 2**0.5)))
    gate = net.node("Add", f"{name}/Add", erf, net.scalar(f"{name}/one", 1.0))
    product = net.node("Mul", f"{name}/Mul", x, gate)
    return net.node("Mul", f"{name}/Mul_half", product, net.scalar(f"{name}/half", 0.5))


def mish(net: Net, name: str, x: str) -> str:
    gate = net.node("Tanh", f"{name}/Tanh", net.node("Softplus", f"{name}/Softplus", x))
    return net.node("Mul", f"{name}/Mul", x, gate)


ACTIVATIONS: dict[str, Activation] = {
    "none": lambda _, __, x: x,
    "Relu": unary("Relu"),
    "Clip": clip,
    "LeakyRelu": unary("LeakyRelu", alpha=0.1),
    "PRelu": prelu,
    "Elu": unary("Elu"),
    "Sigmoid": unary("Sigmoid"),
    "Tanh": unary("Tanh"),
    "Swish": swish,
    "HardSwish": unary("HardSwish"),
    "HardSigmoid_Mul": hard_sigmoid_mul,
    "HardSwish_parts": hard_swish_parts,
    "GELU": gelu_erf,
    "Mish": mish,
    "HardSigmoid": unary("HardSigmoid", alpha=1 / 6),
}

C = CHANNELS
KINDS: dict[str, tuple[tuple[int, ...], dict[str, object]]] = {
    "first": ((C, 3, 3, 3), {"strides": [2, 2], "pads": [1] * 4}),
    "depthwise3": ((C, 1, 3, 3), {"group": C, "pads": [1] * 4}),
    "depthwise5": ((C, 1, 5, 5), {"group": C, "pads": [2] * 4}),
    "depthwise7": ((C, 1, 7, 7), {"group": C, "pads": [3] * 4}),
    "pointwise": ((C, C, 1, 1), {}),
    "ordinary": ((C, C, 3, 3), {"pads": [1] * 4}),
    "dilated": ((C, C, 3, 3), {"pads": [2] * 4, "dilations": [2, 2]}),
    "grouped": ((C, 16, 3, 3), {"group": C // 16, "pads": [1] * 4}),
    "transposed": ((C, C, 2, 2), {"strides": [2, 2], "transposed": True}),
}


def fusion_net(kinds: list[str], int8: bool = True) -> onnx.ModelProto:
    """Blocks in a row: (pair) convolution (pair) activation (pair) 1x1 convolution."""
    net = Net()
    x = net.input("x", BATCH, C, SIZE, SIZE)
    for kind in kinds:
        shape, attributes = KINDS[kind]
        for activation, write in ACTIVATIONS.items():
            for variant in ("fused", "pair") if int8 else ("fused",):
                block = f"{kind}-{activation}-{variant}"
                start = x
                if kind == "first":
                    start = net.input(f"{block}/image", BATCH, 3, 2 * SIZE, 2 * SIZE)
                y = net.conv(
                    f"{block}/conv", net.pair(f"{block}/in", start) if int8 else start, shape, int8, **attributes
                )
                y = net.pair(f"{block}/between", y) if variant == "pair" else y
                y = write(net, block, y)
                y = net.pair(f"{block}/out", y) if int8 else y
                strides = {"strides": [2, 2]} if kind == "transposed" else {}
                y = net.conv(f"{block}/next", y, (C, C, 1, 1), int8, **strides)
                x = net.node("Add", f"{block}/skip", y, x) if kind == "first" else y
    net.outputs.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, [None] * 4))
    return net.model()


def reader_net() -> onnx.ModelProto:
    """What a second reader costs that is not INT8: it reads the tensor itself, or what the pair makes of it."""
    net = Net()
    x = net.input("x", BATCH, C, SIZE, SIZE)
    for kind in KINDS:
        shape, attributes = KINDS[kind]
        if kind in ("first", "transposed"):
            continue
        for side in ("behind", "before"):
            for variant in ("raw", "shared"):
                block = f"{kind}-{side}-{variant}"
                y = net.conv(f"{block}/one", net.pair(f"{block}/in", x), (C, C, 1, 1) if side == "before" else shape,
                             **({} if side == "before" else attributes))  # fmt: skip
                y = net.node("Relu", f"{block}/Relu", y)
                paired = net.pair(f"{block}/middle", y)
                z = net.conv(f"{block}/two", paired, (C, C, 1, 1) if side == "behind" else shape,
                             **({} if side == "behind" else attributes))  # fmt: skip
                z = net.node("Relu", f"{block}/Relu_two", z)
                z = net.conv(f"{block}/three", net.pair(f"{block}/inner", z), (C, C, 1, 1))
                other = net.node("Elu", f"{block}/Elu", y if variant == "raw" else paired)
                x = net.node("Add", f"{block}/Add", z, other)
    net.outputs.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, [None] * 4))
    return net.model()


def channel_net(int8: bool) -> onnx.ModelProto:
    """Per kind, size and number of channels five convolutions with ReLU in a row."""
    net = Net()
    for kind, channels, size in channel_cases():
        x = net.input(f"{kind}-{channels}-{size}/image", BATCH, channels, size, size)
        for k in range(5):
            name = f"{kind}-{channels}-{size}/{k}"
            edge = 1 if kind == "pointwise" else 3
            shape = (channels, 1 if kind == "depthwise" else channels, edge, edge)
            pads = {} if edge == 1 else {"pads": [1] * 4}
            group = {"group": channels} if kind == "depthwise" else {}
            x = net.conv(f"{name}/conv", net.pair(f"{name}/in", x) if int8 else x, shape, int8, **pads, **group)
            x = net.node("Relu", f"{name}/Relu", x)
        net.outputs.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, [None] * 4))
    return net.model()


def channel_cases() -> Iterator[tuple[str, int, int]]:
    for kind in ("pointwise", "ordinary", "depthwise"):
        for size in (112, 56, 28):
            for channels in (8, 16, 24, 32, 48, 64):
                yield kind, channels, size


def isolated_net(int8: bool) -> onnx.ModelProto:
    """Per size one convolution between two float activations: what INT8 gains there, less the conversion before it."""
    net = Net()
    for kind, channels, size in isolated_cases():
        block = f"{kind}-{channels}-{size}"
        x = net.input(f"{block}/image", BATCH, channels, size, size)
        x = net.node("Elu", f"{block}/Elu_before", x)
        edge = 1 if kind == "pointwise" else 3
        pads = {} if edge == 1 else {"pads": [1] * 4}
        y = net.pair(f"{block}/in", x) if int8 else x
        y = net.conv(f"{block}/conv", y, (channels, channels, edge, edge), int8, **pads)
        y = net.node("Softmax", f"{block}/Softmax", y, axis=1)
        net.outputs.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, [None] * 4))
    return net.model()


def isolated_cases() -> Iterator[tuple[str, int, int]]:
    for kind in ("pointwise", "ordinary"):
        for size in (56, 28, 14):
            for channels in (64, 128, 256, 512, 1024):
                yield kind, channels, size
