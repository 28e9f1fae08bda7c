"""The Transposes that are left of another layout: where they stand, and what each moves in every inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import onnx

from quantlab.onnx_model import attribute, infer_shapes, node_label


@dataclass(frozen=True, slots=True)
class Border:
    """A Transpose of computed values.

    Attributes:
        node: Its name.
        place: `input`, `output` or `inside`.
        tensor: What it reads.
        perm: The order of the dimensions.
        values: How many values of a sample it moves; None where that is not known.
        moves: Whether it moves them: one that passes dimensions of 1 only is a view.
    """

    node: str
    place: str
    tensor: str
    perm: tuple[int, ...]
    values: int | None
    moves: bool

    def __str__(self) -> str:
        size = "an unknown number of" if self.values is None else f"{self.values:,}"
        cost = f"moves {size} values a sample" if self.moves else "moves nothing, it is a view"
        where = {"input": "at the input", "output": "at the output", "inside": "inside"}[self.place]
        return f"Transpose {where} ('{self.tensor}', {' '.join(map(str, self.perm))}): {cost}"


def borders(model: onnx.ModelProto) -> tuple[Border, ...]:
    """Find the Transposes of computed values.

    Args:
        model: Of any exporter.

    Returns:
        One per node, in the order of the network.
    """
    proto = infer_shapes(model)
    shapes = {value.name: _dims(value) for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output)}
    fed = {value.name for value in proto.graph.input} - {tensor.name for tensor in proto.graph.initializer}
    given = {value.name for value in proto.graph.output}
    constant = {tensor.name for tensor in proto.graph.initializer}
    makers = {name: node for node in proto.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in proto.graph.node:
        if node.op_type != "Transpose" or node.input[0] in constant:
            continue
        shape = shapes.get(node.input[0])
        rank = len(shape) if shape is not None else 0
        perm = tuple(attribute(node, "perm", None) or range(rank)[::-1])
        place = "inside"
        if _before(node.input[0], makers) in fed:
            place = "input"
        elif _behind(node.output[0], readers) & given:
            place = "output"
        found.append(Border(node_label(node), place, node.input[0], perm, *_cost(shape, perm)))
    return tuple(found)


def _dims(value: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)


def _cost(shape: Sequence[int | None] | None, perm: Sequence[int]) -> tuple[int | None, bool]:
    """Values of a sample, and whether any of them moves. The first dimension is the batch."""
    if shape is None:
        return None, True
    order = [axis for axis in perm if shape[axis] != 1]
    rest = [d for d in shape[1:] if d is not None]
    return (prod(rest) if len(rest) == len(shape) - 1 else None), order != sorted(order)


def _quantizes(node: onnx.NodeProto) -> bool:
    return node.op_type == "QuantizeLinear" or node.op_type == "DequantizeLinear"


def _before(name: str, makers: dict[str, onnx.NodeProto]) -> str:
    while name in makers and _quantizes(makers[name]):
        name = makers[name].input[0]
    return name


def _behind(name: str, readers: dict[str, list[onnx.NodeProto]]) -> set[str]:
    found = {name}
    for node in readers.get(name, []):
        if _quantizes(node) and node.input[0] == name:
            found |= _behind(node.output[0], readers)
    return found
