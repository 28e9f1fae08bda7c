"""What really runs in INT8: from the engine inspector and the time of every layer, mapped back to ONNX nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import onnx

from quantlab.dates import now
from quantlab.engines.costs import KINDS, Cost, costs
from quantlab.engines.engine import EXPLICIT, Engine
from quantlab.engines.inspector import Inspection, LayerAudit, layer_audit
from quantlab.engines.messages import NO_INT8_SCALE
from quantlab.onnx_model import GraphView, model_hash, node_label
from quantlab.qdq.rules import WEIGHTED

REGION = "{} of {} Conv, Gemm and MatMul nodes do not show, in an engine with regions that TensorRT compiles as a whole"


@dataclass(frozen=True, slots=True)
class Fallback:
    """A weighted ONNX node that does not run in INT8."""

    node: str
    op: str
    precision: str
    reason: str

    def __str__(self) -> str:
        how = "" if self.precision == "removed" else f" runs in {self.precision}"
        return f"{self.op} '{self.node}'{how}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Audit:
    """What of a model runs in INT8.

    Attributes:
        layers: In the order of the engine.
        weighted: Node -> precision for Conv, ConvTranspose, Gemm, MatMul; also 'removed', or 'float' for one that does
            not show in an engine without INT8.
        fallbacks: Those of them that are known not to be INT8, with the reason where it can be told.
        costs: The layers that cost more than need be in an engine of a Q/DQ model, the most expensive first.
        provenance: Hashes of the model and the engine, and what built that.
    """

    layers: tuple[LayerAudit, ...]
    weighted: dict[str, str]
    fallbacks: tuple[Fallback, ...]
    costs: tuple[Cost, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def other_model(self) -> str:
        """What is to be said where the engine was not built from this model; '' where it was, or nobody knows."""
        made, given = self.provenance.get("built_from"), self.provenance.get("model_hash")
        if not made or made == given:
            return ""
        return f"the engine was built from another model ({made[:12]}) than this one ({str(given)[:12]})"

    @property
    def extra_us(self) -> float:
        """Microseconds of the layers that are there only because something is read in float."""
        return sum((1000 * cost.time_ms for cost in self.costs if KINDS[cost.kind].extra), 0.0)

    @property
    def slower_us(self) -> float:
        """Microseconds of the other layers that cost: what they would take otherwise is not known."""
        return sum((1000 * cost.time_ms for cost in self.costs if not KINDS[cost.kind].extra), 0.0)

    @property
    def hidden(self) -> tuple[str, ...]:
        """The weighted nodes whose precision the inspector does not show."""
        return tuple(node for node, precision in self.weighted.items() if precision == "hidden")

    @property
    def hidden_note(self) -> str:
        """How many nodes do not show, as a sentence; '' where all do."""
        return REGION.format(len(self.hidden), len(self.weighted)) if self.hidden else ""

    @property
    def summary(self) -> str:
        """How much runs in INT8, as a sentence."""
        if self.int8_time_share is None:
            return f"cannot be told, {self.hidden_note}"
        nodes = f"{len(self.in_int8)} of {len(self.weighted)} Conv, Gemm and MatMul nodes"
        return f"{nodes}, {self.int8_time_share:.0%} of the time"

    @property
    def in_int8(self) -> tuple[str, ...]:
        """The weighted nodes that run in INT8."""
        return tuple(node for node, precision in self.weighted.items() if precision == "int8")

    @property
    def int8_share(self) -> float | None:
        """Share of the weighted nodes that run in INT8, 0..1; 1 if there are none, None if some are hidden."""
        if self.hidden:
            return None
        return len(self.in_int8) / len(self.weighted) if self.weighted else 1.0

    @property
    def total_ms(self) -> float:
        """The time of all layers."""
        return sum(layer.time_ms for layer in self.layers)

    @property
    def int8_time_share(self) -> float | None:
        """Share of the time that is spent in INT8 layers, 0..1; None if some weighted nodes are hidden."""
        if self.hidden:
            return None
        in_int8 = sum(layer.time_ms for layer in self.layers if layer.precision == "int8")
        return in_int8 / self.total_ms if self.total_ms else 0.0

    @property
    def kinds(self) -> Counter[str]:
        """How many layers of each kind there are."""
        return Counter(layer.kind for layer in self.layers)

    def shortfall(self, minimum: float) -> str:
        """Why the share in INT8 does not reach `minimum` (0..1); '' if it does."""
        if self.int8_share is None:
            return "the share cannot be told"
        return f"{self.int8_share:.3f} < {minimum:g}" if self.int8_share < minimum else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        sums = {"extra_us": self.extra_us, "slower_us": self.slower_us}
        shares = {"int8_share": self.int8_share, "int8_time_share": self.int8_time_share}
        return {"format": "quantlab.audit"} | asdict(self) | shares | sums


def audit_inspection(inspection: Inspection, engine: Engine, proto: onnx.ModelProto) -> Audit:
    """Map what TensorRT shows of an engine back to the nodes of its model.

    Args:
        inspection: What it shows.
        engine: The engine, for its record and its warnings.
        proto: The model that it was built from.

    Returns:
        The precision of every layer, and of every node with weights, and what costs time.
    """
    layers = tuple(layer_audit(row, inspection.times_ms) for row in inspection.rows)
    nodes = [node for node in proto.graph.node if node.op_type in WEIGHTED]
    may_hide = bool(engine.record.int8)  # where INT8 was not allowed there is none
    weighted = {node_label(node): precision_of_node(node, layers, may_hide) for node in nodes}
    reasons = _Reasons(engine, GraphView(proto))
    fallbacks = [
        Fallback(node_label(node), node.op_type, precision, reasons.of(node, precision))
        for node in nodes
        if (precision := weighted[node_label(node)]) not in ("int8", "hidden")
    ]
    record = engine.record
    provenance = {
        "date": now(),
        "model_hash": model_hash(proto),
        "engine_hash": engine.hash,
        "built_from": record.model_hash,
        "tensorrt": record.tensorrt,
        "gpu": record.gpu,
    }
    return Audit(layers, weighted, tuple(fallbacks), costs(inspection, proto), provenance)


def precision_of_node(node: onnx.NodeProto, layers: Sequence[LayerAudit], may_hide: bool) -> str:
    """Find what a node runs in.

    Args:
        node: Of the model.
        layers: Of the engine.
        may_hide: Whether a node that does not show may be in INT8 inside a region.

    Returns:
        The precision of the layer that carries it: the one with the most time, where it was split. 'removed' if no
        layer does; 'hidden', or 'float' where there is no INT8, if it may be inside a region.
    """
    names = {node_label(node), f"node_of_{node.output[0]}"}  # the parser's name for a node without one
    shown = [layer for layer in layers if layer.precision != "hidden"]
    carriers = [layer for layer in shown if names & set(layer.nodes) and layer.kind != "Reformat"]
    if not carriers and len(shown) < len(layers):  # the name of a region has its first and last node only
        return "hidden" if may_hide else "float"
    if not carriers:
        return "removed"
    return max(carriers, key=lambda layer: (layer.time_ms, layer.precision == "int8")).precision


@dataclass(frozen=True)
class _Reasons:
    """Why nodes of an engine do not run in INT8."""

    engine: Engine
    view: GraphView

    def of(self, node: onnx.NodeProto, precision: str) -> str:
        if not self.engine.record.int8:
            return "the engine was built without INT8"
        if precision == "removed":
            return "TensorRT computed it at build time, or fused it beyond recognition"
        unscaled = {row.node for row in self.engine.warnings if row.kind == NO_INT8_SCALE}
        for tensor in (*node.input, *node.output):
            if tensor in unscaled:
                return f"tensor '{tensor}' has no INT8 scale"
        if self.engine.record.int8 == EXPLICIT:
            return self._without_qdq(node)
        return "TensorRT measured this precision to be faster here, or has no INT8 kernel for it"

    def _without_qdq(self, node: onnx.NodeProto) -> str:
        producers = [(tensor, self.view.producer.get(tensor)) for tensor in node.input[:2]]
        missing = [tensor for tensor, made_by in producers if made_by is None or made_by.op_type != "DequantizeLinear"]
        if missing:
            return f"its input '{missing[0]}' has no Q/DQ"
        return "its inputs have Q/DQ, but TensorRT found no INT8 kernel for it"
