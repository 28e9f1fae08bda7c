"""Layers that INT8 makes slower because of what is float around them; they stay float unless a user's --include names
them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import prod

import onnx_graphsurgeon as gs

from quantlab.errors import Notice
from quantlab.qdq.activations import activation_of, is_fused, kind_of
from quantlab.qdq.draft import Draft
from quantlab.qdq.follow import last_of
from quantlab.qdq.graph import is_output, makers, walk
from quantlab.qdq.measured import INT8_OUTPUT_ONLY, ISOLATED_MACS, SHRINKS
from quantlab.qdq.payoff import COUNTED, macs_of, no_gain
from quantlab.qdq.rules import row_of
from quantlab.qdq.stages import layers_before

NO_FLOAT_OUTPUT = no_gain(
    "a depthwise or grouped kernel writes INT8 only, and its result is needed in float (Q20, Q22)"
)
ISOLATED = no_gain(
    f"float layers around it, and fewer than 2^{ISOLATED_MACS.bit_length() - 1} multiplications{COUNTED}"
)

EARLY = no_gain("it shrinks a signal that a float convolution made: the conversion to INT8 costs less on its result")


def lonely_layers(draft: Draft, asked_for: Collection[str], whatever_size: Collection[str]) -> dict[str, str]:
    """Layers that are read in INT8 in a draft and had better not be.

    Args:
        draft: With everything that reads INT8.
        asked_for: Nodes that are quantized whether or not it pays.
        whatever_size: Those that are not too small for it.

    Returns:
        Node -> why it stays float.
    """
    found: dict[str, str] = {}
    for node in draft.graph.nodes:
        if (node.name, 0) not in draft.reads or row_of(node.op, node.domain).weight_input is None:
            continue
        if node.name in asked_for:
            continue
        last = last_of(draft, node.outputs[0])
        leaves, is_read = is_output(draft.graph, last), last.name in draft.int8
        if kind_of(node) in INT8_OUTPUT_ONLY and (leaves or not is_read):
            found[node.name] = NO_FLOAT_OUTPUT
        elif is_read and kind_of(node) and (missing := _missing_pair(draft, node)) is not None:
            found[node.name] = missing
        elif kind_of(node) and _shrinks_float_signal(draft, node):
            found[node.name] = EARLY
        elif not is_read and node.name not in whatever_size and _is_isolated(draft, node, last):
            found[node.name] = ISOLATED
    return found


def _is_isolated(draft: Draft, node: gs.Node, last: gs.Tensor) -> bool:
    """Whether a small layer has float ones before and behind it. The ends of a network are nothing to go by."""
    macs = macs_of(node)
    if macs is None or macs >= ISOLATED_MACS or _comes_in_int8(draft, node.inputs[0]):
        return False
    return bool(node.inputs[0].inputs or last.outputs)


def _shrinks_float_signal(draft: Draft, node: gs.Node) -> bool:
    """Whether a convolution over one dimension makes the result of a float convolution smaller, like all that read it
    in INT8."""
    source = node.inputs[0]
    if not all(_shrinks_signal(reader) for reader in source.outputs if draft.is_read_by(reader)):
        return False
    before = list(layers_before(source))
    return bool(before) and all(kind_of(maker) and not draft.is_read_by(maker) for maker in before)


def _shrinks_signal(node: gs.Node) -> bool:
    if node.op != "Conv" or not kind_of(node) or len(node.inputs[1].shape) != 3:
        return False
    outputs, inputs, _ = node.inputs[1].shape
    inputs, stride = inputs * node.attrs.get("group", 1), prod(node.attrs.get("strides", [1]))
    return bool(inputs * stride >= outputs * SHRINKS)


def _comes_in_int8(draft: Draft, tensor: gs.Tensor) -> bool:
    """Whether an INT8 kernel makes a tensor, so that nothing but that kernel is needed to have it in INT8."""

    def on(node: gs.Node) -> Sequence[gs.Tensor]:
        row = row_of(node.op, node.domain)
        return node.inputs if row.pointwise or row.share_scale else ()

    return any(draft.is_read_by(maker) for maker in walk(tensor, makers, on))


def _missing_pair(draft: Draft, node: gs.Node) -> Notice | None:
    """The reason why there can be no pair before an activation that does not fuse, if one is wanted there."""
    tensor = node.outputs[0]
    while tensor.name not in draft.int8 and (activation := activation_of(draft.graph, tensor)) is not None:
        if not is_fused(node, activation):
            return draft.missing_scale([tensor])
        tensor = activation.result
    return None
