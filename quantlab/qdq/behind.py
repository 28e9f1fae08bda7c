"""Kinds of networks whose default placement was measured to be slower than another: it is said, with what to do."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_graphsurgeon as gs

from quantlab.onnx_model import GraphView
from quantlab.qdq.activations import activation_of, kind_of
from quantlab.qdq.graph import import_graph
from quantlab.qdq.measured import BEHIND, DEPTHWISE, HARD, MANY_DEPTHWISE, NECK, RECURRENT
from quantlab.qdq.rules import row_of


def behind_notices(prepared: onnx.ModelProto) -> tuple[str, ...]:
    """Say of a network what was measured of its kind.

    Args:
        prepared: The model, see `prepare`.

    Returns:
        A line per kind that it is of.
    """
    return tuple(
        f"{BEHIND[kind]} (TensorRT 8.6.0, H200); on a GPU, quantlab tune finds the fastest placement"
        for kind in _kinds(prepared)
    )


def _kinds(prepared: onnx.ModelProto) -> Iterator[str]:
    view = GraphView(prepared)
    if any(_joins_enlarged(view, node) for node in prepared.graph.node if node.op_type == "Concat"):
        yield NECK
    if any(row_of(node.op_type, node.domain).recurrent for node in prepared.graph.node):
        yield RECURRENT
    if _is_hard(import_graph(prepared)):
        yield HARD


def _is_hard(graph: gs.Graph) -> bool:
    """Whether there are many depthwise convolutions, and HardSwish behind each."""
    found = [activation_of(graph, node.outputs[0]) for node in graph.nodes if kind_of(node) == DEPTHWISE]
    return len(found) >= MANY_DEPTHWISE and all(one is not None and one.name == "HardSwish" for one in found)


def _joins_enlarged(view: GraphView, concat: onnx.NodeProto) -> bool:
    """Whether a Concat reads what a Resize enlarged, with nothing but moves of values between."""
    for tensor in concat.input:
        maker = view.producer.get(tensor)
        while maker is not None and maker.op_type != "Resize" and row_of(maker.op_type, maker.domain).share_scale:
            maker = view.producer.get(maker.input[0])
        if maker is not None and maker.op_type == "Resize" and not _shrinks(view, maker):
            return True
    return False


def _shrinks(view: GraphView, resize: onnx.NodeProto) -> bool:
    """Whether a Resize is known to make nothing larger."""
    scales = view.constant(resize.input[2]) if len(resize.input) > 2 else None
    return scales is not None and scales.size > 0 and not (scales > 1).any()
