"""Kinds of nodes that read INT8, as people speak of them: what is asked whether a kind of layer can be quantized."""

from __future__ import annotations

from math import prod

import onnx
import onnx_graphsurgeon as gs

from quantlab.qdq.activations import kind_of
from quantlab.qdq.graph import import_graph
from quantlab.qdq.measured import DEPTHWISE, GROUPED
from quantlab.qdq.placement import Placement
from quantlab.qdq.rules import row_of

FIRST_LAYER, LAST_LAYER = "first layer", "last layer"
"""Two classes beside the others: their members belong to one of those too."""


def node_classes(prepared: onnx.ModelProto, placement: Placement) -> dict[str, str]:
    """Name the class of every node that reads INT8.

    Args:
        prepared: The model, see `prepare`.
        placement: What reads INT8 in it.

    Returns:
        Node -> class, in network order: depthwise, grouped, 1x1 and other convolutions, products of two computed
        operands, residual sums, poolings; the operator for everything else.
    """
    constant = {site.node for site in placement.weights}
    reads = constant | {node for node, _, _ in placement.activations}
    graph = import_graph(prepared)
    return {node.name: _class_of(node, node.name in constant) for node in graph.nodes if node.name in reads}


def _class_of(node: gs.Node, has_weight: bool) -> str:
    row, kind = row_of(node.op, node.domain), kind_of(node)
    if row.epilogue:
        if kind in (DEPTHWISE, GROUPED):
            return f"{kind} convolution"
        pixels = prod(size for size in node.inputs[1].shape[2:] if isinstance(size, int))
        return "1x1 convolution" if pixels == 1 else "other convolution"
    if row.dynamic_weight and not has_weight:
        return f"{node.op} of two computed operands"
    if row.residual:
        return "residual sum"
    return "pooling" if node.op.endswith("Pool") else str(node.op)
