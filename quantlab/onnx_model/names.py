"""Names that are still free in a graph."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from quantlab.onnx_model.nodes import all_nodes


class FreshNames:
    """Hands out names that collide with none of `used`, nor with one another.

    Args:
        used: The names that are taken.
    """

    def __init__(self, used: Iterable[str]) -> None:
        self._used = set(used)

    def new(self, base: str) -> str:
        """`base` if it is free, else `base_1`, `base_2`, ..."""
        if base in self._used:
            return self._first_free(base, 1)
        self._used.add(base)
        return base

    def numbered(self, base: str) -> str:
        """`base_0`, or the first higher number that is free: for things that have no name of their own."""
        return self._first_free(base, 0)

    def _first_free(self, base: str, start: int) -> str:
        number = start
        while f"{base}_{number}" in self._used:
            number += 1
        self._used.add(f"{base}_{number}")
        return f"{base}_{number}"


def unique_names(nodes: Iterable[tuple[str, str]]) -> list[str]:
    """A name for every node that no other has: its own where it is the first with it, else a numbered one.

    Args:
        nodes: (name, operator) of the nodes of one graph; a name may be empty.

    Returns:
        As many names, in the same order.
    """
    nodes = list(nodes)
    fresh = FreshNames(name for name, _ in nodes if name)
    seen: set[str] = set()
    names = []
    for name, op in nodes:
        names.append(fresh.numbered(name or op) if not name or name in seen else name)
        seen.add(names[-1])
    return names


def tensor_names(proto: onnx.ModelProto) -> set[str]:
    """Every tensor name of a model, those of subgraphs too."""
    graph = proto.graph
    names = {name for node in all_nodes(graph) for name in (*node.input, *node.output)}
    return names.union(v.name for v in (*graph.input, *graph.output, *graph.initializer)) - {""}
