"""Constants of a model that are no numbers to compute with: NaN and infinity in weights, biases and scales.

A mask is another thing: attention adds -inf where a token must not look, and a Clip may have no end. So infinity counts
where an operator multiplies with its constants or normalizes by them, NaN also where it adds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantlab.errors import GraphError
from quantlab.onnx_model.nodes import QDQ_OPS, all_nodes, node_label, subgraphs_of

_WEIGHTED = frozenset(
    {
        *QDQ_OPS, "Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN", "PRelu", "DeformConv",
        "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization",
    }
)  # fmt: skip
"""Operators whose constants must be finite."""
_SUMS = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Sum"})
"""Operators whose constants must not be NaN; infinite ones are masks."""
_MOVES = frozenset({"Identity", "Transpose", "Reshape", "Cast", "Unsqueeze", "Squeeze", "Flatten", *QDQ_OPS})
"""Operators through which a constant stays what it is."""
_VALUES = ("value", "value_float", "value_floats")


@dataclass(frozen=True, slots=True)
class NotFinite:
    """A constant that no result should depend on.

    Attributes:
        tensor: Its name.
        node: The label of the node that computes with it.
        what: `NaN` or `infinity`.
        count: How many of its values.
        size: Of all its values.
    """

    tensor: str
    node: str
    what: str
    count: int
    size: int

    def __str__(self) -> str:
        return f"constant '{self.tensor}' of node '{self.node}' has {self.what} ({self.count} of {self.size} values)"


def not_finite(proto: onnx.ModelProto) -> Iterator[NotFinite]:
    """Every weight, bias, scale or addend with NaN or infinity, once per constant, in network order."""
    constants, makers = _constants(proto)
    known: dict[str, tuple[str, int, int] | None] = {}
    seen = set[str]()
    for node in all_nodes(proto.graph):
        if node.op_type not in _WEIGHTED and node.op_type not in _SUMS:
            continue
        for name in node.input:
            root = _root(name, makers)
            if root in seen or root not in constants:
                continue
            if root not in known:
                known[root] = _fault(constants[root])
            fault = known[root]
            if fault is not None and (fault[0] == "NaN" or node.op_type in _WEIGHTED):
                seen.add(root)
                yield NotFinite(root, node_label(node), *fault)


def require_finite(proto: onnx.ModelProto, what: str = "the model") -> None:
    """Refuse a model with NaN or infinity in a weight, bias or scale.

    Args:
        proto: The model.
        what: What it is called in the error.

    Raises:
        GraphError: It has such a constant; it is named.
    """
    found = list(not_finite(proto))
    if found:
        more = f"; {len(found) - 1} more constants have such values" if len(found) > 1 else ""
        raise GraphError(f"{what}: {found[0]}{more}", hint="quantlab lint lists them; export or train the model again")


def _constants(proto: onnx.ModelProto) -> tuple[dict[str, onnx.TensorProto | NDArray[Any]], dict[str, str]]:
    """All constants by name, those of subgraphs too; and tensor -> what it is moved from."""
    graphs = [proto.graph, *(graph for node in proto.graph.node for graph in subgraphs_of(node))]
    constants: dict[str, onnx.TensorProto | NDArray[Any]] = {}
    moved: dict[str, str] = {}
    for graph in graphs:
        constants |= {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name in _VALUES:
                given = onnx.helper.get_attribute_value(node.attribute[0])
                constants[node.output[0]] = given if isinstance(given, onnx.TensorProto) else np.asarray(given)
            elif node.op_type in _MOVES and node.input:
                moved[node.output[0]] = node.input[0]
    return constants, moved


def _root(name: str, moved: dict[str, str]) -> str:
    for _ in range(len(moved)):
        if name not in moved:
            break
        name = moved[name]
    return name


def _fault(constant: onnx.TensorProto | NDArray[Any]) -> tuple[str, int, int] | None:
    """(what, how many, of how many), or None if all values are finite."""
    if isinstance(constant, onnx.TensorProto):
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(constant.data_type))
        if dtype.kind in "iubOSU":
            return None
        constant = numpy_helper.to_array(constant)
    values = constant.astype(np.float64) if constant.dtype.kind not in "fc" else constant  # bfloat16, float8
    nans = int(np.isnan(values).sum())
    bad = nans or int((~np.isfinite(values)).sum())
    return ("NaN" if nans else "infinity", bad, values.size) if bad else None
