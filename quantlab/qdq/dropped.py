"""What a model that had Q/DQ lost when they were placed anew: told, for whoever had put them there had a reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from quantlab.onnx_model import GraphView
from quantlab.qdq.lint_structure import is_in_int8
from quantlab.qdq.names import calibrated_name
from quantlab.qdq.placement import Placement
from quantlab.qdq.rules import weighted_nodes

NAMED = 3
"""Tensors that a note names."""


def int8_layers(proto: onnx.ModelProto) -> dict[str, bool]:
    """Weighted node -> whether it was meant for INT8."""
    view = GraphView(proto)
    return {node.name: is_in_int8(view, node, weight) for node, weight in weighted_nodes(proto.graph)}


def dropped_notes(
    prepared: onnx.ModelProto,
    placement: Placement,
    had: Collection[str],
    aliases: Mapping[str, str],
    were_int8: Collection[str],
) -> list[str]:
    """Say which layers are no longer in INT8, and which activations have no pair any more.

    Args:
        prepared: The model without Q/DQ.
        placement: Where they go.
        had: The activations that had a pair.
        aliases: As of `Stripped`.
        were_int8: The layers that were in INT8.

    Returns:
        One note for all that have one reason.
    """
    reasons = {s.node: (s.op, str(s.reason)) for s in placement.skipped}
    layers: dict[str, list[str]] = {}
    for node in were_int8:
        if node in reasons:
            layers.setdefault(": ".join(reasons[node]), []).append(node)
    kept = {name for t in placement.tensors for name in (t, calibrated_name(t, had), aliases.get(t, t))}
    stand_ins = {old: new for new, old in aliases.items()}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for reader in prepared.graph.node:
        for name in reader.input:
            readers.setdefault(name, []).append(reader)
    pairs: dict[str, list[str]] = {}
    for tensor in had:
        if tensor not in kept:
            by = readers.get(stand_ins.get(tensor, tensor), [])
            why = next((": ".join(reasons[n.name]) for n in by if n.name in reasons), "")
            pairs.setdefault(why or "no INT8 kernel reads them", []).append(tensor)
    return [
        *(f"{_named(names)} no longer in INT8: {why}" for why, names in layers.items()),
        *(f"Q/DQ dropped on {_named(names)}: {why}" for why, names in pairs.items()),
    ]


def _named(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"
