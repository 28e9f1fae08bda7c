"""Where in the graph of the module the nodes of the ONNX model are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import fx

from quantlab.errors import GraphError
from quantlab.onnx_model import GraphView
from quantlab.torch.counterparts import COUNTERPARTS
from quantlab.torch.fingerprint import Fingerprint
from quantlab.torch.traced import Traced


@dataclass(frozen=True, slots=True)
class Found:
    """A layer of the module.

    Attributes:
        node: The call.
        source: Its argument that is the activation.
        last: The end of what became one with it in the ONNX model; `node` itself where nothing did.
    """

    node: fx.Node
    source: fx.Node
    last: fx.Node


class Places:
    """Finds the counterparts of ONNX nodes.

    Args:
        traced: The graph of the module.
        prepared: The FP32 network that Q/DQ nodes went into.
        values: Tensor -> values of it, for the batch that `traced` has seen.
    """

    def __init__(self, traced: Traced, prepared: onnx.ModelProto, values: Mapping[str, NDArray[np.float32]]) -> None:
        self._traced = traced
        self._view = GraphView(prepared)
        self._nodes: dict[str, onnx.NodeProto] = {node.name: node for node in prepared.graph.node}
        self._seen = {name: Fingerprint(array) for name, array in values.items()}

    def node(self, name: str) -> onnx.NodeProto:
        """A node of the prepared network."""
        return self._nodes[name]

    def readers(self, tensor: str) -> set[tuple[str, int]]:
        """(node, index of the input) of everything that reads a tensor, outputs of the model too."""
        found = {(node.name, index) for node, index in self._view.readers.get(tensor, [])}
        return found | ({("", 0)} if tensor in self._view.outputs else set())

    def reader(self, name: str, tensor: str) -> list[Found]:
        """The calls that read a tensor as a node does.

        Args:
            name: The node.
            tensor: What it reads.

        Returns:
            All of them; those that cannot be told apart compute the same.
        """
        node = self._nodes[name]
        found = []
        for call in self._traced.calls(COUNTERPARTS.get(node.op_type, frozenset())):
            sources = [a for a in call.all_input_nodes if self._is(a, tensor)]
            last = self._end(node, call) if sources else None
            if last is not None:
                found += [Found(call, source, last) for source in sources]
        return found

    def makers(self, tensor: str) -> list[fx.Node]:
        """The calls that compute a tensor, and those that only give it another shape."""
        seen = self._traced.seen
        found = [node for node in seen if node.op in ("call_function", "placeholder") and self._is(node, tensor)]
        nearest = min((seen[node].distance(self._seen[tensor]) for node in found), default=0.0)
        noise = max(nearest, float(np.finfo(np.float32).eps))
        return [node for node in found if seen[node].distance(self._seen[tensor]) <= 2 * noise]

    def _is(self, node: fx.Node, tensor: str) -> bool:
        return node in self._traced.seen and tensor in self._seen and self._traced.seen[node].fits(self._seen[tensor])

    def _end(self, node: onnx.NodeProto, call: fx.Node) -> fx.Node | None:
        """How far a call and what follows it became the ONNX node: what comes nearest to what the node gives, since a
        BatchNorm may change next to nothing."""
        ends = [(call, result) for result in self._results(node)]
        ends += [(last, node.output[0]) for last in self._traced.chain(call)[1:]]
        ends = [(end, result) for end, result in ends if self._is(end, result)]
        if ends:
            return min(ends, key=lambda one: self._traced.seen[one[0]].distance(self._seen[one[1]]))[0]
        results = [user for user in call.users if user in self._traced.seen]  # of split, max_pool with indices
        return call if any(self._is(user, one) for user in results for one in node.output) else None

    def _results(self, node: onnx.NodeProto) -> Iterator[str]:
        """What a node gives, and with the bias that is added behind it."""
        yield node.output[0]
        readers = self._view.readers.get(node.output[0], [])
        if len(readers) == 1 and readers[0][0].op_type == "Add":
            yield readers[0][0].output[0]


def oriented(
    kept: NDArray[np.float32], like: tuple[int, ...], axis: int | None
) -> list[tuple[NDArray[np.float32], int | None]]:
    """A weight as the module may have it: as it is, or turned.

    Args:
        kept: As the ONNX model has it.
        like: The shape in the module.
        axis: Of its channels.

    Returns:
        The candidates, each with its axis.
    """
    found = []
    if kept.shape == like:
        found.append((kept, axis))
    if kept.ndim == 2 and kept.T.shape == like:
        found.append((kept.T, None if axis is None else 1 - axis))
    return found


def refuse(node: str, tensor: str, module: str) -> GraphError:
    """The error for what has no counterpart.

    Args:
        node: Of the ONNX model.
        tensor: What it reads in INT8.
        module: The module that it comes from.

    Returns:
        The error.
    """
    where = f"module '{module}'" if module else "the outermost module"
    return GraphError(
        f"node '{node}' of {where} reads '{tensor}' in INT8, which has no counterpart in the module's own graph",
        hint="leave the node in float (Selection(exclude=...)), or compare the Q/DQ model with quantlab.compare",
    )
