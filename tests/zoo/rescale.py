"""A peer's own Q/DQ model with other scales of its activations: what calibration alone is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from quantlab.numerics import INT8_MAX, scale_from_amax
from quantlab.qdq import fold, strip

Pair = tuple[onnx.NodeProto, list[onnx.NodeProto]]
"""A QuantizeLinear, and every DequantizeLinear behind it."""


def float_model(peer: onnx.ModelProto, model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """What is calibrated for a peer's pairs.

    Args:
        peer: Its Q/DQ model.
        model: The FP32 model that it was made from.

    Returns:
        The FP32 model and the activations that have a pair. Where the peer has made other tensors of those: its own
        model without the pairs, whose weights are what their codes stand for.
    """
    known = _tensors(model)
    tensors = [next((name for name in _names(pair) if name in known), "") for pair in _pairs(peer)]
    if all(tensors):
        computed = _tensors(fold(model))  # the others are constants, whose scale needs no calibration
        return model, [name for name in dict.fromkeys(tensors) if name in computed]
    stripped = strip(peer)
    if stripped.aliases:
        raise RuntimeError("a zero point does the work of a Relu or Clip, so that the scales are no symmetric ones")
    return stripped.model, list(stripped.amax)


def rescaled(peer: onnx.ModelProto, amax: Mapping[str, np.float32]) -> onnx.ModelProto:
    """Put other scales into a Q/DQ model; nothing else changes.

    Args:
        peer: The model.
        amax: Of the activations that `float_model` names. Pairs of the same scale, as a pooling leaves it, share the
            largest.

    Returns:
        A copy.
    """
    model = onnx.ModelProto()
    model.CopyFrom(peer)
    scales = _constants(model)
    pairs = [pair for pair in _pairs(model) if any(name in amax for name in _names(pair))]
    shared: dict[bytes, list[Pair]] = {}
    for pair in pairs:
        shared.setdefault(numpy_helper.to_array(scales[pair[0].input[1]]).tobytes(), []).append(pair)
    for group in shared.values():
        largest = max(amax[next(name for name in _names(pair) if name in amax)] for pair in group)
        anew = f"{group[0][0].input[1]}_anew"
        model.graph.initializer.append(numpy_helper.from_array(scale_from_amax(largest), anew))
        for node in (node for q, behind in group for node in (q, *behind)):
            node.input[1] = anew
    return model


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    given = {t.name: t for t in model.graph.initializer}
    return given | {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"}


def _tensors(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node for name in node.output} | {i.name for i in model.graph.input}


def _names(pair: Pair) -> Iterator[str]:
    """What the FP32 model may call the tensor: an output of the graph keeps its name behind the pair."""
    yield pair[0].input[0]
    yield from (node.output[0] for node in pair[1])


def _pairs(model: onnx.ModelProto) -> Iterator[Pair]:
    """The pairs of activations; without those whose range is beyond float32 (masks), for which there is no other."""
    constants = _constants(model)
    fixed = set(constants)  # and what is made of constants alone
    for node in model.graph.node:
        if all(name in fixed for name in node.input if name):
            fixed.update(node.output)
    for node in (n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in fixed):
        scale = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
        if (scale * INT8_MAX < np.finfo(np.float32).max).all():
            readers = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == node.output[0]]
            yield node, readers
