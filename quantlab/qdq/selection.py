"""Which nodes a user wants in INT8 or in float: by name, glob, operator, first or last layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from quantlab.errors import ConfigError, GraphError
from quantlab.nearest import nearest
from quantlab.qdq.rules import WEIGHTED


@dataclass(frozen=True, slots=True)
class Selection:
    """Which nodes are quantized.

    A pattern is a node name with wildcards, `op:Gemm`, `first` or `last` (of Conv, ConvTranspose, Gemm and MatMul).

    Attributes:
        include: If any are given, only matching weighted nodes are quantized, also those for which INT8 does not pay
            (see `quantlab.qdq.payoff`).
        exclude: Matching nodes stay float.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            patterns = getattr(self, name)
            if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
                raise ConfigError(
                    f"{name} of a Selection is {patterns!r}, expected patterns", hint=f"Selection({name}=('op:Gemm',))"
                )

    def left_out(self, nodes: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Node name -> reason for every node that stays float, of (name, operator) in network order.

        GraphError for a pattern that matches nothing: a typing error must not pass for a decision.
        """
        weighted = [name for name, op in nodes if op in WEIGHTED]
        out: dict[str, str] = {}
        if self.include:
            kept = self.asked_for(nodes)
            out |= {name: "not included" for name in weighted if name not in kept}
        for pattern in self.exclude:
            out |= dict.fromkeys(_matches(pattern, nodes, weighted), f"excluded by '{pattern}'")
        return out

    def asked_for(self, nodes: Sequence[tuple[str, str]]) -> set[str]:
        """Names of the nodes that `include` matches."""
        weighted = [name for name, op in nodes if op in WEIGHTED]
        return {name for pattern in self.include for name in _matches(pattern, nodes, weighted)}


EVERYTHING = Selection(include=("*",))
"""Also the layers for which INT8 does not pay."""


def exactly(name: str) -> str:
    """The pattern that matches a node of this name and no other."""
    first, rest = name[:1], "".join(f"[{c}]" if c in "*?[" else c for c in name[1:])
    is_word = name in ("first", "last") or name.startswith("op:")
    return (f"[{first}]" if is_word or first in tuple("*?[") else first) + rest


def _matches(pattern: str, nodes: Sequence[tuple[str, str]], weighted: Sequence[str]) -> list[str]:
    if not nodes:
        return []
    if pattern in ("first", "last") and weighted:
        return [weighted[0 if pattern == "first" else -1]]
    if pattern.startswith("op:"):
        found = [name for name, op in nodes if op == pattern[3:]]
    else:
        found = [name for name, _ in nodes if name == pattern or fnmatchcase(name, pattern)]
    if not found:
        example = weighted[0] if weighted else nodes[0][0]
        question = nearest(pattern, [*("first", "last"), *(f"op:{op}" for _, op in nodes), *(n for n, _ in nodes)])
        raise GraphError(
            f"no node matches '{pattern}'",
            hint=f"{question}patterns are node names with * and ? (such as '{example}'), op:TYPE, first or last",
        )
    return found
