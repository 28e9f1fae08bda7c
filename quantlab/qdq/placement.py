"""Where Q/DQ goes, as data: which tensors, which weights, which node inputs read them, and why not the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from quantlab.errors import Notice
from quantlab.onnx_model import STANDARD_DOMAINS
from quantlab.qdq.graph import feeds_one_reader
from quantlab.qdq.payoff import does_not_pay
from quantlab.qdq.rules import RULES, QdqRule, row_of
from quantlab.qdq.selection import Selection


@dataclass(frozen=True, slots=True)
class Skipped:
    """A node that stays float.

    Attributes:
        node: Its name.
        op: Its operator.
        reason: Why it stays float.
    """

    node: str
    op: str
    reason: str

    @property
    def lacks(self) -> str:
        """The tensor that has no scale, if that is the reason, else ''."""
        reason = self.reason
        return reason.tensor if isinstance(reason, Notice) and reason.kind == "no_scale" else ""


@dataclass(frozen=True, slots=True)
class WeightSite:
    """A constant input that becomes int8.

    Attributes:
        node: The layer that reads it.
        input: The index of that input.
        tensor: The constant.
        axis: One scale per index of this axis; None for one scale.
    """

    node: str
    input: int
    tensor: str
    axis: int | None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where Q/DQ goes.

    Attributes:
        activations: (node, input index, tensor) that read a per-tensor pair; one pair serves all readers of a tensor.
        weights: The constants that become int8.
        skipped: The nodes that stay float.
        groups: Tensors that take one scale, so that INT8 passes between them unchanged.
    """

    activations: tuple[tuple[str, int, str], ...]
    weights: tuple[WeightSite, ...]
    skipped: tuple[Skipped, ...]
    groups: tuple[tuple[str, ...], ...] = ()

    @property
    def tensors(self) -> tuple[str, ...]:
        """The activation tensors that need a scale, in network order, each once."""
        return tuple(dict.fromkeys(tensor for _, _, tensor in self.activations))

    def per_tensor_weights(self) -> Placement:
        """The same with one scale per weight."""
        return replace(self, weights=tuple(replace(site, axis=None) for site in self.weights))

    def describe(self) -> list[str]:
        """One line per decision, in network order within each kind: for people and for diff."""
        partners = {t: [other for other in group if other != t] for group in self.groups for t in group}
        lines = []
        for tensor in self.tensors:
            readers = ", ".join(f"{node}[{index}]" for node, index, read in self.activations if read == tensor)
            shared = f"; one scale with {', '.join(partners[tensor])}" if tensor in partners else ""
            lines.append(f"activation {tensor}: read by {readers}{shared}")
        for site in self.weights:
            kind = "one scale" if site.axis is None else f"scales along axis {site.axis}"
            lines.append(f"weight {site.tensor}: {site.node}[{site.input}], {kind}")
        return [*lines, *(f"float {s.node} ({s.op}): {s.reason}" for s in self.skipped)]

    def shared_amax(self, amax: Mapping[str, np.float32]) -> dict[str, np.float32]:
        """The amax of every quantized tensor: its own, or the largest of its group."""
        result = {t: amax[t] for t in self.tensors if t in amax}
        for group in self.groups:
            known = [amax[t] for t in group if t in amax]
            result |= dict.fromkeys(group, max(known)) if known else {}
        return result

    def cost_db(self, amax: Mapping[str, np.float32]) -> dict[str, float]:
        """What sharing a scale costs each tensor that gets a coarser one: dB of resolution."""
        shared = self.shared_amax(amax)
        ratios = {t: float(shared[t]) / float(amax[t]) for t in shared if amax.get(t, 0) > 0}
        return {t: float(20 * np.log10(ratio)) for t, ratio in ratios.items() if ratio > 1}


def plan(
    prepared: onnx.ModelProto,
    selection: Selection | None = None,
    scaled: Collection[str] | None = None,
    keep_float: Mapping[str, str] | None = None,
    rules: Mapping[str, QdqRule] = RULES,
) -> Placement:
    """Apply the rules to a prepared model.

    Args:
        prepared: The model, see `prepare`.
        selection: Which nodes to quantize or to leave in float.
        scaled: The tensors that have a scale, where not all can have one.
        keep_float: Nodes that stay float -> why, if the model has them.
        rules: Operator -> rule.

    Returns:
        Where Q/DQ goes.

    Raises:
        GraphError: A pattern of the selection matches no node.
    """
    graph = gs.import_onnx(prepared)
    selection, nodes = selection or Selection(), [(n.name, n.op) for n in graph.nodes]
    inside = {name for name, _ in nodes}
    stay = {name: reason for name, reason in (keep_float or {}).items() if name in inside}
    left_out, asked_for = stay | selection.left_out(nodes), selection.asked_for(nodes)
    order = {node.name: index for index, node in enumerate(graph.nodes)}
    reads: dict[tuple[str, int], str] = {}
    weights: list[WeightSite] = []
    reasons: dict[str, str] = dict(left_out)
    for node in graph.nodes:
        if node.name in left_out:
            continue
        rule = row_of(node.op, node.domain, rules)
        if rule.weight_input is not None:
            reason = _why_not(node, rule) or _without_scale(node, rule, scaled)
            if reason is None and node.name not in asked_for:
                reason = does_not_pay(node)
            if reason is None:
                _read_weighted(node, rule, reads, weights)
        elif row_of(node.op, node.domain).residual:
            reason = _read_residual(node, graph, order, reads, scaled)
        elif not rule.activation_inputs:
            reason = _stays_float(node)
        else:
            continue
        if reason:
            reasons[node.name] = reason
    groups, reasons = _settle(graph, reads, reasons, scaled, rules)
    rows = ((node, index, tensor) for (node, index), tensor in reads.items())
    activations = sorted(rows, key=lambda row: (order[row[0]], row[1]))
    skipped = [Skipped(n.name, n.op, reasons[n.name]) for n in graph.nodes if n.name in reasons]
    quantized = {tensor for _, _, tensor in activations}
    shared = tuple(kept for group in groups if len(kept := tuple(t for t in group if t in quantized)) > 1)
    return Placement(tuple(activations), tuple(weights), tuple(skipped), shared)


def _why_not(node: gs.Node, rule: QdqRule) -> str | None:
    """The reason a weighted node cannot be quantized, or None."""
    assert rule.weight_input is not None
    for index in (*rule.activation_inputs, rule.weight_input):
        tensor = node.inputs[index]
        if isinstance(tensor, gs.Constant) and (tensor.values.dtype != np.float32 or tensor.values.ndim < 2):
            return f"constant input {index} is {tensor.values.dtype} with {tensor.values.ndim} dimension(s)"
        if (other := _other_type(tensor)) is not None:
            return f"input {index} ('{tensor.name}') is {other}, not float32"
    if not rule.dynamic_weight and not isinstance(node.inputs[rule.weight_input], gs.Constant):
        return "its weight is computed at run time, TensorRT needs a constant for INT8"
    if all(isinstance(node.inputs[i], gs.Constant) for i in rule.activation_inputs) and not rule.dynamic_weight:
        return "its input is constant"
    return None


def _without_scale(node: gs.Node, rule: QdqRule, scaled: Collection[str] | None) -> str | None:
    assert rule.weight_input is not None
    operands = [node.inputs[i] for i in (*rule.activation_inputs, rule.weight_input)]
    return next((_no_scale(t.name) for t in operands if not isinstance(t, gs.Constant) and _lacks(t, scaled)), None)


def _lacks(tensor: gs.Tensor, scaled: Collection[str] | None) -> bool:
    return scaled is not None and tensor.name not in scaled


def _no_scale(tensor: str) -> Notice:
    return Notice(f"tensor '{tensor}' has no scale", "no_scale", tensor)


def _read_weighted(node: gs.Node, rule: QdqRule, reads: dict[tuple[str, int], str], weights: list[WeightSite]) -> None:
    assert rule.weight_input is not None
    for index in (*rule.activation_inputs, rule.weight_input):
        tensor = node.inputs[index]
        if not isinstance(tensor, gs.Constant):
            reads[node.name, index] = tensor.name
        else:  # a constant first operand of MatMul has no channel axis that TensorRT knows
            axis = rule.axis(node.attrs, tensor.values.ndim) if index == rule.weight_input else None
            weights.append(WeightSite(node.name, index, tensor.name, axis))


def _read_residual(
    node: gs.Node,
    graph: gs.Graph,
    order: Mapping[str, int],
    reads: dict[tuple[str, int], str],
    scaled: Collection[str] | None,
) -> str | None:
    """Read the skip branch of a residual Add as INT8, or give the reason why there is none.

    TensorRT fuses the addition into the convolution that runs last; that branch must stay float up to the Add.
    """
    branches = node.inputs
    if any(isinstance(t, gs.Constant) for t in branches):
        return "it adds a constant, which TensorRT fuses"
    if any(_other_type(t) is not None for t in branches):
        return "its inputs are not float32"
    if branches[0] is branches[1]:
        return "both inputs are the same tensor"
    if _broadcasts(branches[0], branches[1]):
        return "one input is broadcast over the other"
    fusing = [i for i, t in enumerate(branches) if feeds_one_reader(graph, t) and _is_int8_convolution(t, reads)]
    if not fusing:
        return "neither input is an INT8 convolution whose kernel could take the addition"
    skip = 1 - max(fusing, key=lambda i: order[branches[i].inputs[0].name])
    if _lacks(branches[skip], scaled):
        return _no_scale(branches[skip].name)
    reads[node.name, skip] = branches[skip].name
    return None


def _is_int8_convolution(tensor: gs.Tensor, reads: Mapping[tuple[str, int], str]) -> bool:
    """Whether a tensor is made by a convolution that is quantized."""
    maker = tensor.inputs[0] if tensor.inputs else None
    return maker is not None and (maker.name, 0) in reads and row_of(maker.op, maker.domain).epilogue


def _other_type(tensor: gs.Tensor) -> str | None:
    """The name of a known type other than float32; None for float32 and unknown ones."""
    if tensor.dtype is None:
        return None
    if isinstance(tensor.dtype, int):  # a type that numpy does not have
        return str(onnx.TensorProto.DataType.Name(tensor.dtype)).lower()
    name: str = np.dtype(tensor.dtype).name
    return None if name == "float32" else name


def _broadcasts(a: gs.Tensor, b: gs.Tensor) -> bool:
    """True where known dimensions differ, or one is 1 and the other dynamic; two dynamic ones are taken as equal."""
    if a.shape is None or b.shape is None:
        return False
    pairs = list(zip(a.shape, b.shape, strict=False))
    return len(a.shape) != len(b.shape) or any(
        m != n and (1 in (m, n) or (isinstance(m, int) and isinstance(n, int))) for m, n in pairs
    )


def _settle(
    graph: gs.Graph,
    reads: dict[tuple[str, int], str],
    reasons: dict[str, str],
    scaled: Collection[str] | None,
    rules: Mapping[str, QdqRule],
) -> tuple[list[tuple[str, ...]], dict[str, str]]:
    """`_read_through` until nothing changes: what one node reads in INT8 can let another of the same tensor pass."""
    while True:
        before, found = len(reads), dict(reasons)
        groups = _read_through(graph, reads, found, scaled, rules)
        if len(reads) == before:
            return groups, found


def _read_through(
    graph: gs.Graph,
    reads: dict[tuple[str, int], str],
    reasons: dict[str, str],
    scaled: Collection[str] | None,
    rules: Mapping[str, QdqRule],
) -> list[tuple[str, ...]]:
    """Extend INT8 backwards through pooling and operators that only move values; the groups of one scale.

    Such a node reads INT8 if a result of it is read in INT8 and either it has an INT8 kernel (a pooling, a Concat), or
    its input is quantized anyway: then float and INT8 copies of one tensor need not both be written.
    """
    groups: list[set[str]] = []
    int8 = set(reads.values())  # tensors that are read in INT8, at once or behind nodes that only move them
    for node in reversed(graph.nodes):
        rule = row_of(node.op, node.domain, rules)
        if not rule.activation_inputs or rule.weight_input is not None or node.name in reasons:
            continue
        wanted = any(t.name in int8 for t in node.outputs)
        indices = range(len(node.inputs)) if rule.all_inputs else rule.activation_inputs
        inputs = {i: node.inputs[i] for i in indices}
        reason = _cannot_pass(node, inputs)
        if reason or not wanted:
            reasons[node.name] = reason or "its result is not read in INT8"
            continue
        names = {t.name for t in inputs.values()}
        passes = rule.kernel or bool(names & set(reads.values()))
        lacking = [t.name for t in inputs.values() if _lacks(t, scaled)]
        if passes and lacking:
            reasons[node.name] = _no_scale(lacking[0])
            continue
        int8 |= names
        if rule.share_scale:
            _join(groups, {*names, *(t.name for t in node.outputs)})
        if passes:
            reads.update({(node.name, i): t.name for i, t in inputs.items()})
        else:
            reasons[node.name] = "TensorRT moves the quantization before it"
    return [tuple(sorted(group)) for group in groups]


def _cannot_pass(node: gs.Node, inputs: Mapping[int, gs.Tensor]) -> str | None:
    for index, tensor in inputs.items():
        if isinstance(tensor, gs.Constant):
            return f"input {index} is constant"
        if (other := _other_type(tensor)) is not None:
            return f"it moves {other} values"
    if node.op == "Resize" and node.attrs.get("mode", "nearest") != "nearest":
        return "it interpolates, which needs more than 8 bits"
    if node.op == "Pad":
        value = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2].name else None
        if value is not None and not (isinstance(value, gs.Constant) and not np.any(value.values)):
            return "it pads with a value other than 0"
    return None


def _join(groups: list[set[str]], names: Iterable[str]) -> None:
    """Put `names` into one group, with every group that holds one of them."""
    joined = set(names)
    for group in [g for g in groups if g & joined]:
        joined |= group
        groups.remove(group)
    groups.append(joined)


def _stays_float(node: gs.Node) -> str:
    if any(isinstance(v, gs.Graph) for v in node.attrs.values()):
        return "it holds a subgraph, whose nodes are left alone"
    if node.domain not in STANDARD_DOMAINS:
        return f"custom domain '{node.domain}'"
    return row_of(node.op, node.domain).why_float or f"no rule quantizes {node.op}"
