"""Q/DQ out of a graph: the float model that is behind it, and the scales it had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from quantlab.errors import GraphError
from quantlab.numerics import amax_from_scale
from quantlab.qdq.names import Names
from quantlab.qdq.prepare import export_graph
from quantlab.qdq.rules import RULES


@dataclass(frozen=True, slots=True)
class Stripped:
    """model: float, without Q/DQ. amax: per activation that had a pair. notes: what was more than removal."""

    model: onnx.ModelProto
    amax: Mapping[str, np.float32]
    notes: tuple[str, ...]


def strip(proto: onnx.ModelProto) -> Stripped:
    """Remove every QuantizeLinear and DequantizeLinear.

    A dequantized constant becomes its float values. Asymmetric ranges give `amax = max(|low|, |high|)`. Where a range
    begins at 0 the pair also worked as a Relu (ONNX Runtime removes the Relu before such a pair): the Relu is put back
    unless the tensor cannot be negative anyway. GraphError for a pair that cannot be told apart from the model: int8
    inputs or outputs, computed scales.
    """
    graph = gs.import_onnx(onnx.shape_inference.infer_shapes(proto))
    graph.fold_constants(fold_shapes=False, recurse_subgraphs=False, should_exclude_node=lambda n: n.op in _QDQ)
    names = Names(graph)
    amax: dict[str, np.float32] = {}
    notes: list[str] = []
    for node in [n for n in graph.nodes if n.op == "DequantizeLinear"]:
        _replace(graph, node, names, amax, notes)
    graph.cleanup()
    left = [n for n in graph.nodes if n.op in _QDQ]
    if left:
        raise GraphError(
            f"'{left[0].name or left[0].outputs[0].name}' ({left[0].op}) has no counterpart and cannot be removed",
            hint="the model has int8 inputs or outputs; start from its float version",
        )
    graph.toposort()
    return Stripped(export_graph(graph, proto), amax, tuple(notes))


_QDQ = ("QuantizeLinear", "DequantizeLinear")
_NOT_NEGATIVE = ("Relu", "Sigmoid", "Softmax", "HardSigmoid", "Exp", "Abs", "Sqrt")


def _replace(graph: gs.Graph, dq: gs.Node, names: Names, amax: dict[str, np.float32], notes: list[str]) -> None:
    source, result = dq.inputs[0], dq.outputs[0]
    if isinstance(source, gs.Constant):
        values = _dequantized(source.values, dq)
        _rewire(graph, dq, gs.Constant(names.new(f"{result.name}_float"), values), result)
        return
    q = source.inputs[0] if source.inputs else None
    if q is None or q.op != "QuantizeLinear":
        return
    original = q.inputs[0]
    if isinstance(original, gs.Constant):  # a float weight with Q/DQ: the weight itself
        _rewire(graph, dq, original, result)
        return
    low, high = _range(q)
    amax[original.name] = max(amax.get(original.name, np.float32(0)), np.float32(max(abs(low), abs(high))))
    if low == 0 and not _never_negative(original):
        original = _with_relu(graph, q, original, names, amax)
        note = f"the range of '{q.inputs[0].name}' begins at 0: a Relu takes the place of the zero point"
        notes += [] if note in notes else [note]
    _rewire(graph, dq, original, result)
    if any(result is output for output in graph.outputs) and original.name in amax:
        amax[result.name] = amax[original.name]


def _never_negative(tensor: gs.Tensor) -> bool:
    """Whether the graph shows that a tensor has no negative values."""
    maker = tensor.inputs[0] if tensor.inputs else None
    if maker is None:
        return isinstance(tensor, gs.Constant) and bool((tensor.values >= 0).all())
    if maker.op == "Clip":
        low = maker.inputs[1] if len(maker.inputs) > 1 else None
        return isinstance(low, gs.Constant) and bool((low.values >= 0).all())
    rule = RULES.get(maker.op)
    if rule is not None and (rule.share_scale or rule.pool):
        sources = maker.inputs if maker.op == "Concat" else maker.inputs[:1]
        return all(_never_negative(source) for source in sources)
    return maker.op in _NOT_NEGATIVE


def _with_relu(
    graph: gs.Graph, q: gs.Node, tensor: gs.Tensor, names: Names, amax: dict[str, np.float32]
) -> gs.Variable:
    """The Relu of a tensor, made once."""
    made = next((n for n in tensor.outputs if n.op == "Relu" and n.name.startswith(f"{tensor.name}_Relu")), None)
    if made is None:
        output = gs.Variable(names.new(f"{tensor.name}_relu"), np.float32, tensor.shape)
        made = gs.Node("Relu", names.new(f"{tensor.name}_Relu"), None, [tensor], [output])
        graph.nodes.insert(graph.nodes.index(q), made)
    amax[made.outputs[0].name] = amax[tensor.name]
    return made.outputs[0]


def _rewire(graph: gs.Graph, dq: gs.Node, replacement: gs.Tensor, result: gs.Tensor) -> None:
    """Let everything that read `result` read `replacement`; a graph output keeps its name."""
    is_output = any(result is output for output in graph.outputs)
    if is_output and replacement.inputs and not any(replacement is output for output in graph.outputs):
        dq.outputs = []
        maker = replacement.inputs[0]
        maker.outputs = [result if t is replacement else t for t in maker.outputs]
        replacement, result = result, replacement
        is_output = False
    for reader in list(result.outputs):
        for index, tensor in enumerate(reader.inputs):
            if tensor is result:
                reader.inputs[index] = replacement
    if is_output:  # of a constant, an input, or another output
        position = graph.nodes.index(dq)
        dq.outputs = []
        graph.nodes.insert(position, gs.Node("Identity", f"{result.name}_Identity", None, [replacement], [result]))
    else:
        dq.outputs = []


def _parameters(node: gs.Node) -> tuple[NDArray[np.float64], NDArray[np.float64], np.dtype[np.generic]]:
    """(scale, zero point, integer type) of a Q or DQ node."""
    scale = node.inputs[1]
    if not isinstance(scale, gs.Constant):
        raise GraphError(f"the scale of '{node.name or node.op}' is computed", hint="use static quantization")
    if len(node.inputs) > 2 and isinstance(node.inputs[2], gs.Constant):
        zero_point = node.inputs[2].values
        return scale.values.astype(np.float64), zero_point.astype(np.float64), zero_point.dtype
    return scale.values.astype(np.float64), np.zeros(()), np.dtype(np.uint8)


def _range(q: gs.Node) -> tuple[float, float]:
    """The smallest and largest value that a QuantizeLinear can represent, over all its channels.

    A symmetric int8 range is given without the code -128, so that amax / 127 is its scale again.
    """
    scale, zero_point, dtype = _parameters(q)
    highest = 255 if dtype == np.uint8 else 127
    lowest = 0 if dtype == np.uint8 else (-128 if np.any(zero_point) else -127)
    return float(np.min((lowest - zero_point) * scale)), float(np.max((highest - zero_point) * scale))


def _dequantized(values: NDArray[np.generic], dq: gs.Node) -> NDArray[np.float32]:
    """`(q - zero_point) * scale`. A symmetric code of +-127 becomes +-amax: amax / 127 is then the same scale again."""
    scale, zero_point, _ = _parameters(dq)
    if scale.ndim:
        axis = int(dq.attrs.get("axis", 1)) % values.ndim
        shape = [-1 if a == axis else 1 for a in range(values.ndim)]
        scale = scale.reshape(shape)
        zero_point = zero_point.reshape(shape) if zero_point.ndim else zero_point
    result = np.asarray((values.astype(np.float64) - zero_point) * scale, np.float32)
    if values.dtype != np.int8 or np.any(zero_point) or not (np.isfinite(scale) & (scale >= 0)).all():
        return result
    amax = np.broadcast_to(amax_from_scale(scale.astype(np.float32)), values.shape)
    return np.where(np.abs(values.astype(np.int16)) == 127, np.sign(values) * amax, result).astype(np.float32)
