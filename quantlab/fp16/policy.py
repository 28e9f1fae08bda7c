"""Which nodes of a model compute in FP16, and why the others stay float32."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from quantlab.fp16.scales import LARGEST
from quantlab.onnx_model import QDQ_OPS, STANDARD_DOMAINS, GraphView, inner_nodes, node_label, opset_of, subgraphs_of
from quantlab.qdq import WEIGHTED

FP32, FP16 = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)

_SUMS = frozenset({
    "Exp", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp",
    "CumSum", "Sinh", "Cosh",
})  # fmt: skip
_BOUNDING = frozenset({
    "Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh", "Erf", "Sqrt", "Log", "Reciprocal", "Sin", "Cos",
    "LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization",
})  # fmt: skip
_INDEX_OPS = frozenset({
    "Cast", "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Floor", "Ceil", "Round", "Mod", "Min", "Max", "Sqrt", "Pow",
    "Exp", "Log", "Reciprocal", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Concat", "Slice",
    "Gather", "Range", "MatMul", "Sin", "Cos",
})  # fmt: skip
_PERIODIC = frozenset({"Sin", "Cos"})  # what they make of a position is an ordinary number
_RETYPED = frozenset({"Cast", "ConstantOfShape", "DequantizeLinear"})  # the conversion sets their output type
_Side = list[tuple[str, bool]]
_EXACT_INTEGERS = frozenset({TensorProto.BOOL, TensorProto.INT8, TensorProto.UINT8})  # FP16 holds all their values


@cache
def _parameters(op: str, domain: str, opset: int) -> tuple[_Side, _Side] | None:
    """(type variable, whether it may be FP16) of the inputs and of the outputs of an operator; None if unknown."""
    if domain not in STANDARD_DOMAINS or not onnx.defs.has(op):
        return None
    schema = onnx.defs.get_schema(op, opset)
    sides = [[(p.type_str, "tensor(float16)" in p.types) for p in side] for side in (schema.inputs, schema.outputs)]
    return sides[0], sides[1]


def _at(side: _Side, position: int) -> tuple[str, bool]:
    return side[min(position, len(side) - 1)]  # the last one may stand for several


class Fp16Policy:
    """Which nodes stay float32.

    Args:
        model: With shapes.
        unfit: Scale -> why it must stay float32, see `Fp16Scales`.

    Attributes:
        nodes: Of the model, in order.
        types: Tensor -> its ONNX element type in the given model.
        casts: Result -> source of every Cast between the two types: they are one tensor.
        reasons: Position of a node that stays float32 -> why.
    """

    def __init__(self, model: onnx.ModelProto, unfit: Mapping[str, str]) -> None:
        graph = model.graph
        self.view, self.unfit, self.nodes = GraphView(model), unfit, list(graph.node)
        self.opset = opset_of(model)
        values = (*graph.value_info, *graph.input, *graph.output)
        self.types = {v.name: v.type.tensor_type.elem_type for v in values if v.type.tensor_type.elem_type}
        self.types |= {t.name: t.data_type for t in graph.initializer}
        # Casts between the two types are taken out: the tensor before and the one after are one
        casts = [n for n in self.nodes if n.op_type == "Cast" and self.is_float(n.input[0])]
        self.casts = {n.output[0]: n.input[0] for n in casts if self.is_float(n.output[0])}
        self.reasons: dict[int, str] = {}
        self._large: dict[str, str] = {}  # tensor that FP16 may not hold -> the node that this began with
        self._exact: set[str] = set()  # computed from integers only
        for number, node in enumerate(self.nodes):
            reason = None if self.is_removed(node) else self._reason(node)
            if reason is not None:
                self.reasons[number] = reason

    def is_float(self, name: str) -> bool:
        """Whether a tensor is float32 or FP16 in the given model."""
        return self.types.get(name) in (FP32, FP16)

    def is_removed(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a Cast between the two types."""
        return bool(node.output) and node.output[0] in self.casts

    def follows_readers(self, number: int) -> bool:
        """Whether a node is a DequantizeLinear that may give either type."""
        node = self.nodes[number]
        free = node.op_type == "DequantizeLinear" and number not in self.reasons
        return free and self.types.get(node.output[0]) == FP32

    def root(self, name: str) -> str:
        """The tensor that Casts between the types made this one of."""
        while name in self.casts:
            name = self.casts[name]
        return name

    def kinds(self, number: int) -> tuple[list[int], list[int]]:
        """The type that each input and each output of a node has from now on, if it is float."""
        node = self.nodes[number]
        sides = None if number in self.reasons else self._parameters(node)
        kinds: list[list[int]] = []
        for k, names in enumerate((node.input, node.output)):
            fits = [sides is not None and _at(sides[k], i)[1] for i in range(len(names))]
            kinds.append(
                [FP16 if fit or self.types.get(n) == FP16 else FP32 for fit, n in zip(fits, names, strict=True)]
            )
        return kinds[0], kinds[1]

    def captured(self, node: onnx.NodeProto) -> list[str]:
        """Float tensors of the main graph that the subgraphs of a node read."""
        names = [n for inner in inner_nodes(node) for n in inner.input]
        names += [o.name for g in subgraphs_of(node) for o in g.output]
        return [n for n in dict.fromkeys(names) if self.is_float(n)]

    def _parameters(self, node: onnx.NodeProto) -> tuple[_Side, _Side] | None:
        return _parameters(node.op_type, node.domain, self.opset)

    def _reason(self, node: onnx.NodeProto) -> str | None:
        quantizes = node.op_type == "QuantizeLinear"  # its codes saturate, whatever it reads
        too_large = self._too_large(node)
        large = [self._large[n] for n in self._sources(node) if n in self._large]
        source = node_label(node) if too_large else next(iter(large), None)
        if source and not quantizes and not self._is_bounding(node):
            self._large.update(dict.fromkeys(node.output, source))
        exact = self._is_exact(node)
        if exact and node.op_type not in _PERIODIC:
            self._exact.update(node.output)
        reason = self._type_reason(node) or too_large or self._pair_reason(node)
        if reason is None and source and not quantizes:
            return f"it reads what '{source}' gives, which FP16 may not hold"
        if reason is None and exact:
            return "it computes with integers, which FP16 holds up to 2048 only"
        return reason

    def _sources(self, node: onnx.NodeProto) -> list[str]:
        """The float inputs that are not constant."""
        names = [self.root(n) for n in node.input if self.is_float(n)]
        return [n for n in names if not self.view.is_constant(n)]

    def _type_reason(self, node: onnx.NodeProto) -> str | None:
        if next(subgraphs_of(node), None) is not None:
            return "its subgraphs are not converted"
        names = [n for n in (*node.input, *node.output) if n]
        if all(self.types.get(n, FP32) != FP32 for n in names):
            return None
        parameters = self._parameters(node)
        if parameters is None:
            return f"whether operator {node.op_type} of domain '{node.domain}' takes FP16 is not known"
        unknown = next((n for n in names if n not in self.types), None)
        if unknown is not None:
            return f"the type of '{unknown}' is not known"
        read = [_at(parameters[0], k) for k, n in enumerate(node.input) if self.types.get(n) == FP32]
        made = [_at(parameters[1], k) for k, n in enumerate(node.output) if self.types.get(n) == FP32]
        if not any(fits for _, fits in (*read, *made)):
            return f"ONNX has no FP16 {node.op_type}"
        given = {_at(parameters[0], k)[0] for k, n in enumerate(node.input) if n}
        loose = any(fits and variable not in given for variable, fits in made)
        if (loose and node.op_type not in _RETYPED) or node.op_type == "BitCast":
            return "its output type is an attribute of its own"
        return None

    def _pair_reason(self, node: onnx.NodeProto) -> str | None:
        """Why a pair stays float32, and with it the layers it feeds: a Cast between them would break their fusion."""
        if node.op_type in QDQ_OPS:
            return self.unfit.get(node.input[1])
        for name in node.input if node.op_type in WEIGHTED else ():
            dq = self.view.maker(name, "DequantizeLinear")
            if dq is not None and dq.input[1] in self.unfit:
                return f"its pair '{node_label(dq)}' stays float32"
        return None

    def _too_large(self, node: onnx.NodeProto) -> str | None:
        """A reason in the values: a constant that FP16 does not hold, or a result that easily exceeds it."""
        if node.op_type in QDQ_OPS:
            scale = self.view.scale(node) if node.op_type == "DequantizeLinear" else None
            beyond = scale is not None and node.input[1] in self.unfit and np.any(scale > 1)
            return self.unfit[node.input[1]] if beyond else None
        constants = [(n, self.view.constant(n)) for n in node.input if self.types.get(n) == FP32]
        if node.op_type == "ConstantOfShape" and node.attribute and node.attribute[0].t.data_type == FP32:
            constants.append(("value", numpy_helper.to_array(node.attribute[0].t)))
        for name, values in constants:
            if values is None or not values.size:
                continue
            with np.errstate(over="ignore"):
                rounded = values.astype(np.float16)
            if np.any(np.isinf(rounded) & np.isfinite(values)):
                return f"its constant '{name}' has values above FP16's {LARGEST:g}"
            if values.size == 1 and node.op_type not in WEIGHTED and np.any(values) and not np.any(rounded):
                return f"its constant '{name}' is {float(values.flat[0]):.3g}, which is 0 in FP16"
        floats = [self.root(n) for n in node.input if self.types.get(n) == FP32]
        square = node.op_type == "Mul" and len(set(floats)) == 1
        power = node.op_type == "Pow" and self._exponent(node) > 1
        if floats and (square or power or node.op_type in _SUMS):
            return f"what {node.op_type} computes easily exceeds FP16"
        return None

    def _exponent(self, node: onnx.NodeProto) -> float:
        """The largest magnitude among the exponents of a Pow; infinite if they are computed."""
        values = self.view.constant(node.input[1])
        return float("inf") if values is None else float(np.abs(values).max(initial=0))

    def _is_bounding(self, node: onnx.NodeProto) -> bool:
        """Whether the result is of ordinary size even where what is read is not."""
        quotient = node.op_type == "Div" and len(self._sources(node)) == 2
        clip = node.op_type == "Clip" and len([n for n in node.input if n]) == 3 and self._too_large(node) is None
        root = node.op_type == "Pow" and self._exponent(node) <= 0.5
        return quotient or clip or root or node.op_type in _BOUNDING

    def _is_exact(self, node: onnx.NodeProto) -> bool:
        """Whether a node computes in float, but from integers only: sizes, positions, masks."""
        kind = self.types.get(node.input[0]) if node.op_type == "Cast" else None
        if kind is not None and kind not in (FP32, FP16, TensorProto.DOUBLE):
            return self.is_float(node.output[0]) and kind not in _EXACT_INTEGERS
        weights = node.op_type == "MatMul" and any(self.view.is_constant(n) for n in node.input)
        sources = self._sources(node)
        return node.op_type in _INDEX_OPS and not weights and bool(sources) and set(sources) <= self._exact
