"""The rules applied to a network: which layers are quantized, and why the others are not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from quantlab.onnx_model import STANDARD_DOMAINS
from quantlab.ort import beyond, is_known
from quantlab.qdq.activations import LONGEST, activation_of, is_fused, kind_of
from quantlab.qdq.draft import Draft
from quantlab.qdq.graph import feeds_one_reader, import_graph, makers, other_type, walk
from quantlab.qdq.lonely import lonely_layers
from quantlab.qdq.measured import INT8_OUTPUT_ONLY
from quantlab.qdq.names import calibrated_name
from quantlab.qdq.passing import extend_int8
from quantlab.qdq.payoff import does_not_pay, work_per_value
from quantlab.qdq.placement import Placement, WeightSite
from quantlab.qdq.rules import RULES, QdqRule, row_of
from quantlab.qdq.selection import Selection
from quantlab.qdq.sharing import share_int8
from quantlab.qdq.stages import stages_in_float


def plan(
    prepared: onnx.ModelProto,
    selection: Selection | None = None,
    scaled: Collection[str] | None = None,
    keep_float: Mapping[str, str] | None = None,
    rules: Mapping[str, QdqRule] = RULES,
) -> Placement:
    """Apply the rules to a prepared model.

    Args:
        prepared: The model, see `prepare`.
        selection: Which nodes to quantize or to leave in float.
        scaled: The tensors that have a scale, where not all can have one.
        keep_float: Nodes that stay float -> why, if the model has them.
        rules: Operator -> rule.

    Returns:
        Where Q/DQ goes.

    Raises:
        GraphError: A pattern of the selection matches no node.
    """
    graph = import_graph(prepared)
    asked_for = (selection or Selection()).asked_for(_names(graph))
    return _plan(Draft(graph, rules, scaled), selection or Selection(), keep_float or {}, asked_for)


def plan_again(
    prepared: onnx.ModelProto,
    selection: Selection,
    scaled: Collection[str],
    keep_float: Mapping[str, str],
    were_int8: Collection[str],
) -> Placement:
    """Apply the rules to a model that was quantized before: no layer leaves INT8 for its size alone.

    Args:
        prepared: The model without its Q/DQ, see `prepare`.
        selection: Which nodes to quantize or to leave in float.
        scaled: The tensors that have a scale.
        keep_float: Nodes that stay float -> why.
        were_int8: The nodes that read Q/DQ before.

    Returns:
        Where Q/DQ goes.

    Raises:
        GraphError: A pattern of the selection matches no node.
    """
    graph = import_graph(prepared)
    return _plan(Draft(graph, RULES, scaled), selection, keep_float, {*selection.asked_for(_names(graph)), *were_int8})


def other_branches(prepared: onnx.ModelProto) -> Iterator[str]:
    """The branches of residual sums of two convolutions: which one is read in INT8 depends on what is quantized."""
    graph = import_graph(prepared)
    for node in graph.nodes:
        branches = [t.inputs[0] for t in node.inputs if t.inputs] if row_of(node.op, node.domain).residual else []
        if len(branches) == 2 and all(row_of(maker.op, maker.domain).epilogue for maker in branches):
            yield from (tensor.name for tensor in node.inputs)


def behind_plugins(prepared: onnx.ModelProto, scaled: Collection[str] = ()) -> dict[str, str]:
    """Find the nodes that cannot be calibrated, because they depend on operators that ONNX Runtime does not have.

    Args:
        prepared: The model, see `prepare`.
        scaled: The tensors whose scale is known all the same, as from a TensorRT cache.

    Returns:
        Node -> why it stays float; without the operators themselves.
    """
    off = beyond(prepared)
    reasons = {}
    for node in prepared.graph.node if off.nodes else ():
        lost = [n for n in node.input if n in off.tensors and calibrated_name(n, scaled) not in scaled]
        if lost and is_known(node.op_type, node.domain):
            reasons[node.name] = f"it depends on {off.tensors[lost[0]]}, which ONNX Runtime cannot run"
    return reasons


def _names(graph: gs.Graph) -> list[tuple[str, str]]:
    return [(node.name, node.op) for node in graph.nodes]


def _plan(
    draft: Draft, selection: Selection, keep_float: Mapping[str, str], whatever_size: Collection[str]
) -> Placement:
    """Place until no layer is left that had better be float; `whatever_size` are not asked whether INT8 pays."""
    names = _names(draft.graph)
    asked_for = selection.asked_for(names)
    stages = {name: why for name, why in stages_in_float(draft.graph).items() if name not in whatever_size}
    given = stages | dict(keep_float) | selection.left_out(names)
    while True:
        draft = Draft(draft.graph, draft.rules, draft.scaled)
        groups, reasons = extend_int8(draft, given | _read_layers(draft, given, whatever_size))
        lonely = lonely_layers(draft, asked_for, whatever_size)
        if not lonely:
            break
        given |= lonely  # what read their results, or made their inputs, is looked at again
    share_int8(draft, Selection(exclude=selection.exclude).left_out(names))
    return draft.placement(groups, reasons)


def _read_layers(draft: Draft, given: Collection[str], asked_for: Collection[str]) -> dict[str, str]:
    """Read the operands of layers and residual Adds as INT8; node -> the reason where not.

    Args:
        draft: What they read goes there.
        given: The nodes whose reason is known.
        asked_for: The nodes that are quantized whether or not it pays.
    """
    reasons = {}
    for node in draft.graph.nodes:
        if node.name in given:
            continue
        rule = draft.rule(node)
        if rule.weight_input is not None:
            reason = _read_layer(draft, node, rule, node.name in asked_for)
        elif row_of(node.op, node.domain).residual:
            reason = _read_residual(draft, node)
        elif not rule.activation_inputs:
            reason = _stays_float(node)
        else:
            continue  # a node that INT8 may pass through: when it is known what is read in INT8
        if reason:
            reasons[node.name] = reason
    return reasons


def _read_layer(draft: Draft, node: gs.Node, rule: QdqRule, is_asked_for: bool) -> str | None:
    """Read the operands of a weighted node as INT8, or give the reason why not."""
    indices = (*rule.activation_inputs, rule.weight_input)
    operands = {index: node.inputs[index] for index in indices if index is not None}
    reason = _why_not(node, rule, operands) or draft.missing_scale(operands.values())
    if reason is None and not is_asked_for:
        reason = does_not_pay(node)
    for index, tensor in operands.items() if reason is None else ():
        if not isinstance(tensor, gs.Constant):
            draft.read(node, index, "operand")
        else:  # a constant first operand of MatMul has no channel axis that TensorRT knows
            axis = rule.axis(node.attrs, tensor.values.ndim) if index == rule.weight_input else None
            draft.weights.append(WeightSite(node.name, index, tensor.name, axis))
    return reason


def _why_not(node: gs.Node, rule: QdqRule, operands: Mapping[int, gs.Tensor]) -> str | None:
    """The reason a weighted node cannot be quantized, or None."""
    for index, tensor in operands.items():
        if isinstance(tensor, gs.Constant) and (tensor.values.dtype != np.float32 or tensor.values.ndim < 2):
            return f"constant input {index} is {tensor.values.dtype} with {tensor.values.ndim} dimension(s)"
        if (other := other_type(tensor)) is not None:
            return f"input {index} ('{tensor.name}') is {other}, not float32"
    if not rule.dynamic_weight and not isinstance(node.inputs[rule.weight_input], gs.Constant):
        return "its weight is computed at run time, TensorRT needs a constant for INT8"
    if all(isinstance(node.inputs[i], gs.Constant) for i in rule.activation_inputs) and not rule.dynamic_weight:
        return "its input is constant"
    return None


def _read_residual(draft: Draft, node: gs.Node) -> str | None:
    """Read the skip branch of a residual Add as INT8, or give the reason why there is none.

    TensorRT fuses the addition into the convolution whose branch stays float up to the Add. Of two, that is the one
    with less work, see `_cheapest_first`; of two alike, the last. A depthwise or grouped one does not take it, nor does
    one with an activation before the Add: such a sum is a kernel of its own.
    """
    branches = node.inputs
    if any(isinstance(t, gs.Constant) for t in branches):
        return "it adds a constant, which TensorRT fuses"
    if any(other_type(t) is not None for t in branches):
        return "its inputs are not float32"
    if branches[0] is branches[1]:
        return "both inputs are the same tensor"
    if _broadcasts(branches[0], branches[1]):
        return "one input is broadcast over the other"
    fusing = [i for i, t in enumerate(branches) if feeds_one_reader(draft.graph, t) and _takes_sums(draft, t)]
    if not fusing and (any(_comes_from_narrow(draft, t) for t in branches) or _are_written_in_int8(draft, branches)):
        draft.sums.add(node.name)
        return None
    if not fusing:
        return "neither input is an INT8 convolution whose kernel could take the addition"
    skips = [1 - i for i in _cheapest_first(draft, branches, fusing)]
    skip = next((i for i in skips if draft.missing_scale([branches[i]]) is None), skips[0])
    reason = draft.missing_scale([branches[skip]])
    if reason is None:
        draft.read(node, skip, "skip of a residual sum")
    return reason


def _cheapest_first(draft: Draft, branches: Sequence[gs.Tensor], fusing: Sequence[int]) -> list[int]:
    """Indices of branches, those with less work first; where it is alike or not known, the last in the network first.

    A kernel that adds is an older one than that without the addition, so the smaller convolution had better take it.
    Both of a stage of ResNet-50, batch 32 (TensorRT 8.6.0, H200): 36.5 us with the addition in the 1x1 convolution of
    128 channels, 44.4 us in that of 256 on the skip; 31.9 and 33.1, 28.8 and 30.6 in the next two stages.
    """
    makers_of = {i: branches[i].inputs[0] for i in fusing}
    work = {i: work_per_value(maker) for i, maker in makers_of.items()}
    is_known = None not in work.values()
    return sorted(fusing, key=lambda i: ((work[i] or 0) if is_known else 0, -draft.order[makers_of[i].name]))


def _takes_sums(draft: Draft, tensor: gs.Tensor) -> bool:
    """Whether a tensor is made by a quantized convolution whose INT8 kernel can add another tensor."""
    maker = tensor.inputs[0] if tensor.inputs else None
    is_layer = maker is not None and row_of(maker.op, maker.domain).epilogue and (maker.name, 0) in draft.reads
    return is_layer and kind_of(maker) not in INT8_OUTPUT_ONLY


def _are_written_in_int8(draft: Draft, branches: Sequence[gs.Tensor]) -> bool:
    """Whether INT8 kernels write both branches of a sum, at least one of them behind an activation."""
    return any(_is_activated(draft, t) for t in branches) and all(_is_written_in_int8(draft, t) for t in branches)


def _is_activated(draft: Draft, tensor: gs.Tensor) -> bool:
    """Whether a tensor leaves a quantized convolution whose INT8 kernel takes the activation on the way."""
    before = walk(tensor, makers, lambda n: n.inputs if row_of(n.op, n.domain).pointwise else ())
    for maker in islice(before, LONGEST + 1):
        if row_of(maker.op, maker.domain).epilogue and (maker.name, 0) in draft.reads:
            activation = activation_of(draft.graph, maker.outputs[0])
            if activation is not None and activation.result is tensor and is_fused(maker, activation):
                return True
    return False


def _is_written_in_int8(draft: Draft, tensor: gs.Tensor) -> bool:
    """Whether a tensor is made by a kernel that can write INT8, or moved from one that is."""
    while not _is_activated(draft, tensor):
        maker = tensor.inputs[0] if tensor.inputs else None
        if maker is None or maker.name in draft.sums or not draft.rule(maker).share_scale:
            return maker is not None and maker.name in draft.sums
        tensor = maker.inputs[0]
    return True


def _comes_from_narrow(draft: Draft, tensor: gs.Tensor) -> bool:
    """Whether a tensor is made by a quantized convolution that can write INT8 only, or moved or activated there."""

    def on(node: gs.Node) -> Sequence[gs.Tensor]:
        row = row_of(node.op, node.domain)
        return node.inputs if (row.pointwise and not row.residual) or row.share_scale else ()

    return any(
        maker.name in draft.sums or (kind_of(maker) in INT8_OUTPUT_ONLY and (maker.name, 0) in draft.reads)
        for maker in walk(tensor, makers, on)
    )


def _broadcasts(a: gs.Tensor, b: gs.Tensor) -> bool:
    """True where known dimensions differ, or one is 1 and the other dynamic; two dynamic ones are taken as equal."""
    if a.shape is None or b.shape is None:
        return False
    pairs = list(zip(a.shape, b.shape, strict=False))
    return len(a.shape) != len(b.shape) or any(
        m != n and (1 in (m, n) or (isinstance(m, int) and isinstance(n, int))) for m, n in pairs
    )


def _stays_float(node: gs.Node) -> str:
    if any(isinstance(v, gs.Graph) for v in node.attrs.values()):
        return "it holds a subgraph, whose nodes are left alone"
    if not is_known(node.op, node.domain):
        return "ONNX Runtime does not have this operator (a plugin?), so it stays as it is"
    if node.domain not in STANDARD_DOMAINS:
        return f"custom domain '{node.domain}'"
    return row_of(node.op, node.domain).why_float or f"no rule quantizes {node.op}"
