"""A peer's own Q/DQ model with other scales of its activations: what calibration alone is worth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from quantlab.numerics import scale_from_amax
from quantlab.qdq import strip


def float_model(peer: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """A Q/DQ model without its pairs (its weights are what their codes stand for), and the activations that had one."""
    stripped = strip(peer)
    if stripped.aliases:
        raise RuntimeError("a zero point does the work of a Relu or Clip, so that the scales are no symmetric ones")
    return stripped.model, list(stripped.amax)


def rescaled(peer: onnx.ModelProto, amax: Mapping[str, np.float32]) -> onnx.ModelProto:
    """Put other scales into a Q/DQ model; nothing else changes.

    Args:
        peer: The model.
        amax: Of every activation that has a pair, as `float_model` names them. Pairs that share a scale share the
            largest.

    Returns:
        A copy.
    """
    model = onnx.ModelProto()
    model.CopyFrom(peer)
    pairs, largest = [], dict[str, np.float32]()
    for node in (n for n in model.graph.node if n.op_type == "QuantizeLinear"):
        behind = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == node.output[0]]
        named = [name for name in (node.input[0], *(n.output[0] for n in behind)) if name in amax]
        if named:  # by its result where that is an output of the graph, which keeps its name
            pairs.append((node, *behind))
            largest[node.input[1]] = max(amax[named[0]], largest.get(node.input[1], np.float32(0)))
    for node in (n for pair in pairs for n in pair):
        node.input[1] = f"{node.input[1]}_anew"
    for name, value in largest.items():
        model.graph.initializer.append(numpy_helper.from_array(scale_from_amax(value), f"{name}_anew"))
    return model
