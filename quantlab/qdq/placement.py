"""Where Q/DQ goes, as data: which tensors, which weights, which node inputs read them, and why not the others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from quantlab.errors import GraphError
from quantlab.qdq.rules import EPILOGUE_OPS, RULES, QdqRule


@dataclass(frozen=True, slots=True)
class Skipped:
    """A node that stays float, and why."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True, slots=True)
class WeightSite:
    """A constant input that becomes int8 with one scale per index of `axis`."""

    node: str
    input: int
    tensor: str
    axis: int


@dataclass(frozen=True, slots=True)
class Placement:
    """activations: (node, input index, tensor) that read a per-tensor Q/DQ; one pair serves all readers of a tensor."""

    activations: tuple[tuple[str, int, str], ...]
    weights: tuple[WeightSite, ...]
    skipped: tuple[Skipped, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """The activation tensors that need a scale, in network order, each once."""
        return tuple(dict.fromkeys(tensor for _, _, tensor in self.activations))


def plan(prepared: onnx.ModelProto, exclude: Collection[str] = ()) -> Placement:
    """Apply the rules to a prepared model. exclude: names of nodes to leave in float."""
    graph = gs.import_onnx(prepared)
    order = {node.name: index for index, node in enumerate(graph.nodes)}
    if unknown := sorted(set(exclude) - set(order)):
        raise GraphError(
            f"there is no node named '{unknown[0]}' to exclude",
            hint=f"node names look like '{next(iter(order))}'",
        )
    activations: list[tuple[str, int, str]] = []
    weights: list[WeightSite] = []
    skipped: list[Skipped] = []
    for node in graph.nodes:
        rule = RULES.get(node.op)
        if node.name in exclude:
            skipped.append(Skipped(node.name, node.op, "excluded by name"))
        elif rule is not None:
            reason = _why_not(node, rule)
            if reason:
                skipped.append(Skipped(node.name, node.op, reason))
                continue
            for index in (*rule.activation_inputs, *([] if rule.weight_input is None else [rule.weight_input])):
                tensor = node.inputs[index]
                if not isinstance(tensor, gs.Constant):
                    activations.append((node.name, index, tensor.name))
                else:
                    axis = rule.axis(node.attrs, tensor.values.ndim) if index == rule.weight_input else -2
                    weights.append(WeightSite(node.name, index, tensor.name, axis % tensor.values.ndim))
        elif node.op == "Add" and (residual := _residual(node, graph, order)) is not None:
            if isinstance(residual, str):
                skipped.append(Skipped(node.name, node.op, residual))
            else:
                activations.append((node.name, residual, node.inputs[residual].name))
        else:
            skipped.append(Skipped(node.name, node.op, _stays_float(node)))
    return Placement(tuple(activations), tuple(weights), tuple(skipped))


def _why_not(node: gs.Node, rule: QdqRule) -> str | None:
    """The reason a node with a rule cannot be quantized, or None."""
    for index in (*rule.activation_inputs, rule.weight_input or 0):
        tensor = node.inputs[index]
        dtype = tensor.dtype
        if isinstance(tensor, gs.Constant) and (tensor.values.dtype != np.float32 or tensor.values.ndim < 2):
            return f"constant input {index} is {tensor.values.dtype} with {tensor.values.ndim} dimension(s)"
        if dtype is not None and np.dtype(dtype) != np.float32:
            return f"input {index} ('{tensor.name}') is {np.dtype(dtype).name}, not float32"
    if all(isinstance(node.inputs[i], gs.Constant) for i in rule.activation_inputs) and node.op != "MatMul":
        return "its input is constant"
    return None


def _residual(node: gs.Node, graph: gs.Graph, order: dict[str, int]) -> int | str | None:
    """Index of the skip branch of a residual Add; a reason if it has none; None if the Add is not a residual one.

    TensorRT fuses the addition into the convolution that runs last; that branch must stay float up to the Add, the
    other one is read as INT8.
    """
    branches = node.inputs
    if any(isinstance(t, gs.Constant) or (not t.inputs and t not in graph.inputs) for t in branches):
        return None
    if any(t.dtype is not None and np.dtype(t.dtype) != np.float32 for t in branches):
        return "its inputs are not float32"
    if branches[0] is branches[1]:
        return "both inputs are the same tensor"
    if _broadcasts(branches[0], branches[1]):
        return "one input is broadcast over the other"
    epilogue = [
        i for i, t in enumerate(branches)
        if t.inputs and t.inputs[0].op in EPILOGUE_OPS and len(t.outputs) == 1 and t not in graph.outputs
    ]  # fmt: skip
    if not epilogue:
        return "neither input is a convolution whose kernel could take the addition"
    return 1 - max(epilogue, key=lambda i: order[branches[i].inputs[0].name])


def _broadcasts(a: gs.Tensor, b: gs.Tensor) -> bool:
    """True where known dimensions differ, or one is 1 and the other dynamic; two dynamic ones are taken as equal."""
    if a.shape is None or b.shape is None:
        return False
    pairs = list(zip(a.shape, b.shape, strict=False))
    return len(a.shape) != len(b.shape) or any(
        m != n and (1 in (m, n) or (isinstance(m, int) and isinstance(n, int))) for m, n in pairs
    )


def _stays_float(node: gs.Node) -> str:
    if any(isinstance(v, gs.Graph) for v in node.attrs.values()):
        return "it holds a subgraph, whose nodes are left alone"
    if node.domain not in (None, "", "ai.onnx"):
        return f"custom domain '{node.domain}'"
    return f"no rule quantizes {node.op}"
