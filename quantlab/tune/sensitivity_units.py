"""What can be asked how sensitive it is: layers, tensors, classes of nodes, and everything at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from quantlab.qdq.classes import FIRST_LAYER, LAST_LAYER, node_classes
from quantlab.qdq.rules import WEIGHTED
from quantlab.tune.switched_graph import Site, SwitchedGraph

LAYER, TENSOR, CLASS, ALL = "layer", "tensor", "class", "all"
KINDS = (ALL, LAYER, TENSOR, CLASS)
"""The kinds of units: a weighted node with all that it reads; an activation for all its readers; an ablation."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Sites that go into INT8 together.

    Attributes:
        kind: One of KINDS.
        name: Of the node, tensor or class; unique within a kind.
        op: The operator of a layer, else ''.
        sites: In network order.
    """

    kind: str
    name: str
    op: str
    sites: tuple[Site, ...]

    @property
    def key(self) -> tuple[str, str]:
        """(kind, name), by which it is known in files."""
        return self.kind, self.name

    @property
    def has_rest(self) -> bool:
        """Whether INT8 everywhere but there is asked too."""
        return self.kind == CLASS


def units_of(graph: SwitchedGraph) -> tuple[Unit, ...]:
    """The units of a network: everything, layers, tensors, classes, each kind in network order."""
    sites = graph.sites
    ops = {node.name: str(node.op_type) for node in graph.prepared.graph.node}
    layers = [node for node in dict.fromkeys(site.node for site in sites) if ops[node] in WEIGHTED]
    return (
        Unit(ALL, "everything", "", sites),
        *(Unit(LAYER, node, ops[node], tuple(s for s in sites if s.node == node)) for node in layers),
        *(Unit(TENSOR, t, "", _readers(sites, t)) for t in graph.placement.tensors),
        *_classes(graph, layers),
    )


def _readers(sites: Collection[Site], tensor: str) -> tuple[Site, ...]:
    return tuple(site for site in sites if site.tensor == tensor and not site.is_weight)


def _classes(graph: SwitchedGraph, layers: list[str]) -> Iterator[Unit]:
    members: dict[str, set[str]] = {}
    if layers:
        members |= {FIRST_LAYER: {layers[0]}, LAST_LAYER: {layers[-1]}}
    for node, name in node_classes(graph.prepared, graph.placement).items():
        members.setdefault(name, set()).add(node)
    for name, nodes in members.items():
        yield Unit(CLASS, name, "", tuple(site for site in graph.sites if site.node in nodes))


def rest_of(unit: Unit, graph: SwitchedGraph) -> tuple[Site, ...]:
    """The sites that are not of a unit.

    Args:
        unit: The unit.
        graph: The network.

    Returns:
        In network order.
    """
    inside = set(unit.sites)
    return tuple(site for site in graph.sites if site not in inside)
