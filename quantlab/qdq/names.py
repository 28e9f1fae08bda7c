"""Names for new tensors and nodes."""

from __future__ import annotations

import onnx_graphsurgeon as gs


class Names:
    """New tensor names that collide with none in the graph."""

    def __init__(self, graph: gs.Graph) -> None:
        self._used = _names(graph)

    def new(self, base: str) -> str:
        """`base`, or `base` with a number."""
        name, number = base, 0
        while name in self._used:
            number += 1
            name = f"{base}_{number}"
        self._used.add(name)
        return name


def _names(graph: gs.Graph) -> set[str]:
    """Tensors and nodes, those of subgraphs too: ONNX wants all of them to be different."""
    inside = [v for node in graph.nodes for v in node.attrs.values() if isinstance(v, gs.Graph)]
    own = set(graph.tensors()) | {node.name for node in graph.nodes}
    return own.union(*(_names(subgraph) for subgraph in inside))
