"""Layers that INT8 makes slower because of what stands around them; they stay float unless a user's --include names
them. Measured on an H200 with TensorRT 8.6.0 (tests/bench/probe_fusions.py)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import onnx_graphsurgeon as gs

from quantlab.qdq.activations import FIRST, INT8_OUTPUT_ONLY, ORDINARY, activation_of, kind_of
from quantlab.qdq.draft import Draft
from quantlab.qdq.payoff import no_gain
from quantlab.qdq.rules import row_of

FEW_CHANNELS, FEW_LAYERS = 16, 6
"""So many layers in a row of so few channels are faster in FP16: INT8 pads them to 32 (16 channels, 3x3, 32x32, batch 64:
10.0 against 11.8 us), and the conversions before and behind them cost less than what is gained."""

FEW = no_gain(f"{FEW_LAYERS} layers or more with up to {FEW_CHANNELS} channels in a row, its kernels work on 32")
NO_FLOAT_OUTPUT = no_gain("a depthwise or grouped kernel writes INT8 only, and nothing reads its result in INT8")
FIRST_ALONE = no_gain("it reads the input of the network, and nothing reads its result in INT8")
SHUFFLED = no_gain("it stands beside a channel shuffle, which costs more in INT8 than the layer gains")


def lonely_layers(draft: Draft, does_not_pay: Collection[str]) -> dict[str, str]:
    """Layers that are read in INT8 in a draft and had better not be.

    Args:
        draft: With everything that reads INT8.
        does_not_pay: Nodes for which INT8 is known not to pay.

    Returns:
        Node -> why it stays float.
    """
    reasons = dict.fromkeys((node.name for node in beside_shuffles(draft.graph)), SHUFFLED)
    reasons |= dict.fromkeys((node.name for node in stages_of_few_channels(draft.graph)), FEW)
    found: dict[str, str] = {}
    for node in draft.graph.nodes:
        if (node.name, 0) not in draft.reads:
            continue
        kind = kind_of(node)
        if node.name in reasons:
            found[node.name] = reasons[node.name]
        elif kind in INT8_OUTPUT_ONLY and not _result_is_int8(draft, node):
            found[node.name] = NO_FLOAT_OUTPUT
        elif kind == FIRST and not _result_is_int8(draft, node):
            if any(reader.name in does_not_pay for reader in _layers_behind(node.outputs[0])):
                found[node.name] = FIRST_ALONE
    return found


def _result_is_int8(draft: Draft, node: gs.Node) -> bool:
    """Whether some node reads what a layer makes, or its activation, in INT8."""
    tensor = node.outputs[0]
    while tensor.name not in draft.int8:
        activation = activation_of(draft.graph, tensor)
        if activation is None:
            return False
        tensor = activation.result
    return True


def stages_of_few_channels(graph: gs.Graph) -> Iterator[gs.Node]:
    """Convolutions of few channels that follow each other, where there are enough of them."""
    few = {node.name: node for node in graph.nodes if kind_of(node) == ORDINARY and _has_few_channels(node)}
    stages: list[set[str]] = []
    for name, node in few.items():
        stage = {name, *(other.name for other in _layers_behind(node.outputs[0]) if other.name in few)}
        for joined in [one for one in stages if one & stage]:
            stage |= joined
            stages.remove(joined)
        stages.append(stage)
    yield from (few[name] for stage in stages if len(stage) >= FEW_LAYERS for name in sorted(stage))


def _has_few_channels(conv: gs.Node) -> bool:
    return all(isinstance(size, int) and size <= FEW_CHANNELS for size in conv.inputs[1].shape[:2])


def beside_shuffles(graph: gs.Graph) -> Iterator[gs.Node]:
    """The layers before and behind the channel shuffles of a network (Reshape, Transpose, Reshape)."""
    for node in graph.nodes:
        ends = _ends_of_shuffle(node)
        if ends is not None:
            yield from _layers_before(ends[0])
            yield from _layers_behind(ends[1])


def _ends_of_shuffle(node: gs.Node) -> tuple[gs.Tensor, gs.Tensor] | None:
    """(what is shuffled, the result), if a node is the Transpose in the middle of a channel shuffle."""
    if node.op != "Transpose" or list(node.attrs.get("perm", ()))[:3] != [0, 2, 1]:
        return None
    before = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    behind = node.outputs[0].outputs[0] if len(node.outputs[0].outputs) == 1 else None
    if before is None or behind is None or before.op != "Reshape" or behind.op != "Reshape":
        return None
    rank, inner = len(before.inputs[0].shape or ()), len(node.inputs[0].shape or ())
    if rank not in (3, 4) or inner != rank + 1 or len(behind.outputs[0].shape or ()) != rank:
        return None
    return before.inputs[0], behind.outputs[0]


def _layers_before(tensor: gs.Tensor) -> Iterator[gs.Node]:
    """Back through activations and what joins tensors."""
    for maker in tensor.inputs:
        row = row_of(maker.op, maker.domain)
        if row.weight_input is not None:
            yield maker
        elif row.pointwise or row.share_scale:
            yield from _through(_layers_before, maker.inputs)


def _layers_behind(tensor: gs.Tensor) -> Iterator[gs.Node]:
    """On through activations and what takes tensors apart."""
    for reader in tensor.outputs:
        row = row_of(reader.op, reader.domain)
        if row.weight_input is not None:
            yield reader
        elif _ends_of_shuffle(reader) is None and (row.pointwise or row.share_scale) and not row.all_inputs:
            yield from _through(_layers_behind, reader.outputs)


def _through(follow, tensors: Iterable[gs.Tensor]) -> Iterator[gs.Node]:  # type: ignore[no-untyped-def]
    for tensor in tensors:
        if not isinstance(tensor, gs.Constant):
            yield from follow(tensor)
