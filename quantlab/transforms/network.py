"""What is found out about the channels of a network, and what an operator may ask about its inputs meanwhile."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.onnx_model import GraphView, infer_shapes
from quantlab.onnx_model.nodes import names_read
from quantlab.transforms.channels import Channels, Dim, Ids, along, axes_of, frozen


@dataclass(frozen=True, slots=True)
class Factor:
    """A constant that takes the factors: it becomes `constant * d[times] / d[over]`, which broadcast.

    Attributes:
        node: The node that reads it.
        input: The index of that input.
        times: Variables that it is multiplied with.
        over: Variables that it is divided by.
    """

    node: str
    input: int
    times: Ids | None = None
    over: Ids | None = None


@dataclass(frozen=True, slots=True)
class Weighted:
    """A layer with constant weights: y[o] = sum of w[e] x[column[e]] over the elements e with row[e] = o.

    Attributes:
        node: Its name.
        weight: The index of its weights.
        axis: Of the channels of its input and its output.
        inputs: The variables of its input channels, (I,).
        outputs: The variables of its output channels, (O,).
        column: The input channel of every weight, broadcasts over the weights.
        row: The output channel of every weight, broadcasts over the weights.
    """

    node: str
    weight: int
    axis: int
    inputs: Ids
    outputs: Ids
    column: Ids
    row: Ids


@dataclass(frozen=True)
class Network:
    """The channels of a network.

    Attributes:
        proto: The network, with the shapes of its tensors.
        droppable: Tensors that a Clip makes and QuantizeLinear alone reads.
        channels: The variables.
        layouts: Tensor -> its layout; tensors without one are frozen.
        factors: The constants that take the factors.
        layers: The layers with constant weights.
        clips: Nodes Clip(0, a) whose channels are scaled: each gets a bound of its own.
    """

    proto: onnx.ModelProto
    droppable: frozenset[str]
    channels: Channels = field(default_factory=Channels)
    layouts: dict[str, Ids] = field(default_factory=dict)
    factors: list[Factor] = field(default_factory=list)
    layers: list[Weighted] = field(default_factory=list)
    clips: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, proto: onnx.ModelProto, droppable: frozenset[str]) -> Network:
        """A network of which nothing is known but the shapes.

        Args:
            proto: The model.
            droppable: Tensors whose Clip may be left out.

        Returns:
            The network.
        """
        return cls(infer_shapes(proto), droppable)

    @cached_property
    def view(self) -> GraphView:
        """Who makes what."""
        return GraphView(self.proto)

    @cached_property
    def nodes(self) -> dict[str, onnx.NodeProto]:
        """The nodes of the main graph by name."""
        return {node.name: node for node in self.proto.graph.node}

    @cached_property
    def outside(self) -> frozenset[str]:
        """What is read by others than the nodes of the main graph: outputs, and what subgraphs read."""
        inner = (names_read(node) - set(node.input) for node in self.proto.graph.node)
        return self.view.outputs.union(*inner)

    @cached_property
    def _shapes(self) -> dict[str, list[Dim]]:
        graph = self.proto.graph
        return {
            value.name: [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in shape.dim]
            for value in (*graph.value_info, *graph.input, *graph.output)
            if value.type.tensor_type.HasField("shape") and (shape := value.type.tensor_type.shape) is not None
        }

    @cached_property
    def _initializers(self) -> frozenset[str]:
        return frozenset(t.name for t in self.proto.graph.initializer)

    @cached_property
    def _reads(self) -> Counter[str]:
        nodes = self.proto.graph.node
        return Counter(name for node in nodes for name in (*node.input, *(names_read(node) - set(node.input))))

    def shape(self, tensor: str) -> list[Dim] | None:
        """The shape of a tensor, as far as it is known; None where not even its number of dimensions is."""
        value = self.view.constant(tensor) if self.view.is_constant(tensor) else None
        return self._shapes.get(tensor) if value is None else list(value.shape)

    def rank(self, tensor: str) -> int | None:
        """The number of dimensions of a tensor."""
        shape = self.shape(tensor)
        return None if shape is None else len(shape)

    def is_alone(self, tensor: str) -> bool:
        """Whether a tensor is an initializer that one input reads and nobody else."""
        return tensor in self._initializers and self._reads[tensor] == 1 and tensor not in self.view.outputs

    def constant(self, node: onnx.NodeProto, index: int) -> NDArray[Any] | None:
        """The value of an input that is a float32 constant, else None.

        Args:
            node: The node.
            index: Of the input.

        Returns:
            The value, or None.
        """
        name = node.input[index] if index < len(node.input) else ""
        value = self.view.constant(name) if name else None
        return value if value is not None and value.dtype == np.float32 else None

    def weight(self, node: onnx.NodeProto, index: int) -> NDArray[Any] | None:
        """As `constant`, for a constant of two dimensions or more that no other node reads: weights keep their name,
        by which a placement knows them.

        Args:
            node: The node.
            index: Of the input.

        Returns:
            The value, or None.
        """
        value = self.constant(node, index)
        return value if value is not None and value.ndim >= 2 and self.is_alone(node.input[index]) else None

    def integers(self, node: onnx.NodeProto, index: int) -> list[int] | None:
        """The values of an input that is a constant of integers, else None.

        Args:
            node: The node.
            index: Of the input.

        Returns:
            The values, or None.
        """
        value = self.view.constant(node.input[index]) if index < len(node.input) and node.input[index] else None
        return None if value is None else [int(v) for v in value.reshape(-1)]

    def has(self, node: onnx.NodeProto, index: int) -> bool:
        """Whether a node has this optional input.

        Args:
            node: The node.
            index: Of the input.

        Returns:
            True if it does.
        """
        return index < len(node.input) and bool(node.input[index])

    def vector(self, tensor: str, axis: int, size: int) -> Ids:
        """The variables of the channels of a tensor along one axis, (size,). A tensor with others is frozen.

        Args:
            tensor: Its name.
            axis: Of the channels.
            size: The number of channels.

        Returns:
            The variables.
        """
        ids = self.layouts.get(tensor)
        if ids is None:
            return np.zeros(size, np.int64)
        along = set(axes_of(ids))
        inside = -ids.ndim <= axis < ids.ndim  # a constant with more dimensions makes the axis, it is not of the tensor
        if not along or (inside and along == {axis % ids.ndim} and ids.size == size):
            return np.array(np.broadcast_to(ids.reshape(-1), size))
        self.freeze(tensor)
        return np.zeros(size, np.int64)

    def made(self, ids: Ids, axis: int, rank: int | None) -> Ids | None:
        """The layout of what a layer makes, with new variables; without a known rank they are frozen.

        Args:
            ids: Variables.
            axis: Of the channels.
            rank: The number of dimensions of the tensor.

        Returns:
            The layout.
        """
        if rank is None:
            self.channels.freeze(ids)
            return None
        return along(ids, axis, rank)

    def freeze(self, *tensors: str) -> None:
        """Leave the channels of these as they are."""
        for tensor in tensors:
            if tensor in self.layouts:
                self.channels.freeze(self.layouts[tensor])

    def set_layout(self, tensor: str, ids: Ids | None) -> None:
        """Note the layout of a tensor; it is frozen where it contradicts the shape, or others read the tensor.

        Args:
            tensor: Its name.
            ids: Variables.
        """
        shape = self.shape(tensor)
        if ids is None or shape is None:
            if ids is not None:
                self.channels.freeze(ids)
            return
        fits = ids.ndim == len(shape) and all(shape[a] == ids.shape[a] for a in axes_of(ids)) and 0 not in axes_of(ids)
        if not fits or tensor in self.outside:
            self.channels.freeze(ids)
        self.layouts[tensor] = ids if fits else frozen(len(shape))
