"""What really runs in INT8: from the engine inspector and the per-layer profile, mapped back to ONNX nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from quantlab.data.batches import Batch
from quantlab.errors import BuildError
from quantlab.trt.engine import Engine
from quantlab.trt.features import trt
from quantlab.trt.run import Lane, Runner

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators whose precision decides."""

REGION = "{} of {} Conv, Gemm and MatMul nodes do not show, in an engine with regions that TensorRT compiles as a whole"


@dataclass(frozen=True, slots=True)
class LayerAudit:
    """One layer of the engine. precision: what it computes in ('int8', 'fp16', 'fp32', 'other', or 'hidden' for a
    region that TensorRT compiles as a whole, whose inside its inspector does not show). time_ms: mean device time, 0
    for layers without a kernel. nodes: the ONNX nodes it came from."""

    name: str
    kind: str
    precision: str
    time_ms: float
    nodes: tuple[str, ...]


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
    """layers: in the order of the engine. weighted: ONNX node -> precision for Conv, ConvTranspose, Gemm, MatMul; also
    'removed', or 'float' for one that does not show in an engine without INT8.
    fallbacks: those of them that are known not to be INT8, with the reason where it can be told."""

    layers: tuple[LayerAudit, ...]
    weighted: dict[str, str]
    fallbacks: tuple[Fallback, ...]

    @property
    def hidden(self) -> tuple[str, ...]:
        """The weighted nodes whose precision the inspector does not show."""
        return tuple(node for node, precision in self.weighted.items() if precision == "hidden")

    @property
    def int8_share(self) -> float | None:
        """Share of the weighted nodes that run in INT8, 0..1; 1 if there are none, None if some are hidden."""
        if self.hidden:
            return None
        return sum(p == "int8" for p in self.weighted.values()) / len(self.weighted) if self.weighted else 1.0

    @property
    def int8_time_share(self) -> float | None:
        """Share of the time that is spent in INT8 layers, 0..1; None if some weighted nodes are hidden."""
        if self.hidden:
            return None
        total = sum(layer.time_ms for layer in self.layers)
        return sum(layer.time_ms for layer in self.layers if layer.precision == "int8") / total if total else 0.0


def audit(engine: Engine, proto: onnx.ModelProto, batch: Batch, runs: int = 20) -> Audit:
    """Inspect and profile an engine built from `proto` on a batch. BuildError if it was built without details."""
    with Runner(engine) as runner:
        lane = runner.lane
        lane(batch)
        rows = _inspect(runner, lane)
        times = _profile(lane, runs)
    layers = tuple(_layer(row, times) for row in rows)
    weighted_nodes = [n for n in proto.graph.node if n.op_type in WEIGHTED]
    may_hide = bool(engine.record.int8)  # where INT8 was not allowed there is none
    weighted = {_name(n): _precision_of_node(n, layers, may_hide) for n in weighted_nodes}
    fallbacks = [
        Fallback(_name(n), n.op_type, weighted[_name(n)], _reason(n, proto, engine, weighted[_name(n)]))
        for n in weighted_nodes
        if weighted[_name(n)] not in ("int8", "hidden")
    ]
    return Audit(layers, weighted, tuple(fallbacks))


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def _inspect(runner: Runner, lane: Lane) -> list[dict[str, Any]]:
    inspector = runner.cuda_engine.create_engine_inspector()
    inspector.execution_context = lane.context  # without shapes every format reads N/A
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    rows = json.loads(text, strict=False)["Layers"]  # the text has raw control characters
    if rows and not isinstance(rows[0], dict):
        raise BuildError(
            "the engine was built without details, so its layers cannot be inspected",
            hint="build it with profiling verbosity 'detailed'",
        )
    return list(rows)


class _Profiler(trt.IProfiler):  # type: ignore[misc]
    def __init__(self) -> None:
        trt.IProfiler.__init__(self)
        self.total_ms: dict[str, float] = {}

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """TensorRT calls this for every layer of every run."""
        self.total_ms[layer_name] = self.total_ms.get(layer_name, 0.0) + ms


def _profile(lane: Lane, runs: int) -> dict[str, float]:
    """Mean milliseconds per layer name."""
    lane.enqueue()
    lane.driver.synchronize(lane.stream)
    profiler = _Profiler()
    lane.context.profiler = profiler
    for _ in range(runs):
        lane.enqueue()
        lane.driver.synchronize(lane.stream)
    return {name: total / runs for name, total in profiler.total_ms.items()}


def _layer(row: dict[str, Any], times: dict[str, float]) -> LayerAudit:
    name = str(row.get("Name", ""))
    nodes = re.findall(r"\[ONNX Layer: ([^\]]*)\]", str(row.get("Metadata", ""))) or _nodes_from_name(name)
    kind = str(row.get("LayerType", ""))
    precision = "hidden" if kind == "Myelin" or "ForeignNode[" in name else precision_of(row)
    return LayerAudit(name, kind, precision, times.get(name, 0.0), tuple(nodes))


def _nodes_from_name(name: str) -> list[str]:
    """TensorRT joins the names of what it fused: 'a + b', 'PWN(a, b)', 'a || b'."""
    text = re.sub(r"\b[A-Z][A-Za-z]+\(|ForeignNode\[|\](?=\})|[(){}]", " ", name)
    return [part.strip() for part in re.split(r" \+ |\|\||,|\.\.\.", text) if part.strip()]


_TYPES = (("int8", "int8"), ("fp16", "fp16"), ("half", "fp16"), ("fp32", "fp32"), ("float", "fp32"))


def precision_of(row: dict[str, Any]) -> str:
    """What a layer computes in: the type of its first input, or of its output where it has no input."""
    for tensor in (*row.get("Inputs", []), *row.get("Outputs", [])):
        text = str(tensor.get("Format/Datatype", "") if isinstance(tensor, dict) else tensor).lower()
        for word, precision in _TYPES:
            if word in text:
                return precision
    return "other"


def _precision_of_node(node: onnx.NodeProto, layers: Sequence[LayerAudit], may_hide: bool) -> str:
    """The precision of the layer that carries a node: the one with the most time, where it was split."""
    names = {_name(node), f"node_of_{node.output[0]}"}  # the parser's name for a node without one
    shown = [layer for layer in layers if layer.precision != "hidden"]
    carriers = [layer for layer in shown if names & set(layer.nodes) and layer.kind != "Reformat"]
    if not carriers and len(shown) < len(layers):  # the name of a region has its first and last node only
        return "hidden" if may_hide else "float"
    if not carriers:
        return "removed"
    return max(carriers, key=lambda layer: (layer.time_ms, layer.precision == "int8")).precision


def _reason(node: onnx.NodeProto, proto: onnx.ModelProto, engine: Engine, precision: str) -> str:
    if not engine.record.int8:
        return "the engine was built without INT8"
    if precision == "removed":
        return "TensorRT computed it at build time, or fused it beyond recognition"
    unscaled = {w.node for w in engine.warnings if "no INT8 scale" in w.meaning}
    for tensor in (*node.input, *node.output):
        if tensor in unscaled:
            return f"tensor '{tensor}' has no INT8 scale"
    if engine.record.int8 == "explicit Q/DQ":
        producers = {o: n.op_type for n in proto.graph.node for o in n.output}
        missing = [i for i in node.input[:2] if producers.get(i) != "DequantizeLinear"]
        if missing:
            return f"its input '{missing[0]}' has no Q/DQ"
        return "its inputs have Q/DQ, but TensorRT found no INT8 kernel for it"
    return "TensorRT measured this precision to be faster here, or has no INT8 kernel for it"
