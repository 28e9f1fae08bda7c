"""What costs time in an engine of a Q/DQ model: layers that are there only because something is read in float."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import onnx

from quantlab.engines.inspector import Inspection, layer_audit, precision_of
from quantlab.onnx_model import QDQ_OPS, GraphView, has_qdq, node_label
from quantlab.qdq.rules import row_of


@dataclass(frozen=True, slots=True)
class CostKind:
    """What a kind of cost stands for.

    Attributes:
        meaning: What TensorRT does.
        remedy: What to do.
        extra: Whether the layer would not be there at all otherwise; of the others it is not known what they save.
    """

    meaning: str
    remedy: str
    extra: bool = True


WEIGHTS, FLOAT, LAYOUT = "weights dequantized", "float despite Q/DQ", "float layout"
CONVERSION, INT8_LAYOUT = "conversion", "INT8 layout"
NOT_FUSED, NOT_FUSED_INT8 = "not fused", "not fused, INT8"

_LINT = "quantlab repair; quantlab lint says what reads or writes float (Q16, Q20, Q21, Q22)"
_REPAIR = "quantlab repair where quantlab lint gives"
_ALIKE = "else quantize the node too, or --exclude what it is connected with"
_MOVED = "else --exclude what only moves channels and the layers next to it"
_EXCHANGE = "else none by Q/DQ: ReLU and Clip fuse with every convolution"
KINDS: Mapping[str, CostKind] = {
    WEIGHTS: CostKind("converts stored weights in every inference, from INT8 or for a float layer", _LINT),
    FLOAT: CostKind("reads its quantized weights as float and runs in float", _LINT, extra=False),
    LAYOUT: CostKind("changes the layout of what such a float layer reads or writes", _LINT),
    CONVERSION: CostKind("converts between INT8 and float inside the network", f"{_REPAIR} Q20, Q21 or Q22, {_ALIKE}"),
    INT8_LAYOUT: CostKind("changes the layout of INT8", f"{_REPAIR} Q21, {_MOVED}", extra=False),
    NOT_FUSED: CostKind("an activation of its own that reads float", f"{_REPAIR} Q21, {_EXCHANGE}", extra=False),
    NOT_FUSED_INT8: CostKind("an activation of its own, in INT8", f"{_REPAIR} Q06, {_EXCHANGE}", extra=False),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """A layer of an engine that costs time.

    Attributes:
        kind: One of `KINDS`.
        layer: Its name.
        node: The ONNX node that reads, or computes, in float, or stands before the activation; '' if unknown.
        time_ms: Mean device time, profiled layer by layer: the gap before its launch is in it.
    """

    kind: str
    layer: str
    node: str
    time_ms: float


def costs(inspection: Inspection, proto: onnx.ModelProto) -> tuple[Cost, ...]:
    """Find what costs time in an engine that was built from a Q/DQ model.

    Args:
        inspection: What TensorRT shows of the engine.
        proto: The model that it was built from.

    Returns:
        The layers that cost, the most expensive first, but for regions that TensorRT compiles as a whole. None of a
        model without Q/DQ: TensorRT chose its precisions by their time.
    """
    if not has_qdq(proto):
        return ()
    engine = _Engine(tuple(_layers(inspection, proto)), GraphView(proto))
    found = [Cost(kind, one.name, node, one.time_ms) for one in engine.layers for kind, node in engine.cost(one)]
    return tuple(sorted(found, key=lambda cost: (-cost.time_ms, cost.layer)))


_COPIES = frozenset({"Copy", "NoOp"})
"""Kinds of layers that change the format at most; 'Copy' is a Reformat that TensorRT itself puts between two layers."""
_MOVES = _COPIES | {"Reformat", "Shuffle", "Slice"}


class _Tensor(NamedTuple):
    """What a layer reads or writes; `in_model` is its name without the number of a clone per reader."""

    name: str
    in_model: str
    is_int8: bool
    is_float: bool


@dataclass(frozen=True, eq=False, slots=True)
class _Layer:
    """A layer of the engine; `nodes` are those it computes, a copy none."""

    name: str
    kind: str
    time_ms: float
    nodes: tuple[onnx.NodeProto, ...]
    reads: tuple[_Tensor, ...]
    writes: tuple[_Tensor, ...]


def _layers(inspection: Inspection, proto: onnx.ModelProto) -> Iterator[_Layer]:
    named = {name: node for node in proto.graph.node for name in (f"node_of_{node.output[0]}", node.name) if name}
    for row in inspection.rows:
        seen = layer_audit(row, inspection.times_ms)
        if seen.precision == "hidden":
            continue
        is_copy = seen.name.startswith("Reformatting CopyNode")  # whose name goes on with those of others
        names = () if is_copy else (seen.name, *seen.nodes)
        # 'Relu_7' or 'x_dq_clone_1': the parser and the optimizer number what they make of one node
        found = [named.get(name) or named.get(re.sub(r"(_clone)?_\d+$", "", name)) for name in names]
        nodes = tuple(node for node in found if node is not None)
        kind = "Copy" if is_copy and seen.kind == "Reformat" else seen.kind
        sides = (tuple(_tensors(row.get(side, ()))) for side in ("Inputs", "Outputs"))
        yield _Layer(seen.name, kind, seen.time_ms, nodes, *sides)


def _tensors(shown: Sequence[Any]) -> Iterator[_Tensor]:
    for tensor in shown:
        if isinstance(tensor, Mapping) and (name := str(tensor.get("Name", ""))):
            precision = precision_of({"Inputs": [tensor]})
            yield _Tensor(name, re.sub(r"_clone_\d+$", "", name), precision == "int8", precision in ("fp16", "fp32"))


@dataclass(frozen=True)
class _Engine:
    """The layers of an engine, and who writes and reads what."""

    layers: tuple[_Layer, ...]
    view: GraphView

    def cost(self, layer: _Layer) -> Iterator[tuple[str, str]]:
        """(kind, node) of a layer that costs, else nothing."""
        if layer.kind in ("NoOp", "Constant"):  # which run nothing
            return
        if layer in self._floats:
            yield FLOAT, self._floats[layer]
        elif takers := self._takers(layer.writes):
            yield WEIGHTS, takers[0]
        elif layer.kind in ("Reformat", "Copy") or (layer.nodes and all(n.op_type in QDQ_OPS for n in layer.nodes)):
            if len(layer.reads) == len(layer.writes) == 1:
                yield from self._conversion(layer, layer.reads[0], layer.writes[0])
        elif conv := _conv_before(layer.nodes, self.view):
            yield NOT_FUSED_INT8 if any(t.is_int8 for t in layer.reads) else NOT_FUSED, node_label(conv)

    def _conversion(self, layer: _Layer, read: _Tensor, written: _Tensor) -> Iterator[tuple[str, str]]:
        writer = self._writer.get(self._origin(read, _COPIES))
        makes = node_label(writer.nodes[-1]) if writer is not None and writer.nodes else ""
        around = [one for one in (writer, *self._consumers(written)) if one in self._floats]
        is_input = self._origin(read, _MOVES) in {value.name for value in self.view.proto.graph.input}
        if read.is_float and written.is_int8 and not is_input:
            yield CONVERSION, self._reader(read) or makes
        elif read.is_int8 and written.is_float and self.view.outputs.isdisjoint(self._copies(written)):
            yield CONVERSION, self._reader(written)
        elif read.is_int8 and written.is_int8 and layer.kind == "Copy":
            yield INT8_LAYOUT, self._reader(written)
        elif read.is_float and written.is_float and around:
            yield LAYOUT, self._floats[around[0]]

    @cached_property
    def _writer(self) -> dict[str, _Layer]:
        return {tensor.name: layer for layer in self.layers for tensor in layer.writes}

    @cached_property
    def _weights(self) -> dict[str, str]:
        """What is made of dequantized weights, in the model or in the engine -> the node that takes it."""
        stored, found = {tensor.name for tensor in self.view.proto.graph.initializer}, dict[str, str]()
        for node in self.view.proto.graph.node:
            given = [name for name in node.input if name]
            if all(name in stored for name in given) and (given or node.op_type == "Constant"):
                stored.update(node.output)
                if node.op_type in QDQ_OPS or any(name in found for name in given):
                    found.update(dict.fromkeys(node.output, ""))
        for name in reversed(found):  # from the node that takes them backwards
            for reader, _ in self.view.readers.get(name, [])[:1]:
                found[name] = found.get(reader.output[0], node_label(reader))
        for layer in self.layers:
            made = [found.get(node.output[0]) for node in layer.nodes] or [found.get(t.name) for t in layer.reads]
            if made and None not in made:
                found.update({tensor.name: made[-1] or "" for tensor in layer.writes})
        return found

    def _takers(self, tensors: Sequence[_Tensor]) -> list[str]:
        """Of those that are made of dequantized weights: the nodes that take them."""
        names = [t.name if t.name in self._weights else t.in_model for t in tensors]
        return [self._weights[name] for name in names if name in self._weights]

    @cached_property
    def _floats(self) -> dict[_Layer, str]:
        """Layer that reads dequantized weights and something else in float -> the node that takes them."""
        taken = [(one, self._takers(one.reads)) for one in self.layers if one.reads and not one.reads[0].is_int8]
        return {layer: takers[0] for layer, takers in taken if 0 < len(takers) < len(layer.reads)}

    def _origin(self, tensor: _Tensor, through: frozenset[str]) -> str:
        """The first of the tensors that became this one through such layers alone."""
        name = tensor.name
        for _ in self.layers:  # no more steps than that
            writer = self._writer.get(name)
            if writer is None or not writer.reads or writer.kind not in through:
                break
            name = writer.reads[0].name
        return name

    def _copies(self, tensor: _Tensor) -> set[str]:
        """A tensor and its copies; layers stand in the order they run in."""
        names = {tensor.name}
        for layer in self.layers:
            if layer.kind in _COPIES and any(read.name in names for read in layer.reads):
                names |= {copy.name for copy in layer.writes}
        return names

    def _consumers(self, tensor: _Tensor) -> list[_Layer]:
        """The layers that compute with a tensor, behind its copies."""
        names = self._copies(tensor)
        return [one for one in self.layers if one.kind not in _COPIES and any(t.name in names for t in one.reads)]

    def _reader(self, tensor: _Tensor) -> str:
        """The node that reads a tensor, behind its copies; '' if unknown."""
        nodes = [node for layer in self._consumers(tensor) for node in layer.nodes if node.op_type not in QDQ_OPS]
        found = next((node for node in nodes if tensor.in_model in node.input), nodes[0] if nodes else None)
        return "" if found is None else node_label(found)


def _conv_before(nodes: Sequence[onnx.NodeProto], view: GraphView) -> onnx.NodeProto | None:
    """The quantized convolution whose result nodes compute an activation of; None if they do something else."""
    rows = [row_of(node.op_type, node.domain) for node in nodes]
    if not all(row.pointwise for row in rows) or all(row.affine for row in rows):
        return None
    made = {name for node in nodes for name in node.output}
    names = {name for node in nodes for name in node.input if name and name not in made and not view.is_constant(name)}
    given = {view.source(name) for name in names}
    maker = view.producer.get(given.pop()) if len(given) == 1 else None
    while maker is not None and maker.op_type == "BatchNormalization":
        maker = view.producer.get(maker.input[0])
    if maker is None or not row_of(maker.op_type, maker.domain).epilogue:
        return None
    return maker if view.maker(maker.input[0], "DequantizeLinear") else None
