"""What a Q/DQ model quantizes, as a module has to be told: every reader of a pair, with its scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantlab.qdq import Placement


@dataclass(frozen=True, slots=True)
class Pair:
    """A Q/DQ pair of the model.

    Attributes:
        tensor: What it quantizes: an activation or a weight.
        dequantized: What it gives.
        scale: float32, of shape () or (channels,).
    """

    tensor: str
    dequantized: str
    scale: NDArray[np.float32]


def pairs_of(qdq: onnx.ModelProto, placement: Placement) -> dict[tuple[str, int], Pair]:
    """The pair that every quantized input of a node reads.

    Args:
        qdq: What `quantlab.quantize` made.
        placement: Its decisions.

    Returns:
        (node, index of the input) -> pair.
    """
    nodes = {node.name: node for node in qdq.graph.node}
    makers = {name: node for node in qdq.graph.node for name in node.output}
    constants = {w.name: w for w in qdq.graph.initializer}
    sites = [(node, index, tensor) for node, index, tensor in placement.activations]
    sites += [(site.node, site.input, site.tensor) for site in placement.weights]
    found = {}
    for node, index, tensor in sites:
        dequantized = nodes[node].input[index]
        scale = numpy_helper.to_array(constants[makers[dequantized].input[1]])
        found[node, index] = Pair(tensor, dequantized, np.asarray(scale, np.float32))
    return found


def read_only_quantized(qdq: onnx.ModelProto, tensor: str, scale: NDArray[np.float32]) -> bool:
    """Find out whether a tensor is rounded with a scale wherever it is read.

    Args:
        qdq: The Q/DQ model.
        tensor: Of it.
        scale: Of the pair before.

    Returns:
        True if only QuantizeLinear nodes of this scale read it: rounding it before is then rounding it there.
    """
    outputs = {o.name for o in qdq.graph.output}
    constants: Mapping[str, onnx.TensorProto] = {w.name: w for w in qdq.graph.initializer}
    readers = [node for node in qdq.graph.node if tensor in node.input]
    return tensor not in outputs and all(
        node.op_type == "QuantizeLinear" and np.array_equal(numpy_helper.to_array(constants[node.input[1]]), scale)
        for node in readers
    )
