"""What the tests of the placement share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from models import OPSET, floats, initializers, parse, quantized
from quantlab.onnx_model import infer_shapes
from quantlab.qdq import Quantized, Selection, plan, prepare

CONV = {"w": floats(4, 4, 1, 1), "v": floats(4, 4, 1, 1, seed=1), "u": floats(4, 8, 1, 1, seed=2)}


T = TypeVar("T")
OPSET_18 = '<ir_version: 9, opset_import: ["" : 18]>'
OPSET_20 = '<ir_version: 9, opset_import: ["" : 20]>'


def ints(*values: int) -> np.ndarray:
    """int64."""
    return np.array(values, np.int64)


def named(text: str, weights: dict[str, np.ndarray] | None = None, header: str = OPSET) -> onnx.ModelProto:
    """A model whose nodes are named by their first output."""
    model = parse(text, weights, header)
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def graph_of(text: str, weights: dict[str, np.ndarray] | None = None, header: str = OPSET) -> gs.Graph:
    """The graph of a model as it is given, with its shapes."""
    return gs.import_onnx(infer_shapes(named(text, weights, header)))


def on_normal_values(model: onnx.ModelProto, size: int = 4, **kwargs: object) -> Quantized:
    """Calibrated on seeded normal values and quantized. A dynamic batch is of `size`."""
    return quantized(model, [normal_batch(model, size)], **kwargs)


def normal_batch(model: onnx.ModelProto, size: int = 4, seed: int = 9) -> dict[str, np.ndarray]:
    """Seeded normal values for every input of a model: `size` of them where that is dynamic, 8 in other dimensions."""
    batch = {}
    for k, given in enumerate(model.graph.input):
        dims = enumerate(given.type.tensor_type.shape.dim)
        batch[given.name] = floats(*(d.dim_value or (8 if axis else size) for axis, d in dims), seed=seed + k)
    return batch


def shown(model: onnx.ModelProto) -> list[str]:
    """Every node as `output = Op(inputs)`, Q/DQ pairs as `pair(tensor)` and quantized weights as `int8(weight)` in the
    place where they are read; every pair and weight is checked for what it must look like."""
    constants = initializers(model)
    names: dict[str, str] = {}
    lines = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            tensor = node.input[0]
            assert list(node.input) == [tensor, f"{tensor}_scale", f"{tensor}_zero_point"]
            names[node.output[0]] = f"int8({tensor})" if tensor in constants else f"pair({tensor})"
        elif node.op_type == "DequantizeLinear":
            weight = node.input[0].removesuffix("_quantized")
            names[node.output[0]] = names.get(node.input[0], f"int8({weight})")
        else:
            inputs = ", ".join(names.get(name, name) for name in node.input)
            lines.append(f"{', '.join(node.output)} = {node.op_type}({inputs})")
    return lines


def limited(function: Callable[..., T], times: int) -> Callable[..., T]:
    """A function that may be called so many times."""
    calls = count(1)

    def call(*args: object) -> T:
        assert next(calls) <= times, f"called more than {times} times"
        return function(*args)

    return call


def decisions(text: str, weights: dict[str, np.ndarray], selection: Selection | None = None) -> tuple:
    """(what reads INT8, groups of one scale, what stays float and why), nodes named by their first output."""
    model = named(text, weights)
    placement = plan(prepare(model), selection)
    reads = [f"{node}<-{tensor}" for node, _, tensor in placement.activations]
    return reads, placement.groups, {s.node: s.reason for s in placement.skipped}
