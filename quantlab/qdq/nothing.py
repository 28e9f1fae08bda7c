"""Why nothing in a model can be INT8, in words that say what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx

from quantlab.errors import GraphError
from quantlab.onnx_model import inner_nodes, node_label
from quantlab.qdq.placement import Skipped
from quantlab.qdq.rules import row_of

_CODES = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
_MOST = 3
"""How many things of a kind a message names."""


def nothing_in_int8(prepared: onnx.ModelProto, skipped: Sequence[Skipped]) -> GraphError:
    """The error for a model of which nothing can be INT8.

    Args:
        prepared: The model, see `prepare`.
        skipped: Its nodes, with the reasons.

    Returns:
        It names what holds the layers (If, Loop, Scan), or those that are quantized already, or gives the reasons why
        the layers stay float; where there are no layers, those of all nodes.
    """
    ops = {node.name: node for node in prepared.graph.node}
    holders = [node for node in prepared.graph.node if any(map(_is_layer, inner_nodes(node)))]
    coded = list(_layers_of_codes(prepared.graph))
    if holders:
        what, hint = _inside(prepared.graph, holders)
    elif coded:
        what = f"it is quantized already ({_counted(coded)}), in a form that TensorRT does not read"
        hint = "start from the float model that it was made from"
    else:
        layers = [s for s in skipped if s.node in ops and _is_layer(ops[s.node])]
        what = "; ".join(sorted({f"{s.op}: {s.reason}" for s in layers or skipped}))
        hint = "is this the right model?"
    return GraphError(f"nothing in the model can be INT8: {what}", hint=hint)


def _is_layer(node: onnx.NodeProto) -> bool:
    row = row_of(node.op_type, node.domain)
    return row.weight_input is not None or row.recurrent


def _layers_of_codes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes whose weights are 8-bit integers, of whatever domain they are."""
    codes = {t.name for t in graph.initializer if t.data_type in _CODES and len(t.dims) > 1}
    return (node for node in graph.node if codes.intersection(node.input))


def _counted(nodes: Iterable[onnx.NodeProto]) -> str:
    counts = Counter(node.op_type for node in nodes)
    named = ", ".join(f"{count} {op}" for op, count in counts.most_common(_MOST))
    return named + (", ..." if len(counts) > _MOST else "")


def _inside(graph: onnx.GraphProto, holders: Sequence[onnx.NodeProto]) -> tuple[str, str]:
    """What is said of layers inside other nodes, and the remedy."""
    layers = [inner for node in holders for inner in inner_nodes(node) if _is_layer(inner)]
    kinds = " and ".join(dict.fromkeys(node.op_type for node in holders))
    what = f"its layers ({_counted(layers)}) stand inside {kinds} ('{node_label(holders[0])}'), where all stays float"
    if any(node.op_type != "If" for node in holders):
        return what, "export the model unrolled, without the loop"
    deciders = [_deciders(graph, node.input[0]) for node in holders]
    inputs = list(dict.fromkeys(name for found in deciders for name in found.inputs))
    if not inputs:
        return what, "export the branch that runs as a model of its own"
    named = "input " + ", ".join(f"'{name}'" for name in inputs[:_MOST]) + (", ..." if len(inputs) > _MOST else "")
    if all(found.by_shape for found in deciders):
        return f"{what}; the shape of {named} decides which branch runs", f"give {named} a fixed shape"
    remedy = f"make {named} an initializer with the value that you run it with; the branch it chooses is then quantized"
    return f"{what}; {named} decides which branch runs", remedy


@dataclass(frozen=True, slots=True)
class _Deciders:
    """What a condition depends on: inputs of the model, and whether on nothing but their shapes."""

    inputs: tuple[str, ...]
    by_shape: bool


def _deciders(graph: onnx.GraphProto, condition: str) -> _Deciders:
    makers = {name: node for node in graph.node for name in node.output if name}
    given = {i.name for i in graph.input} - {t.name for t in graph.initializer}
    waiting, seen, values = [(condition, False)], set[tuple[str, bool]](), dict[str, bool]()
    while waiting:
        name, by_shape = step = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        if name in given:
            values[name] = values.get(name, True) and by_shape
        elif name in makers:
            node = makers[name]
            shape = by_shape or row_of(node.op_type, node.domain).reads_shape
            waiting += [(source, shape) for source in node.input if source]
    inputs = [name for name, by_shape in values.items() if not by_shape] or list(values)
    return _Deciders(tuple(inputs), all(values.values()))
