"""Which integers an input may be fed: indices of a table, marks of a mask, lengths; or that only its owner knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from quantlab.onnx_model import GraphView, TensorSpec, attribute, input_specs

INDEX, SHAPE, LENGTH, MARK, QUANTITY = "index", "shape", "length", "mark", "quantity"
SLOTS: dict[str, dict[int, str]] = {
    "Gather": {1: INDEX}, "GatherElements": {1: INDEX}, "GatherND": {1: INDEX}, "ArrayFeatureExtractor": {1: INDEX},
    "ScatterElements": {1: INDEX}, "ScatterND": {1: INDEX}, "Scatter": {1: INDEX}, "OneHot": {0: INDEX, 1: SHAPE},
    "EmbedLayerNormalization": {0: INDEX, 1: INDEX}, "GatherBlockQuantized": {1: INDEX},
    "LSTM": {4: LENGTH}, "GRU": {4: LENGTH}, "RNN": {4: LENGTH}, "DynamicQuantizeLSTM": {4: LENGTH},
    "ReverseSequence": {1: LENGTH}, "Attention": {3: MARK},
    "Reshape": {1: SHAPE}, "Expand": {1: SHAPE}, "Tile": {1: SHAPE}, "Pad": {1: SHAPE, 3: SHAPE},
    "Slice": {1: SHAPE, 2: SHAPE, 3: SHAPE, 4: SHAPE}, "Range": {0: SHAPE, 1: SHAPE, 2: SHAPE}, "TopK": {1: SHAPE},
    "ConstantOfShape": {0: SHAPE}, "Resize": {3: SHAPE}, "Unsqueeze": {1: SHAPE}, "Squeeze": {1: SHAPE},
    "Split": {1: SHAPE}, "Trilu": {1: SHAPE}, "CumSum": {1: SHAPE}, "NonMaxSuppression": {2: SHAPE},
    "If": {0: SHAPE}, "Loop": {0: SHAPE, 1: SHAPE},
}  # fmt: skip
"""Operator -> input -> what an integer means there. SHAPE: it decides about sizes or about what runs at all."""
_TABLES = {"OneHot": {0: 1}, "EmbedLayerNormalization": {0: 2, 1: 4}}  # elsewhere input 0
_MOVES = {
    "Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Flatten", "Transpose", "Expand", "Slice", "Split", "Concat",
    "Tile", "Gather", "GatherElements", "GatherND", "Pad",
}  # fmt: skip
_COMPUTES = {
    "Add", "Sub", "Mul", "Div", "Mod", "Neg", "Abs", "Min", "Max", "Clip", "Floor", "Ceil", "Round", "CumSum", "Pow",
    "ReduceSum", "ReduceMax", "ReduceMin", "Where",
}  # fmt: skip
_MEASURES = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "QuantizeLinear", "BatchNormalization", "LSTM", "GRU"}
"""Readers of what is a quantity, not a mark: a mask is never multiplied with weights."""
_COMPARES = {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Not", "And", "Or", "Xor"}
_BYTES = {"uint8": (0, 256), "int8": (-128, 128)}
_MARKS = (0, 2)


@dataclass(frozen=True, slots=True)
class IntegerUse:
    """What may be fed to an integer input.

    Attributes:
        low: The smallest valid value.
        high: One more than the largest.
        unknown: Why the valid values cannot be told, or empty.
    """

    low: int = 0
    high: int = 1
    unknown: str = ""


def integer_uses(model: onnx.ModelProto) -> dict[str, IntegerUse]:
    """Follow every input that is not floating point to where its values are used.

    Args:
        model: The network.

    Returns:
        Input name -> what it may be fed: indices of the shortest table that it selects from, 0 and 1 for a mask, 1 for
        a length, any value for an 8-bit picture.
    """
    return {s.name: _use(model, s) for s in input_specs(model) if not np.issubdtype(s.dtype, np.floating)}


def _use(model: onnx.ModelProto, spec: TensorSpec) -> IntegerUse:
    if spec.dtype.kind not in "iub":
        return IntegerUse(unknown=f"it is {spec.dtype.name}")
    view, found = GraphView(model), []
    for node, slot, kind, computed in _uses(view, spec.name):
        if kind == QUANTITY and spec.dtype.name in _BYTES:
            found.append(_BYTES[spec.dtype.name])
        elif kind == QUANTITY and spec.dtype.kind != "b":
            return IntegerUse(unknown=f"it is a quantity that {node.op_type} reads")
        elif kind == SHAPE:
            return IntegerUse(unknown=f"it decides in {node.op_type} what runs, or how large it is")
        elif kind == INDEX:
            if computed:
                return IntegerUse(unknown="an index is computed from it")
            length = _table_length(view, node, slot)
            if length is None:
                return IntegerUse(unknown=f"the length of what {node.op_type} selects from is not known")
            found.append((0, length))
        else:
            found.append((1, 2) if kind == LENGTH else _MARKS)
    found = found or [_MARKS]
    low, high = max(a for a, _ in found), min(b for _, b in found)
    return IntegerUse(low, high) if low < high else IntegerUse(unknown="it is used in ways that exclude each other")


def _uses(view: GraphView, name: str) -> Iterator[tuple[onnx.NodeProto, int, str, bool]]:
    """(node, its input, what an integer means there, whether it was computed) of every use that limits the values.

    Behind a comparison only what runs depends on them; behind all else than moves and plain arithmetic nothing does.
    """
    queue, seen = [(name, "given")], set()
    while queue:
        tensor, state = queue.pop()
        if (tensor, state) in seen:
            continue
        seen.add((tensor, state))
        for node, slot in view.readers.get(tensor, ()):
            op = node.op_type
            if slot in SLOTS.get(op, {}):
                if state != "compared" or op in ("If", "Loop"):
                    yield node, slot, SLOTS[op][slot], state != "given"
            elif op in _MEASURES and state in ("given", "computed"):
                yield node, slot, QUANTITY, False
            elif op in ("Loop", "Scan"):
                queue.append((attribute(node, "body", None).input[slot].name, state))
            elif op in _MOVES:
                queue += [(out, state) for out in node.output]
            elif op in _COMPARES:
                queue += [(out, "compared") for out in node.output]
            elif op in _COMPUTES:
                queue += [(out, _computed(view, node, slot, state)) for out in node.output]


def _computed(view: GraphView, node: onnx.NodeProto, slot: int, state: str) -> str:
    """What the result of arithmetic is: mixed with other tensors it is no longer this input's quantity."""
    if state == "compared" or (node.op_type == "Where" and slot == 0):
        return "compared"
    others = [t for k, t in enumerate(node.input) if k != slot and t]
    return "computed" if state != "mixed" and all(view.is_constant(t) for t in others) else "mixed"


def _table_length(view: GraphView, node: onnx.NodeProto, slot: int) -> int | None:
    """How many entries there are to select from, at least 1; None if that is not known."""
    table = node.input[_TABLES.get(node.op_type, {}).get(slot, 0)]
    if node.op_type == "OneHot":
        depth = view.constant(table)
        return None if depth is None else max(1, int(np.ravel(depth)[0]))
    shape = _shape(view, table)
    if not shape:
        return None
    if node.op_type in ("GatherND", "ScatterND"):
        sizes = list(shape)
    else:
        axis = attribute(node, "axis", -1 if node.op_type == "ArrayFeatureExtractor" else 0)
        sizes = [shape[axis]]
    return min(sizes) if all(size > 0 for size in sizes) else None


def _shape(view: GraphView, tensor: str) -> tuple[int, ...] | None:
    """The shape of a table, -1 for what is dynamic: of a constant, perhaps quantized or cast, or as it is declared."""
    dims = {t.name: tuple(t.dims) for t in view.proto.graph.initializer}
    while tensor not in dims:
        value = view.constant(tensor)
        if value is not None:
            return value.shape
        node = view.producer.get(tensor)
        if node is None or node.op_type not in ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity"):
            return _declared(view.proto).get(tensor)
        tensor = node.input[0]
    return dims[tensor]


def _declared(model: onnx.ModelProto) -> Mapping[str, tuple[int, ...]]:
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {v.name: tuple(d.dim_value if d.dim_value > 0 else -1 for d in v.type.tensor_type.shape.dim) for v in values}
