"""Parts of a network that are faster in float as a whole: what the graph says before anything is placed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from math import prod

import onnx_graphsurgeon as gs

from quantlab.qdq.activations import kind_of
from quantlab.qdq.graph import constants, makers, readers, walk
from quantlab.qdq.measured import ATTENTION_MACS, FEW_CHANNELS, FEW_LAYERS, ORDINARY, RECURRENT_MACS
from quantlab.qdq.payoff import COUNTED, macs_of, no_gain
from quantlab.qdq.rules import row_of

FEW = no_gain(f"{FEW_LAYERS} layers or more with up to {FEW_CHANNELS} channels in a row, its kernels work on 32")
SHUFFLED = no_gain("it stands beside a channel shuffle, which costs more in INT8 than the layer gains")
SMALL_ATTENTION = no_gain(
    f"no product of this attention network has 2^{ATTENTION_MACS.bit_length() - 1} multiplications{COUNTED}"
)
BESIDE_RECURRENT = no_gain(
    f"the recurrent layers of this network run slower beside Q/DQ, and all others together have less than "
    f"2^{RECURRENT_MACS.bit_length() - 1} multiplications{COUNTED}"
)


def stages_in_float(graph: gs.Graph) -> dict[str, str]:
    """Node -> why it had better stay float."""
    reasons: dict[str, str] = {node.name: BESIDE_RECURRENT for node in beside_recurrent(graph)}
    reasons |= {node.name: SMALL_ATTENTION for node in small_attention(graph)}
    reasons |= {node.name: FEW for node in few_channels(graph)}
    return reasons | {node.name: SHUFFLED for node in beside_shuffles(graph)}


def small_attention(graph: gs.Graph) -> Iterator[gs.Node]:
    """All MatMuls of a network with attention (a product of two computed tensors) whose products are all small."""
    products = [node for node in graph.nodes if row_of(node.op, node.domain).dynamic_weight]
    if not any(not constants(node) for node in products):
        return
    sizes = [macs_of(node) for node in products]
    if all(size is not None and size < ATTENTION_MACS for size in sizes):
        yield from products


def beside_recurrent(graph: gs.Graph) -> Iterator[gs.Node]:
    """All layers of a network with recurrent ones, where INT8 can save less in them than it costs in those."""
    rows = [(node, row_of(node.op, node.domain)) for node in graph.nodes]
    if not any(row.recurrent for _, row in rows):
        return
    layers = [node for node, row in rows if row.weight_input is not None]
    sizes = [macs_of(node) for node in layers]
    if sum(size or 0 for size in sizes) < RECURRENT_MACS and None not in sizes:
        yield from layers


def few_channels(graph: gs.Graph) -> Iterator[gs.Node]:
    """Convolutions of few channels that follow each other, where there are enough of them."""
    few = {node.name for node in graph.nodes if kind_of(node) == ORDINARY and _has_few_channels(node)}
    stages = _rows_of(graph, few)
    sizes = Counter(stages.values())
    yield from (node for node in graph.nodes if node.name in few and sizes[stages[node.name]] >= FEW_LAYERS)


def _rows_of(graph: gs.Graph, layers: Collection[str]) -> dict[str, str]:
    """Layer -> the row it stands in: layers that read what others of them made, through activations and sums.

    In three passes over the network, however long its rows of sums are.
    """
    ahead, behind = set[str](), set[str]()  # tensors before a layer, and behind one
    for node in reversed(graph.nodes):
        if node.name in layers or (_leads_on(node) and any(t.name in ahead for t in node.outputs)):
            ahead.update(t.name for t in node.inputs if t.name)
    rows: dict[str, str] = {}

    def row(name: str) -> str:
        while rows.setdefault(name, name) != name:
            rows[name] = rows[rows[name]]
            name = rows[name]
        return name

    for node in graph.nodes:
        read = [t.name for t in node.inputs if t.name in behind]
        made = [t.name for t in node.outputs if t.name in ahead]
        if node.name not in layers and not (_leads_on(node) and read):
            continue
        behind.update(made)
        ends = [f"/{node.name}"] * (node.name in layers) + [f".{name}" for name in (*read, *made)]
        for other in ends[1:]:
            rows[row(other)] = row(ends[0])
    return {name: row(f"/{name}") for name in layers}


def _has_few_channels(conv: gs.Node) -> bool:
    return all(isinstance(size, int) and size <= FEW_CHANNELS for size in conv.inputs[1].shape[:2])


def beside_shuffles(graph: gs.Graph) -> Iterator[gs.Node]:
    """The layers before and behind the channel shuffles of a network (Reshape, Transpose, Reshape)."""
    for node in graph.nodes:
        ends = ends_of_shuffle(node)
        if ends is not None:
            yield from layers_before(ends[0])
            yield from layers_behind(ends[1])


def ends_of_shuffle(node: gs.Node) -> tuple[gs.Tensor, gs.Tensor] | None:
    """(what is shuffled, the result), if a node is the Transpose in the middle of a channel shuffle."""
    order = list(node.attrs.get("perm", ()))
    if node.op != "Transpose" or order != [0, 2, 1, *range(3, len(order))]:
        return None
    before = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    behind = node.outputs[0].outputs[0] if len(node.outputs[0].outputs) == 1 else None
    if before is None or behind is None or before.op != "Reshape" or behind.op != "Reshape":
        return None
    source, inner, result = (list(t.shape or ()) for t in (before.inputs[0], node.inputs[0], behind.outputs[0]))
    if len(source) not in (3, 4) or source[2:] != inner[3:] or len(source) != len(result) or source[1:] != result[1:]:
        return None
    if any(isinstance(size, int) and size != source[0] for size in (inner[0], result[0])):
        return None
    groups = [size for size in inner[1:3] if isinstance(size, int)]
    return (before.inputs[0], behind.outputs[0]) if prod(groups) == source[1] else None


def layers_before(tensor: gs.Tensor) -> Iterator[gs.Node]:
    """The weighted nodes before a tensor, through activations, sums and what moves values."""
    found = walk(tensor, makers, lambda node: node.inputs if _passes_values(node) else ())
    return (node for node in found if row_of(node.op, node.domain).weight_input is not None)


def layers_behind(tensor: gs.Tensor) -> Iterator[gs.Node]:
    """The weighted nodes behind a tensor, through activations, sums and what takes tensors apart."""

    found = walk(tensor, readers, lambda node: node.outputs if _leads_on(node) else ())
    return (node for node in found if row_of(node.op, node.domain).weight_input is not None)


def _leads_on(node: gs.Node) -> bool:
    """Whether what a node makes is of the same stage as what it reads."""
    return _passes_values(node) and not row_of(node.op, node.domain).all_inputs and ends_of_shuffle(node) is None


def _passes_values(node: gs.Node) -> bool:
    row = row_of(node.op, node.domain)
    return row.weight_input is None and (row.pointwise or row.share_scale)
