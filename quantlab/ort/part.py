"""The part of a model that ONNX Runtime can run: what does not depend on an operator that it does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as state

from quantlab.errors import GraphError, Notice
from quantlab.onnx_model import STANDARD_DOMAINS, copy_model, inner_nodes, node_label, set_shapes, subgraphs_of

_SHOWN = 3


@cache
def _operators() -> frozenset[tuple[str, str]] | None:
    """(domain, operator) of all that runs on the CPU: with a kernel, or written out by ONNX as other operators; None of
    a build of ONNX Runtime that does not tell."""
    if not hasattr(state, "get_all_opkernel_def"):
        return None
    kernels = {(k.domain, k.op_name) for k in state.get_all_opkernel_def() if k.provider == "CPUExecutionProvider"}
    schemas: list[Any] = list(onnx.defs.get_all_schemas_with_history())
    functions = {(s.domain, s.name) for s in schemas if s.has_function or s.has_context_dependent_function}
    return frozenset(kernels | functions | {("", "Constant")})


def is_known(op: str, domain: str | None) -> bool:
    """Whether ONNX Runtime runs an operator on the CPU.

    Args:
        op: The operator.
        domain: Of the node, None for the default one.

    Returns:
        Whether it does; True where that cannot be known.
    """
    known = _operators()
    return known is None or ("" if domain in STANDARD_DOMAINS else str(domain), op) in known


@dataclass(frozen=True, slots=True)
class Beyond:
    """What ONNX Runtime cannot compute of a model.

    Attributes:
        nodes: The nodes that it has no operator for, those with such a node in a subgraph too, as 'name' (operator).
        tensors: Tensor -> the node of these that it depends on.
        enter: The tensors that it can compute and that these nodes read.
        places: Where the nodes are in the graph that cannot be run, these and those behind them.
    """

    nodes: tuple[str, ...]
    tensors: Mapping[str, str]
    enter: tuple[str, ...]
    places: frozenset[int]

    def notices(self) -> tuple[Notice, ...]:
        """As a reader of numbers must know it."""
        if not self.nodes:
            return ()
        more = f" and {len(self.nodes) - _SHOWN} more" if len(self.nodes) > _SHOWN else ""
        where = ", ".join(f"'{name}'" for name in self.enter[:_SHOWN]) or "nothing that is computed"
        others = f" and {len(self.enter) - _SHOWN} more" if len(self.enter) > _SHOWN else ""
        return (
            Notice(
                f"ONNX Runtime has no operator for {', '.join(self.nodes[:_SHOWN])}{more}: they stay as they are, and "
                f"the network is run up to what enters them ({where}{others})"
            ),
        )


def beyond(proto: onnx.ModelProto) -> Beyond:
    """Find what ONNX Runtime cannot compute of a model.

    Args:
        proto: The model; its nodes are sorted.

    Returns:
        Nothing in it for most models.
    """
    nodes: list[str] = []
    tensors: dict[str, str] = {}
    enter: dict[str, None] = {}
    constant = {t.name for t in proto.graph.initializer}
    made: set[str] = set()
    places: set[int] = set()
    for place, node in enumerate(proto.graph.node):
        inside = list(inner_nodes(node))
        unknown = next((n for n in (node, *inside) if not is_known(n.op_type, n.domain)), None)
        read = [name for n in (node, *inside) for name in n.input]
        read += [output.name for graph in subgraphs_of(node) for output in graph.output]
        if unknown is not None:
            nodes.append(f"'{node_label(node)}' ({unknown.op_type})")
            enter |= dict.fromkeys(n for n in read if n in made and n not in constant)
        cause = next((tensors[name] for name in read if name in tensors), None) if unknown is None else nodes[-1]
        if cause is not None:
            places.add(place)
            tensors |= {name: cause for name in node.output if name}
        elif node.op_type != "Constant":
            made |= {name for name in node.output if name}
    return Beyond(tuple(nodes), tensors, tuple(enter), frozenset(places))


def runnable_part(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Cut off what ONNX Runtime cannot compute.

    Args:
        proto: The model.

    Returns:
        The model itself where there is nothing of that; else its outputs are those that are left, and the tensors that
        enter what was cut off.

    Raises:
        GraphError: Nothing is left.
    """
    off = beyond(proto)
    if not off.nodes:
        return proto
    kept = [output for output in proto.graph.output if output.name not in off.tensors]
    known = {output.name for output in kept}
    shapes = {value.name: value for value in proto.graph.value_info}
    entering = [shapes.get(name, onnx.ValueInfoProto(name=name)) for name in off.enter if name not in known]
    if not kept and not entering:
        raise GraphError(
            f"ONNX Runtime has no operator for {off.nodes[0]}, and nothing is computed without it",
            hint="start from a model in which layers lie before it",
        )
    part = copy_model(proto)
    left = [node for place, node in enumerate(proto.graph.node) if place not in off.places]
    del part.graph.node[:]
    part.graph.node.extend(left)
    del part.graph.output[:]
    part.graph.output.extend([*kept, *entering])
    set_shapes(part)
    return part
