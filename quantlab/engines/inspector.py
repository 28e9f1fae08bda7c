"""The engine inspector's JSON: what a layer computes in, and which ONNX nodes it was fused from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantlab.errors import BuildError


@dataclass(frozen=True, slots=True)
class Inspection:
    """What TensorRT shows of an engine.

    Attributes:
        rows: The inspector's row of every layer, see `layer_rows`.
        times_ms: Layer -> mean device time.
    """

    rows: Sequence[Mapping[str, Any]]
    times_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LayerAudit:
    """One layer of the engine.

    Attributes:
        precision: What it computes in: 'int8', 'fp16', 'fp32', 'other', or 'hidden' for a region that TensorRT
            compiles as a whole, whose inside its inspector does not show.
        time_ms: Mean device time, 0 for layers without a kernel.
        nodes: The ONNX nodes it came from.
    """

    name: str
    kind: str
    precision: str
    time_ms: float
    nodes: tuple[str, ...]


def layer_rows(text: str) -> list[dict[str, Any]]:
    """The rows of the inspector's JSON, which has raw control characters. BuildError if it has no details."""
    rows = json.loads(text, strict=False)["Layers"]
    if rows and not isinstance(rows[0], dict):
        raise BuildError(
            "the engine was built without details, so its layers cannot be inspected",
            hint="build it with profiling verbosity 'detailed'",
        )
    return list(rows)


def layer_audit(row: Mapping[str, Any], times_ms: Mapping[str, float]) -> LayerAudit:
    """Read one row of the inspector.

    Args:
        row: With 'Name', 'LayerType', 'Metadata', 'Inputs' and 'Outputs', each of which may be missing.
        times_ms: Layer -> mean device time.

    Returns:
        The layer; its nodes stand in the metadata, else in its name.
    """
    name = str(row.get("Name", ""))
    nodes = re.findall(r"\[ONNX Layer: ([^\]]*)\]", str(row.get("Metadata", ""))) or nodes_from_name(name)
    kind = str(row.get("LayerType", ""))
    precision = "hidden" if kind == "Myelin" or "ForeignNode[" in name else precision_of(row)
    return LayerAudit(name, kind, precision, times_ms.get(name, 0.0), tuple(nodes))


def nodes_from_name(name: str) -> list[str]:
    """TensorRT joins the names of what it fused: 'a + b', 'PWN(a, b)', 'a || b', '{ForeignNode[a...b]}'."""
    text = re.sub(r"\b[A-Z][A-Za-z]+\(|ForeignNode\[|\](?=\})|[(){}]", " ", name)
    return [part.strip() for part in re.split(r" \+ |\|\||,|\.\.\.", text) if part.strip()]


_TYPES = (("int8", "int8"), ("fp16", "fp16"), ("half", "fp16"), ("fp32", "fp32"), ("float", "fp32"))


def precision_of(row: Mapping[str, Any]) -> str:
    """What a layer computes in: the type of its first input, or of its output where it has no input."""
    for tensor in (*row.get("Inputs", []), *row.get("Outputs", [])):
        text = str(tensor.get("Format/Datatype", "") if isinstance(tensor, dict) else tensor).lower()
        for word, precision in _TYPES:
            if word in text:
                return precision
    return "other"
