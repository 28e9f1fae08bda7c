"""Which module of the user a node of the exported model belongs to."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import onnx

from quantlab.tabular import Rows, Tabular

SCOPES = "pkg.torch.onnx.name_scopes"
"""Where the exporter by torch.export writes the modules that a node is in."""


@dataclass(frozen=True, slots=True)
class ModuleNames(Tabular):
    """The modules that the nodes and tensors of an exported model come from; '' is the outermost.

    Attributes:
        nodes: Node name -> module name, as `module.get_submodule` takes it.
        tensors: Tensor name -> the module that computes it, or that it is a parameter of.
    """

    nodes: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)

    def to_rows(self) -> Rows:
        """Node and module, in network order."""
        return Rows(("node", "module"), tuple(self.nodes.items()), f"{len(self.nodes)} nodes")

    def nodes_of(self, module: str) -> tuple[str, ...]:
        """The nodes of a module and of what is in it, as patterns for a `Selection`."""
        return tuple(n for n, where in self.nodes.items() if where == module or where.startswith(f"{module}."))


def module_names(proto: onnx.ModelProto, modules: Collection[str], parameters: Collection[str]) -> ModuleNames:
    """Map an exported model to the modules it was made of.

    Args:
        proto: As either exporter writes it.
        modules: The names of all modules.
        parameters: The names of all parameters and buffers.

    Returns:
        The names. A node that no module is known for has the outermost, ''.
    """
    nodes: dict[str, str] = {}
    tensors: dict[str, str] = {}
    for node in proto.graph.node:
        owned = [name.rpartition(".")[0] for name in node.input if name in parameters]
        module = owned[0] if owned else _scope(node, modules)
        nodes[node.name] = module
        tensors |= dict.fromkeys(node.output, module)
    tensors |= {w.name: w.name.rpartition(".")[0] for w in proto.graph.initializer if w.name in parameters}
    return ModuleNames(nodes, tensors)


def _scope(node: onnx.NodeProto, modules: Collection[str]) -> str:
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            scopes = [scope for scope in ast.literal_eval(entry.value)[:-1] if scope in modules]
            return scopes[-1] if scopes else ""
    here = ""
    for part in node.name.strip("/").split("/")[:-1]:
        here = next((name for name in _children(here, part) if name in modules), here)
    return here


def _children(module: str, part: str) -> Iterator[str]:
    """What the TorchScript exporter may mean by a part of a node's name: a child, named from any module around it."""
    while module:
        yield f"{module}.{part}"
        module = module.rpartition(".")[0]
    yield part
