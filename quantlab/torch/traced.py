"""The graph of a module by torch.export, with the values that one batch gives at every place of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from quantlab.data import Batch
from quantlab.torch.feeds import Signature
from quantlab.torch.fingerprint import Fingerprint
from quantlab.torch.trial import tensors_of

CHAIN = 4
"""Nodes behind a layer that may have been folded into it: a BatchNorm, the choice of its first result, a factor."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A graph and what was seen in it.

    Attributes:
        module: The graph, with the parameters of the module under their names.
        seen: Node -> fingerprint of its values, for floating point tensors.
        shapes: Node -> dimensions, for the same.
        constants: Node -> value, for what is computed of parameters only.
    """

    module: fx.GraphModule
    seen: Mapping[fx.Node, Fingerprint]
    shapes: Mapping[fx.Node, tuple[int, ...]]
    constants: Mapping[fx.Node, torch.Tensor]

    def calls(self, ops: frozenset[str]) -> Iterator[fx.Node]:
        """The nodes of these operators, in order."""
        return (node for node in self.module.graph.nodes if operator_of(node) in ops)

    def chain(self, node: fx.Node) -> list[fx.Node]:
        """A node and those behind it, as long as each has one reader."""
        found = [node]
        while len(found) <= CHAIN and len(found[-1].users) == 1:
            found.append(next(iter(found[-1].users)))
        return [one for one in found if one is node or one in self.seen or operator_of(one)]


def operator_of(node: fx.Node) -> str:
    """The name of an ATen operator without its overload and the underscore of those in place, '' for other nodes."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None:
        return ""
    return str(schema.name).split("::")[-1].rstrip("_")


def placeholders(module: fx.GraphModule, signature: Signature, batch: Batch) -> list[torch.Tensor]:
    """The inputs of a graph in the order of its placeholders.

    Args:
        module: The graph.
        signature: How the module is called.
        batch: What it is called with.

    Returns:
        A tensor per placeholder.
    """
    tensors = tensors_of(batch)
    names = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
    if set(names) == set(tensors):
        return [tensors[name] for name in names]
    return [tensors[name] for name in signature.names]


def trace(program: torch.export.ExportedProgram, signature: Signature, batch: Batch) -> Traced:
    """Run a batch through the graph of a module.

    Args:
        program: Of the module.
        signature: How it is called.
        batch: What it is called with.

    Returns:
        The graph and what was seen.
    """
    module = _with_attention_written_out(program).module()
    assert isinstance(module, fx.GraphModule)
    recorder = _Recorder(module)
    with torch.no_grad():
        recorder.run(*placeholders(module, signature, batch), enable_io_processing=False)
    return Traced(module, recorder.seen, recorder.shapes, recorder.constants)


def _with_attention_written_out(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Exporters write attention as two products with what belongs between them."""
    attention = torch.ops.aten.scaled_dot_product_attention.default
    if all(node.target is not attention for node in program.graph.nodes):
        return program
    return program.run_decompositions({attention: _attention})


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """`scaled_dot_product_attention` as both exporters write it: the root of the factor on either side."""
    assert not dropout_p, "dropout in evaluation mode"
    if enable_gqa:
        groups = query.size(-3) // key.size(-3)
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    root = math.sqrt(1 / math.sqrt(query.size(-1)) if scale is None else scale)
    weights = (query * root) @ (key.transpose(-2, -1) * root)
    if is_causal:
        attn_mask = torch.ones(query.size(-2), key.size(-2), dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        weights = weights.masked_fill(attn_mask.logical_not(), -math.inf)
    elif attn_mask is not None:
        weights = weights + attn_mask
    return torch.softmax(weights, -1) @ value


class _Recorder(fx.Interpreter):  # type: ignore[misc]
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.seen: dict[fx.Node, Fingerprint] = {}
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.constants: dict[fx.Node, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            self.seen[n] = Fingerprint(value.detach().numpy())
            self.shapes[n] = tuple(value.shape)
            if n.op == "get_attr" or (n.all_input_nodes and all(i in self.constants for i in n.all_input_nodes)):
                self.constants[n] = value.detach()
        return value
