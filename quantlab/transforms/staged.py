"""A network run from one of its nodes to a later one, for all samples, with what is between them in memory.

A change that is chosen layer by layer must see what the layers before have become: each part of the network runs once,
and what later parts read is kept. Where that is more than `MOST_BYTES` what was kept before stays, from which the next
part is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.data import Batch
from quantlab.onnx_model import copy_model, tensor_names
from quantlab.onnx_model.nodes import names_read
from quantlab.ort import Session

MOST_BYTES = 2**28
"""Kept by a walk between two parts; of the inputs as much as this are taken."""

Values = Mapping[str, NDArray[np.generic]]


class StagedRun:
    """One network, and what its next part reads.

    Args:
        model: The network. Its constants may change between parts: a part has those of the time when it runs.
        batches: What it is fed.
        optimize: As `Session`.
        targets: The nodes that it will run to: what none of them depends on is not computed.

    Attributes:
        kept: Per batch, the tensors that what follows needs.
    """

    def __init__(
        self, model: onnx.ModelProto, batches: Sequence[Batch], optimize: bool, targets: Collection[str]
    ) -> None:
        self._model, self._optimize = model, optimize
        self._nodes = list(model.graph.node)
        self._constant = _computed_from_constants(model)
        self._maker = {name: node for node in self._nodes for name in node.output if name}
        self._place = {node.name: at for at, node in enumerate(self._nodes)}
        self._wanted = self._before(targets)
        self._opset_and_types = copy_model(model, with_weights=False)
        self.kept: list[dict[str, NDArray[np.generic]]] = [dict(batch) for batch in batches]
        self._bytes = sum(x.nbytes for values in self.kept for x in values.values())

    def _before(self, targets: Collection[str]) -> set[int]:
        """The targets and all that they depend on, by place."""
        waiting = [self._place[name] for name in targets]
        found = set[int]()
        while waiting:
            place = waiting.pop()
            if place not in found:
                found.add(place)
                makers = (self._maker.get(name) for name in names_read(self._nodes[place]))
                waiting.extend(self._place[maker.name] for maker in makers if maker is not None)
        return found

    def to(self, node: str, read: Sequence[str], use: Callable[[int, Values], None]) -> None:
        """Run to a node.

        Args:
            node: Its name.
            read: Tensors that are wanted there.
            use: Called for every batch with its number and these tensors.
        """
        needed = self._needed_from(self._place[node])
        available = set(self.kept[0]) if self.kept else set()
        wanted = list(dict.fromkeys([*needed, *read]))
        computed = [name for name in wanted if name not in available]
        session = Session(self._part(computed, available), optimize=self._optimize) if computed else None
        fed = [spec.name for spec in session.inputs] if session else []
        advances = True
        for number, values in enumerate(self.kept):
            made = session.resume({name: values[name] for name in fed}, computed) if session else {}
            found = {**values, **made}
            use(number, {name: found[name] for name in read})
            kept = {name: found[name] for name in needed}
            if number == 0 and not all(isinstance(x, np.ndarray) for x in kept.values()):
                advances = False  # sequences cannot be fed again
            elif number == 0:
                size = len(self.kept) * sum(x.nbytes for x in kept.values())
                advances = size <= max(MOST_BYTES, self._bytes)
                self._bytes = size if advances else self._bytes
            if advances:
                self.kept[number] = kept

    def _needed_from(self, place: int) -> list[str]:
        """What the nodes from here on read of what was computed before; codes rather than what is dequantized."""
        before = {name for node in self._nodes[:place] for name in node.output if name}
        before |= set(self.kept[0]) if self.kept else set()
        found = []
        for at in range(place, len(self._nodes)):
            for name in sorted(names_read(self._nodes[at])) if at in self._wanted else ():
                if name in before and name not in self._constant:
                    maker = self._maker.get(name)
                    is_dequantized = maker is not None and maker.op_type == "DequantizeLinear"
                    found.append(str(maker.input[0]) if is_dequantized and maker is not None else name)
        return list(dict.fromkeys(found))

    def _part(self, computed: Sequence[str], available: set[str]) -> onnx.ModelProto:
        """The nodes that compute these tensors out of those that are there."""
        wanted, inputs, nodes = list(computed), dict[str, None](), set[int]()
        while wanted:
            name = wanted.pop()
            maker = self._maker.get(name)
            if name in available:
                inputs[name] = None
            elif maker is not None and id(maker) not in nodes:
                nodes.add(id(maker))
                wanted.extend(names_read(maker))
        part = onnx.ModelProto()
        part.CopyFrom(self._opset_and_types)
        graph = part.graph
        for field in (graph.node, graph.input, graph.output, graph.initializer, graph.value_info):
            del field[:]
        graph.node.extend(node for node in self._nodes if id(node) in nodes)
        read = {name for node in graph.node for name in names_read(node)}
        graph.initializer.extend(t for t in self._model.graph.initializer if t.name in read)
        first = self.kept[0]
        for name in inputs:
            dtype = onnx.helper.np_dtype_to_tensor_dtype(first[name].dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, [None] * first[name].ndim))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed)
        return part


def _computed_from_constants(model: onnx.ModelProto) -> set[str]:
    found = {t.name for t in model.graph.initializer}
    fed = {i.name for i in model.graph.input} - found
    known = tensor_names(model)
    for node in model.graph.node:
        reads = [name for name in names_read(node) if name in known]
        if not fed.intersection(reads) and all(name in found for name in reads):
            found.update(name for name in node.output if name)
    return found
