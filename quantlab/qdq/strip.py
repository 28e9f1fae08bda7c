"""Q/DQ out of a graph: the float model that is behind it, and the scales it had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from quantlab.errors import GraphError
from quantlab.numerics import amax_from_scale
from quantlab.onnx_model import QDQ_OPS, FreshNames, inner_nodes
from quantlab.qdq.graph import DEQUANTIZED, export_graph, fold_around_qdq, fresh_names, node_label
from quantlab.qdq.rewritten import require_not_rewritten
from quantlab.qdq.rules import row_of
from quantlab.qdq.values import codes_of, dequantized, parameters_of, range_of

WeightAmax = tuple[NDArray[np.float32], int | None]
"""The amax of a weight and its axis; None for one amax."""


@dataclass(frozen=True, slots=True)
class Stripped:
    """A model whose Q/DQ were taken out.

    Attributes:
        model: The float model.
        amax: Per activation that had a pair.
        aliases: Tensor of `model` that was made in place of another -> that other, whose amax it has.
        notes: What was more than removal.
        weight_amax: Constants of `model` that had symmetric int8 codes -> their amax, with which those codes come back.
    """

    model: onnx.ModelProto
    amax: Mapping[str, np.float32]
    aliases: Mapping[str, str]
    notes: tuple[str, ...]
    weight_amax: Mapping[str, WeightAmax] = field(default_factory=dict)

    def amax_with_aliases(self, amax: Mapping[str, np.float32]) -> dict[str, np.float32]:
        """`amax` (this model's own, or a table's) for the tensors of `model`."""
        return {**amax, **{new: amax[old] for new, old in self.aliases.items() if old in amax}}


@dataclass
class _Work:
    """What is gathered while a graph is stripped."""

    graph: gs.Graph
    names: FreshNames
    amax: dict[str, np.float32] = field(default_factory=dict)
    clips: dict[str, gs.Variable] = field(default_factory=dict)  # tensor -> its Clip
    notes: dict[str, None] = field(default_factory=dict)
    weight_amax: dict[str, WeightAmax] = field(default_factory=dict)


def strip(proto: onnx.ModelProto) -> Stripped:
    """Remove every QuantizeLinear and DequantizeLinear.

    A dequantized constant becomes its float values. Asymmetric ranges give `amax = max(|low|, |high|)`. Where a range
    begins at 0 the pair also worked as a Relu or a Clip (ONNX Runtime removes such a node before its pair): a Clip to
    the range takes its place, unless the tensor cannot be negative anyway.

    Raises:
        GraphError: Something cannot be taken apart: int8 inputs or outputs, computed or blocked scales, codes other
            than 8 or 16 bits, scales that are no numbers or FP16, pairs in subgraphs.
    """
    require_not_rewritten(proto, "taking out Q/DQ")
    if any(inner.op_type in QDQ_OPS for node in proto.graph.node for inner in inner_nodes(node)):
        raise GraphError("the model has Q/DQ inside If, Loop or Scan", hint="start from its float version")
    graph = fold_around_qdq(proto)
    _drop_clips_of_codes(graph)
    work = _Work(graph, fresh_names(graph))
    for node in [n for n in graph.nodes if n.op == "DequantizeLinear"]:
        _replace(work, node)
    graph.cleanup()
    _follow_transposes(work)
    left = [n for n in graph.nodes if n.op in QDQ_OPS]
    if left:
        raise GraphError(
            f"'{node_label(left[0])}' ({left[0].op}) has no counterpart and cannot be removed",
            hint="the model has int8 inputs, outputs or operators; start from its float version",
        )
    aliases = {clip.name: tensor for tensor, clip in work.clips.items()}
    return Stripped(export_graph(graph, proto), work.amax, aliases, tuple(work.notes), work.weight_amax)


def _drop_clips_of_codes(graph: gs.Graph) -> None:
    """PyTorch's exporter writes Q -> Clip(-127, 127) -> DQ for every weight. Where the codes lie inside it anyway the
    Clip goes, so that the two nodes are a pair again; codes beyond are cut first."""
    for dq in [n for n in graph.nodes if n.op == "DequantizeLinear"]:
        clip = dq.inputs[0].inputs[0] if dq.inputs[0].inputs else None
        if clip is None or clip.op != "Clip" or not clip.inputs[0].inputs:
            continue
        q, bounds = clip.inputs[0].inputs[0], _bounds(clip)
        if q.op != "QuantizeLinear" or bounds is None:
            continue
        if isinstance(q.inputs[0], gs.Constant):
            codes = np.clip(codes_of(q.inputs[0].values, q), *bounds)
            dq.inputs[0] = gs.Constant(f"{clip.outputs[0].name}_codes", codes)
        elif bounds[0] <= -127 and bounds[1] == 127 and parameters_of(q).code_type == np.int8:
            dq.inputs[0] = clip.inputs[0]  # the symmetric range: code -128 stands for no value that amax keeps


def _bounds(clip: gs.Node) -> tuple[int, int] | None:
    """The two ends of a Clip of codes, or None if they are not constant."""
    bounds = clip.inputs[1:3]
    if len(bounds) != 2 or not all(isinstance(b, gs.Constant) and b.values.size == 1 for b in bounds):
        return None
    low, high = (int(b.values.item()) for b in bounds)
    return low, high


_SUFFIXES = (DEQUANTIZED, "_DequantizeLinear_Output", "_dequant")
"""What tools append to a weight's name for its dequantized values: quantlab, ONNX Runtime, PyTorch."""
_ASYMMETRIC = "asymmetric ranges became symmetric: one bit of resolution less, and no cut at their short side"


def _float_name(names: FreshNames, tensor: str) -> str:
    """The name that a weight had before a tool appended to it; a model repaired twice keeps its names."""
    base = next((tensor.removesuffix(s) for s in _SUFFIXES if tensor.endswith(s)), f"{tensor}_float")
    return names.new(base or tensor)


def _replace(work: _Work, dq: gs.Node) -> None:
    source, result = dq.inputs[0], dq.outputs[0]
    if isinstance(source, gs.Constant):
        _put_weight(work, dq, source.values, dq, _float_name(work.names, result.name))
        return
    q = source.inputs[0] if source.inputs else None
    if q is None or q.op != "QuantizeLinear":
        return
    original = q.inputs[0]
    if isinstance(original, gs.Constant):  # a float weight with Q/DQ: what the pair makes of it, scale and all
        name = original.name if len(original.outputs) == 1 else _float_name(work.names, result.name)
        _put_weight(work, dq, codes_of(original.values, q), q, name)
        return
    low, high, symmetric = range_of(q)
    work.amax[original.name] = max(work.amax.get(original.name, np.float32(0)), np.float32(max(abs(low), abs(high))))
    if low == 0 and not _never_negative(original):
        name = original.name
        original = _with_clip(work, q, original, high)
        work.notes[f"the range of '{name}' begins at 0: a Clip takes the place of the zero point"] = None
    elif not symmetric and low != 0:
        work.notes[_ASYMMETRIC] = None
    _rewire(work, dq, original, result)


def _put_weight(work: _Work, dq: gs.Node, codes: NDArray[Any], parameters: gs.Node, name: str) -> None:
    """A constant of float values in place of `dq`. parameters: the node whose scale, zero point and axis hold."""
    constant = gs.Constant(name, dequantized(codes, parameters))
    given = parameters_of(parameters)
    if codes.dtype == np.int8 and given.is_symmetric:
        axis = given.channel_axis(codes.ndim)
        amax = amax_from_scale(given.scale.astype(np.float32))
        work.weight_amax[constant.name] = (amax.reshape(()) if axis is None else amax, axis)
    _rewire(work, dq, constant, dq.outputs[0])


def _follow_transposes(work: _Work) -> None:
    """A weight that is transposed before its layer keeps its scales when the two become one constant."""
    for node in [n for n in work.graph.nodes if n.op == "Transpose"]:
        amax, axis = work.weight_amax.get(node.inputs[0].name, (None, None))
        if amax is not None and isinstance(node.inputs[0], gs.Constant):
            order = list(node.attrs.get("perm", reversed(range(node.inputs[0].values.ndim))))
            work.weight_amax[node.outputs[0].name] = (amax, None if axis is None else order.index(axis))


def _never_negative(tensor: gs.Tensor) -> bool:
    """Whether the graph shows that a tensor has no negative values."""
    maker = tensor.inputs[0] if tensor.inputs else None
    if maker is None:
        return isinstance(tensor, gs.Constant) and bool((tensor.values >= 0).all())
    if maker.op == "Clip":
        low = maker.inputs[1] if len(maker.inputs) > 1 else None
        return isinstance(low, gs.Constant) and bool((low.values >= 0).all())
    row = row_of(maker.op, maker.domain)
    if row.share_scale or row.kernel:
        sources = maker.inputs if row.all_inputs else maker.inputs[:1]
        return all(_never_negative(source) for source in sources)
    return row.not_negative


def _with_clip(work: _Work, q: gs.Node, tensor: gs.Tensor, high: float) -> gs.Variable:
    """The tensor cut to [0, high], made once."""
    if tensor.name not in work.clips:
        output = gs.Variable(work.names.new(f"{tensor.name}_clip"), np.float32, tensor.shape)
        limits = [
            gs.Constant(work.names.new(f"{tensor.name}_{word}"), np.asarray(value, np.float32))
            for word, value in (("low", 0.0), ("high", high))
        ]
        node = gs.Node("Clip", work.names.new(f"{tensor.name}_Clip"), None, [tensor, *limits], [output])
        work.graph.nodes.insert(work.graph.nodes.index(q), node)
        work.clips[tensor.name] = output
    return work.clips[tensor.name]


def _rewire(work: _Work, dq: gs.Node, replacement: gs.Tensor, result: gs.Tensor) -> None:
    """Let everything that read `result` read `replacement`; a graph output keeps its name."""
    outputs = work.graph.outputs
    is_output = any(result is output for output in outputs)
    if is_output and replacement.inputs and not any(replacement is output for output in outputs):
        dq.outputs = []
        maker = replacement.inputs[0]
        maker.outputs = [result if t is replacement else t for t in maker.outputs]
        if replacement.name in work.amax:
            work.amax[result.name] = work.amax.pop(replacement.name)
        for old, clip in list(work.clips.items()):
            if clip is replacement:
                work.clips[old] = result
        replacement, result = result, replacement
        is_output = False
    for reader in list(result.outputs):
        for index, tensor in enumerate(reader.inputs):
            if tensor is result:
                reader.inputs[index] = replacement
    if is_output:  # of a constant, an input, or another output
        position = work.graph.nodes.index(dq)
        dq.outputs = []
        name = work.names.new(f"{result.name}_Identity")
        work.graph.nodes.insert(position, gs.Node("Identity", name, None, [replacement], [result]))
    else:
        dq.outputs = []
