"""Where the bias of a layer stands, and changes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import numpy_helper

from quantlab.onnx_model import FreshNames, GraphView
from quantlab.qdq.rules import row_of


@dataclass(frozen=True, slots=True)
class BiasSite:
    """Where a bias stands.

    Attributes:
        node: The name of the node that reads it: the layer itself, or an Add behind it.
        input: Its index there; of a layer that has none yet, where it belongs.
        output: What that node gives: names a new bias.
        value: As it is stored, zeros where there is none.
    """

    node: str
    input: int
    output: str
    value: NDArray[np.float32]


def bias_site(view: GraphView, node: onnx.NodeProto, outputs: int) -> BiasSite | None:
    """Find the bias of a layer.

    Args:
        view: Of the model.
        node: The layer.
        outputs: How many channels it gives.

    Returns:
        Its own input, or a constant that is added to nothing but its output; None where there is no constant one.
    """
    index = row_of(node.op_type, node.domain).bias_input
    if index is None:
        return _added_constant(view, node.output[0], outputs)
    if len(node.input) <= index or not node.input[index]:
        return BiasSite(node.name, index, node.output[0], np.zeros(outputs, np.float32))
    value = view.constant(node.input[index])
    fits = value is not None and value.dtype == np.float32 and value.shape == (outputs,)
    return BiasSite(node.name, index, node.output[0], value) if fits and value is not None else None


def _added_constant(view: GraphView, tensor: str, outputs: int) -> BiasSite | None:
    readers = view.readers.get(tensor, [])
    if len(readers) != 1 or readers[0][0].op_type != "Add" or tensor in view.outputs:
        return None
    add, at = readers[0]
    value = view.constant(add.input[1 - at])
    if value is None or value.dtype != np.float32 or value.size != outputs or value.shape[-1:] != (outputs,):
        return None
    return BiasSite(add.name, 1 - at, add.output[0], value)


@dataclass
class Biases:
    """Biases that are to change, each of them for one node alone: others may share the old one.

    Attributes:
        model: The model; `write` changes it.
    """

    model: onnx.ModelProto
    _changes: dict[tuple[str, int], tuple[BiasSite, NDArray[np.float64]]] = field(default_factory=dict)

    def add(self, site: BiasSite, value: ArrayLike) -> None:
        """Change a bias by a value, once more.

        Args:
            site: The bias.
            value: A number, or one per channel.
        """
        key = site.node, site.input
        before = self._changes[key][1] if key in self._changes else site.value.astype(np.float64)
        self._changes[key] = site, before + np.asarray(value, np.float64).reshape(-1 if np.ndim(value) else ())

    def write(self, longer: Mapping[str, NDArray[np.float64]], names: FreshNames) -> None:
        """Write them.

        Args:
            longer: Layer -> what is appended to its bias, for channels that it has got.
            names: Of new tensors.
        """
        nodes = {node.name: node for node in self.model.graph.node}
        for site, value in self._changes.values():
            node = nodes[site.node]
            name = names.new(f"{site.output}_bias")
            full = np.concatenate([value, longer[site.node]]) if site.node in longer else value
            tensor = numpy_helper.from_array(full.astype(np.float32), name)
            self.model.graph.initializer.append(tensor)
            inputs = [*node.input, *[""] * (site.input + 1 - len(node.input))]
            inputs[site.input] = name
            del node.input[:]
            node.input.extend(inputs)
