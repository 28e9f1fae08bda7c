"""INT8 extended backwards through pooling and operators that only move values, and the tensors that share a scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_graphsurgeon as gs

from quantlab.qdq.draft import Draft
from quantlab.qdq.follow import last_of
from quantlab.qdq.graph import other_type
from quantlab.qdq.rules import QdqRule
from quantlab.qdq.shuffles import is_selection

SUM = QdqRule("Add", (0, 1), kernel=True)
"""An Add of `Draft.sums`."""


def extend_int8(draft: Draft, reasons: Mapping[str, str]) -> tuple[list[tuple[str, ...]], dict[str, str]]:
    """Let INT8 pass wherever it can: what one node reads in INT8 can let another of the same tensor pass.

    Args:
        draft: With what the layers read; more is added.
        reasons: Node -> why it stays float.

    Returns:
        The groups of tensors that take one scale, and the reasons with those of the nodes that INT8 does not pass.
    """
    while True:
        before, found = len(draft.reads), dict(reasons)
        groups = _read_through(draft, found)
        if len(draft.reads) == before:
            return groups, found


def _read_through(draft: Draft, reasons: dict[str, str]) -> list[tuple[str, ...]]:
    """Once from the last node to the first; the groups of one scale.

    A node reads INT8 if a result of it is read in INT8 and either it has an INT8 kernel (a pooling, a Concat), or its
    input is quantized anyway: then float and INT8 copies of one tensor need not both be written.
    """
    groups: list[set[str]] = []
    draft.int8 = int8 = set(draft.reads.values())
    for node in reversed(draft.graph.nodes):
        rule = draft.rule(node)
        if rule.weight_input is not None and (node.name, 0) in draft.reads and is_selection(node):
            _join(groups, {node.inputs[0].name, node.outputs[0].name})
        if node.name in draft.sums:
            rule = SUM
        if not rule.activation_inputs or rule.weight_input is not None or node.name in reasons:
            continue
        indices = range(len(node.inputs)) if rule.all_inputs else rule.activation_inputs
        inputs = {index: node.inputs[index] for index in indices}
        reason = _cannot_pass(node, rule, inputs)
        if reason or not any(_is_read(draft, node, tensor) for tensor in node.outputs):
            reasons[node.name] = reason or "its result is not read in INT8"
            continue
        names = {tensor.name for tensor in inputs.values()}
        passes = rule.kernel or bool(names & set(draft.reads.values()))
        if passes and (reason := draft.missing_scale(inputs.values())):
            reasons[node.name] = reason
            continue
        int8 |= names
        if rule.share_scale:
            _join(groups, {*names, *(tensor.name for tensor in node.outputs)})
        if passes:
            for index in inputs:
                draft.read(node, index, "INT8 kernel" if rule.kernel else "INT8 passes it")
        else:
            reasons[node.name] = "TensorRT moves the quantization before it"
    return [tuple(sorted(group)) for group in groups]


def _is_read(draft: Draft, node: gs.Node, tensor: gs.Tensor) -> bool:
    """Whether a result is read in INT8; that of a sum, behind its activation too."""
    return tensor.name in draft.int8 or (node.name in draft.sums and last_of(draft, tensor).name in draft.int8)


def _cannot_pass(node: gs.Node, rule: QdqRule, inputs: Mapping[int, gs.Tensor]) -> str | None:
    for index, tensor in inputs.items():
        if isinstance(tensor, gs.Constant):
            return f"input {index} is constant"
        if (other := other_type(tensor)) is not None:
            return f"it moves {other} values"
    return None if rule.where is None else rule.where(node)


def _join(groups: list[set[str]], names: Iterable[str]) -> None:
    """Put `names` into one group, with every group that holds one of them."""
    joined = set(names)
    for group in [g for g in groups if g & joined]:
        joined |= group
        groups.remove(group)
    groups.append(joined)
