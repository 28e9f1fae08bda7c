"""How many multiply-adds a model takes, and how many of them in INT8, counted on the shapes that a run shows."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import onnx
from batches import session
from numpy.typing import NDArray
from onnx import helper

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "FusedMatMul", "FusedConv")
INTEGER = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul")
RECURRENT = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")


def multiply_adds(model: onnx.ModelProto, batch: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """Count.

    Args:
        model: Float or quantized. What is inside of If, Loop and functions is not seen.
        batch: One for it.

    Returns:
        (all, in INT8): a product is in INT8 if both of its operands come out of DequantizeLinear.
    """
    counted = [n for n in model.graph.node if n.op_type in (*PRODUCTS, *INTEGER, *RECURRENT)]
    shapes = _shapes(model, batch, {t for n in counted for t in (*n.input[:3], *n.output[:1]) if t})
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    total = quantized = 0
    for node in counted:
        size = _size(node, shapes)
        total += size
        both = all(makers.get(name) == "DequantizeLinear" for name in node.input[:2])
        quantized += size if both or node.op_type in (*INTEGER, "DynamicQuantizeLSTM") else 0
    return total, quantized


def _size(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    a, b = (shapes[name] for name in node.input[:2])
    if node.op_type in RECURRENT:
        steps, samples = a[:2]
        return steps * samples * (prod(b) + prod(shapes[node.input[2]]))
    y = shapes[node.output[0]]
    if node.op_type == "Einsum":
        equation = next(helper.get_attribute_value(x) for x in node.attribute if x.name == "equation").decode()
        letters = equation.split("->")[0].replace(" ", "").split(",")
        sizes = {c: n for term, shape in zip(letters, (a, b), strict=False) for c, n in zip(term, shape, strict=False)}
        return prod(sizes.values())
    if node.op_type == "ConvTranspose":
        return prod(a) * prod(b[1:])
    if "Conv" in node.op_type:
        weight = shapes[node.input[3]] if node.op_type == "QLinearConv" else b
        return prod(y) * prod(weight[1:])
    transposed = any(x.name == "transA" and x.i for x in node.attribute)
    return prod(y) * a[-2 if transposed else -1]


def _shapes(model: onnx.ModelProto, batch: Mapping[str, NDArray[Any]], wanted: set[str]) -> dict[str, tuple[int, ...]]:
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    shapes |= {name: np.shape(x) for name, x in batch.items()}
    missing = sorted(wanted - shapes.keys())
    if missing:
        probed = onnx.ModelProto()
        probed.CopyFrom(model)
        del probed.graph.output[:]
        probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in missing)
        run = session(probed)
        needed = {i.name for i in run.get_inputs()}
        values = run.run(missing, {name: x for name, x in batch.items() if name in needed})
        shapes |= {name: np.shape(x) for name, x in zip(missing, values, strict=True)}
    return shapes
