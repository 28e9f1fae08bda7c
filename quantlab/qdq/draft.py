"""A placement in the making."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import onnx_graphsurgeon as gs

from quantlab.errors import Notice
from quantlab.qdq.names import calibrated_name
from quantlab.qdq.placement import Placement, Skipped, WeightSite
from quantlab.qdq.rules import QdqRule, row_of


@dataclass
class Draft:
    """What is decided so far.

    Attributes:
        graph: The prepared model.
        rules: Operator -> rule.
        scaled: The tensors that have a scale; None where all can have one.
        reads: (node, input index) -> the tensor that it reads in INT8; added by `read`.
        why: (node, input index) -> the rule that decided.
        weights: The constants that become int8.
        sums: Adds that no kernel takes and that read INT8 where their result is read in INT8.
        int8: The tensors that are read in INT8, at once or behind nodes that only move them.
    """

    graph: gs.Graph
    rules: Mapping[str, QdqRule]
    scaled: Collection[str] | None = None
    reads: dict[tuple[str, int], str] = field(default_factory=dict)
    why: dict[tuple[str, int], str] = field(default_factory=dict)
    weights: list[WeightSite] = field(default_factory=list)
    sums: set[str] = field(default_factory=set)
    int8: set[str] = field(default_factory=set)

    @cached_property
    def order(self) -> dict[str, int]:
        """Node name -> its place in the network."""
        return {node.name: index for index, node in enumerate(self.graph.nodes)}

    def read(self, node: gs.Node, index: int, why: str) -> None:
        """Let a node read an input in INT8.

        Args:
            node: The node.
            index: Of its input.
            why: The rule, in a few words; the first one counts.
        """
        self.reads[node.name, index] = node.inputs[index].name
        self.why.setdefault((node.name, index), why)

    def holds(self, node: gs.Node) -> bool:
        """Whether a node is one of this graph, not of a branch of an If."""
        return node.name in self.order and self.graph.nodes[self.order[node.name]] is node

    def is_read_by(self, node: gs.Node) -> bool:
        """Whether a node reads any of its inputs in INT8."""
        return any((node.name, index) in self.reads for index in range(len(node.inputs)))

    def is_moved(self, node: gs.Node) -> bool:
        """Whether a node only moves values to where they are read in INT8."""
        return self.rule(node).share_scale and all(tensor.name in self.int8 for tensor in node.outputs)

    def rule(self, node: gs.Node) -> QdqRule:
        """The rule for a node; an empty row where it stays float."""
        return row_of(node.op, node.domain, self.rules)

    def missing_scale(self, tensors: Iterable[gs.Tensor]) -> Notice | None:
        """The reason why tensors cannot all be read in INT8, if one has no scale; constants need none."""
        for tensor in tensors:
            name = calibrated_name(tensor.name, self.scaled or ())
            if self.scaled is not None and not isinstance(tensor, gs.Constant) and name not in self.scaled:
                return Notice(f"tensor '{name}' has no scale", "no_scale", name)
        return None

    def placement(self, groups: Iterable[tuple[str, ...]], reasons: Mapping[str, str]) -> Placement:
        """Everything in network order.

        Args:
            groups: Tensors that take one scale, quantized or not.
            reasons: Node -> why it stays float.

        Returns:
            The placement, with the groups of what is quantized.
        """
        rows = ((node, index, tensor) for (node, index), tensor in self.reads.items())
        activations = sorted(rows, key=lambda row: (self.order[row[0]], row[1]))
        skipped = [Skipped(n.name, n.op, reasons[n.name]) for n in self.graph.nodes if n.name in reasons]
        quantized = {tensor for _, _, tensor in activations}
        shared = [tuple(tensor for tensor in group if tensor in quantized) for group in groups]
        kept = tuple(group for group in shared if len(group) > 1)
        return Placement(tuple(activations), tuple(self.weights), tuple(skipped), kept, self.why)
