"""The activation behind a layer, whatever its exporter made of it, and which of them TensorRT fuses into what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import onnx_graphsurgeon as gs

from quantlab.qdq.graph import is_output
from quantlab.qdq.measured import DEPTHWISE, FIRST, FIRST_CHANNELS, FORMS, GROUPED, ONLY_FUSED, ORDINARY
from quantlab.qdq.rules import row_of

LONGEST = 12
"""Nodes of an activation: GELU by tanh has eight to ten."""


@dataclass(frozen=True, slots=True)
class Activation:
    """What is computed from one tensor alone, element by element.

    Attributes:
        name: By `FORMS`.
        nodes: In network order.
        result: What leaves it.
    """

    name: str
    nodes: tuple[gs.Node, ...]
    result: gs.Tensor


def activation_of(graph: gs.Graph, tensor: gs.Tensor) -> Activation | None:
    """Find the smallest group of element-wise nodes that all values of a tensor go through.

    Args:
        graph: The graph.
        tensor: What a layer makes.

    Returns:
        The activation, None if another kind of node reads the tensor, or it leaves the network.
    """
    made, nodes = [tensor], list[gs.Node]()
    while True:
        open_tensors = [t for t in made if _is_needed_elsewhere(graph, t, nodes)]
        if nodes and all(t is made[-1] for t in open_tensors):
            return Activation(_name(nodes), tuple(nodes), made[-1])
        readers = (r for t in open_tensors for r in t.outputs if not _holds(nodes, r))
        node = next((r for r in readers if _is_element_wise(r, made)), None)
        if node is None or len(nodes) == LONGEST:
            return None
        nodes.append(node)
        made.append(node.outputs[0])


def _holds(things: Sequence[object], thing: object) -> bool:
    return any(thing is one for one in things)


def _is_needed_elsewhere(graph: gs.Graph, tensor: gs.Tensor, nodes: Sequence[gs.Node]) -> bool:
    return is_output(graph, tensor) or not all(_holds(nodes, reader) for reader in tensor.outputs)


def _is_element_wise(node: gs.Node, made: Sequence[gs.Tensor]) -> bool:
    """Whether a node computes element by element from what was made so far and constants alone."""
    given = [t for t in node.inputs if not t.is_empty()]
    return (
        row_of(node.op, node.domain).pointwise
        and len(node.outputs) == 1
        and all(isinstance(t, gs.Constant) or _holds(made, t) for t in given)
    )


def _name(nodes: list[gs.Node]) -> str:
    form = " ".join(sorted(node.op for node in nodes))
    return FORMS.get(form, form)


def kind_of(conv: gs.Node) -> str:
    """What kind of convolution a node is, by its constant weight; '' for a node of another kind."""
    if not row_of(conv.op, conv.domain).epilogue or not conv.inputs[1].shape:
        return ""
    group, shape = int(conv.attrs.get("group", 1)), conv.inputs[1].shape
    per_group = shape[1] if conv.op == "Conv" else shape[0] // group if isinstance(shape[0], int) else shape[0]
    if group > 1:
        return DEPTHWISE if per_group == 1 else GROUPED
    spatial = prod(size for size in conv.inputs[1].shape[2:] if isinstance(size, int))
    return FIRST if isinstance(per_group, int) and per_group <= FIRST_CHANNELS and spatial > 1 else ORDINARY


def is_fused(conv: gs.Node, activation: Activation) -> bool:
    """Find whether an activation costs nothing behind a convolution.

    Args:
        conv: The convolution.
        activation: What stands behind it.

    Returns:
        Whether TensorRT's INT8 kernels take it, or need not.
    """
    fused = ONLY_FUSED.get(kind_of(conv))
    scales_only = len(activation.nodes) == 1 and row_of(activation.nodes[0].op, activation.nodes[0].domain).affine
    return fused is None or scales_only or activation.name in fused
