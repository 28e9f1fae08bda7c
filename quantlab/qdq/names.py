"""Names for new tensors and nodes."""

from __future__ import annotations

import onnx_graphsurgeon as gs


class Names:
    """New tensor names that collide with none in the graph."""

    def __init__(self, graph: gs.Graph) -> None:
        self._used = set(graph.tensors()) | {node.name for node in graph.nodes}

    def new(self, base: str) -> str:
        """`base`, or `base` with a number."""
        name, number = base, 0
        while name in self._used:
            number += 1
            name = f"{base}_{number}"
        self._used.add(name)
        return name
