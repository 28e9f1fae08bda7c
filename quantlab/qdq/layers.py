"""What runs in INT8, node by node, read off the Q/DQ graph itself: whoever made it, it is the graph that says so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from quantlab.onnx_model import QDQ_OPS, GraphView, node_label
from quantlab.qdq.placement import Placement
from quantlab.qdq.planning import plan
from quantlab.qdq.prepare import prepare
from quantlab.qdq.rules import QdqRule, row_of

YES, PARTLY, FUSED, NO = "yes", "partly", "fused", "no"
"""Whether a node runs in INT8. Partly: it reads some in INT8 and computes in float, or its weights are float. Fused: it
is a part of the kernel before it, and has no precision of its own."""
_BY_GRAPH = "Q/DQ before it"
_NO_RULE = "no rule quantizes it"


@dataclass(frozen=True, slots=True)
class Read:
    """An activation that a node reads in INT8.

    Attributes:
        tensor: The float tensor before its Q/DQ.
        amax: The magnitude that is kept, None where the scale is computed.
        scale: Of its Q/DQ, the largest where there are several; None where it is computed.
    """

    tensor: str
    amax: float | None
    scale: float | None


@dataclass(frozen=True, slots=True)
class Layer:
    """A node of a Q/DQ model.

    Attributes:
        node: Its name, or that of its output.
        op: Its operator.
        int8: `YES`, `PARTLY`, `FUSED` or `NO`.
        why: The rule by which it reads INT8, or why it does not.
        reads: What it reads in INT8.
        result: Its first output; of a node that others are fused into, that of the last of them.
    """

    node: str
    op: str
    int8: str
    why: str
    reads: tuple[Read, ...]
    result: str


def layers_of(qdq: onnx.ModelProto, placement: Placement) -> tuple[Layer, ...]:
    """List the nodes of a Q/DQ model that was made here.

    Args:
        qdq: The model.
        placement: By which it was made.

    Returns:
        Every node but Q/DQ and constants, in network order.
    """
    reasons = {skipped.node: str(skipped.reason) for skipped in placement.skipped}
    rules: dict[str, list[str]] = {}
    for (node, _), why in placement.why.items():
        rules.setdefault(node, []).append(why)
    return _listed(qdq, {node: ", ".join(dict.fromkeys(found)) for node, found in rules.items()}, reasons)


def layers_of_given(qdq: onnx.ModelProto, fp32: onnx.ModelProto) -> tuple[Layer, ...]:
    """List the nodes of a Q/DQ model of another tool, with what quantlab would do to those that stay float.

    Args:
        qdq: The model.
        fp32: The FP32 model that it was made from.

    Returns:
        As `layers_of`.

    Raises:
        GraphError: The FP32 model cannot be read.
    """
    prepared = prepare(fp32)
    placement = plan(prepared)
    ours = {skipped.node: str(skipped.reason) for skipped in placement.skipped}
    planned = {node for node, _, _ in placement.activations}
    by_output = {node.output[0]: node.name for node in prepared.graph.node if node.output}
    reasons = {}
    for node in qdq.graph.node:
        name = by_output.get(node.output[0], node.name) if node.output else node.name
        if name in planned:
            reasons[node_label(node)] = "no Q/DQ before it; quantlab would quantize it"
        elif name in ours:
            reasons[node_label(node)] = ours[name]
    return _listed(qdq, {}, reasons)


def _listed(qdq: onnx.ModelProto, rules: Mapping[str, str], reasons: Mapping[str, str]) -> tuple[Layer, ...]:
    view = GraphView(qdq)
    nodes = (n for n in qdq.graph.node if n.op_type not in QDQ_OPS and n.op_type != "Constant" and n.output)
    return tuple(_layer(view, node, rules, reasons) for node in nodes)


def _layer(view: GraphView, node: onnx.NodeProto, rules: Mapping[str, str], reasons: Mapping[str, str]) -> Layer:
    row, label = row_of(node.op_type, node.domain), node_label(node)
    pairs = {k: dq for k, name in enumerate(node.input) if (dq := view.maker(name, "DequantizeLinear")) is not None}
    weights = {k for k, dq in pairs.items() if view.is_weight(dq)}
    reads = tuple(_read(view, view.source(node.input[k]), dq) for k, dq in pairs.items() if k not in weights)
    why = rules.get(label, _BY_GRAPH) if reads else reasons.get(label, row.why_float or _NO_RULE)
    if reads:
        int8 = _of_reader(node, row, pairs.keys())
    elif row.weight_input in weights:
        int8 = PARTLY
    else:
        int8 = FUSED if row.fused and why == row.why_float else NO
    return Layer(label, node.op_type, int8, why, reads, _result(view, node))


def _of_reader(node: onnx.NodeProto, row: QdqRule, quantized: Collection[int]) -> str:
    """Of a node that reads activations in INT8."""
    if not row.activation_inputs:
        return YES if row.residual else PARTLY
    wanted = range(len(node.input)) if row.all_inputs else row.activation_inputs
    has_weight = row.weight_input is not None and len(node.input) > row.weight_input
    return YES if {*wanted, *([row.weight_input] if has_weight else [])} <= set(quantized) else PARTLY


def _result(view: GraphView, node: onnx.NodeProto) -> str:
    tensor = str(node.output[0])
    while len(readers := view.readers.get(tensor, [])) == 1 and tensor not in view.outputs:
        reader = readers[0][0]
        if not row_of(reader.op_type, reader.domain).fused:
            break
        tensor = str(reader.output[0])
    return tensor


def _read(view: GraphView, tensor: str, dq: onnx.NodeProto) -> Read:
    """What a pair keeps: the larger end of its range, of a symmetric one without its lowest code."""
    given = view.parameters(dq)
    if given is None or given.code_type.kind not in "iu" or not given.scale.size:
        return Read(tensor, None, None)
    info = np.iinfo(given.code_type)
    low = -info.max if given.is_symmetric and info.min < 0 else info.min
    zero, scale = given.zero_point.astype(np.float64), given.scale.astype(np.float64)
    amax = np.max(np.maximum(np.abs((low - zero) * scale), np.abs((info.max - zero) * scale)))
    return Read(tensor, float(amax), float(scale.max()))
