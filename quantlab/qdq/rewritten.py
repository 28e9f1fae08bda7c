"""Q/DQ models whose float network is not the FP32 model any more, though they compute the same: channels are scaled,
tensors shifted, and saturation stands for activations. They say so themselves: nobody takes their Q/DQ out, and nobody
compares what is inside of them with what is inside of the FP32 model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from quantlab.errors import GraphError
from quantlab.strict_json import parse_json

_KEY = "quantlab.rewritten"
"""Of the metadata of a model."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What has no counterpart in the FP32 model.

    Attributes:
        tensors: Names of tensors with other values.
        nodes: Names of nodes with other constants.
    """

    tensors: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()


def mark_rewritten(model: onnx.ModelProto, tensors: Iterable[str], nodes: Iterable[str]) -> None:
    """Let a model say what was rewritten in it, besides what it says already.

    Args:
        model: The model; its metadata are changed.
        tensors: With other values than in the FP32 model.
        nodes: With other constants.
    """
    known = read_rewritten(model)
    value = {"tensors": sorted(known.tensors.union(tensors)), "nodes": sorted(known.nodes.union(nodes))}
    others = [prop for prop in model.metadata_props if prop.key != _KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    model.metadata_props.add(key=_KEY, value=json.dumps(value))


def read_rewritten(model: onnx.ModelProto) -> Rewritten:
    """What a model says was rewritten in it; nothing where that cannot be read, as anyone may have written it."""
    text = next((prop.value for prop in model.metadata_props if prop.key == _KEY), "")
    try:
        known = parse_json(text) if text else {}
    except ValueError:
        known = {}
    lists = [known.get(key) if isinstance(known, dict) else None for key in ("tensors", "nodes")]
    return Rewritten(*(frozenset(map(str, found)) if isinstance(found, list) else frozenset() for found in lists))


def require_not_rewritten(model: onnx.ModelProto, what: str) -> None:
    """Refuse a model whose Q/DQ cannot be taken out or changed.

    Args:
        model: A Q/DQ model.
        what: For what it was given, as a noun.

    Raises:
        GraphError: Its float network is another than the FP32 model.
    """
    if any(prop.key == _KEY for prop in model.metadata_props):
        raise GraphError(
            f"{what} cannot start from a model of quantize --closest: its tensors are scaled or shifted, and the "
            "saturation of INT8 stands for activations",
            hint="start from the FP32 model",
        )
