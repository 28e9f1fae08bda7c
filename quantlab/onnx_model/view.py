"""A Q/DQ graph as it is written: who produces, who reads, what is constant. For questions, not for changes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantlab.onnx_model.nodes import QDQ_OPS, all_nodes, attribute
from quantlab.onnx_model.parameters import QdqParameters, code_type


@dataclass(frozen=True)
class GraphView:
    """Over the main graph of a model; of subgraphs only what they read is known.

    Attributes:
        proto: The model, which must not change while it is looked at.
    """

    proto: onnx.ModelProto

    @cached_property
    def named(self) -> dict[str, onnx.NodeProto]:
        """Node by its name."""
        return {node.name: node for node in self.proto.graph.node}

    @cached_property
    def producer(self) -> dict[str, onnx.NodeProto]:
        """Tensor -> the node that makes it."""
        return {name: node for node in self.proto.graph.node for name in node.output if name}

    @cached_property
    def readers(self) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
        """Tensor -> (node, input index) of everything that reads it, nodes in subgraphs too."""
        found: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
        for node in all_nodes(self.proto.graph):
            for index, name in enumerate(node.input):
                found[name].append((node, index))
        return found

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the graph outputs."""
        return frozenset(o.name for o in self.proto.graph.output)

    @cached_property
    def _constants(self) -> dict[str, onnx.TensorProto]:
        found = {t.name: t for t in self.proto.graph.initializer}
        for node in self.proto.graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                found[node.output[0]] = node.attribute[0].t
        return found

    def maker(self, tensor: str, op: str) -> onnx.NodeProto | None:
        """Who makes a tensor, if it is of this operator.

        Args:
            tensor: Its name.
            op: An operator.

        Returns:
            The node, else None.
        """
        node = self.producer.get(tensor)
        return node if node is not None and node.op_type == op else None

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is an initializer or a Constant node's output."""
        return tensor in self._constants

    def constant(self, tensor: str) -> NDArray[Any] | None:
        """The value of a constant, else None."""
        found = self._constants.get(tensor)
        return None if found is None else numpy_helper.to_array(found)

    def type_of(self, tensor: str) -> int | None:
        """ONNX element type of a constant, else None."""
        found = self._constants.get(tensor)
        return None if found is None else found.data_type

    @cached_property
    def qdq_nodes(self) -> list[onnx.NodeProto]:
        """QuantizeLinear and DequantizeLinear, in order."""
        return [n for n in self.proto.graph.node if n.op_type in QDQ_OPS]

    def scale(self, node: onnx.NodeProto) -> NDArray[Any] | None:
        """The scale of a Q or DQ node, None if it is computed."""
        return self.constant(node.input[1])

    def zero_point(self, node: onnx.NodeProto) -> NDArray[Any] | None:
        """The zero point of a Q or DQ node, in the type of its codes; None if it is computed.

        Without one it is 0, in the type that the node or its constant input says, else uint8: ONNX's default.
        """
        if len(node.input) > 2 and node.input[2]:
            return self.constant(node.input[2])
        q = self.maker(node.input[0], "QuantizeLinear")
        if node.op_type == "DequantizeLinear" and q is not None:
            return self.zero_point(q)
        if node.op_type == "QuantizeLinear":
            return np.zeros((), code_type(None, attribute(node, "output_dtype", 0)))
        given = self.type_of(node.input[0])
        codes = None if given is None else np.dtype(onnx.helper.tensor_dtype_to_np_dtype(given))
        return np.zeros((), code_type(None, codes=codes))

    def parameters(self, node: onnx.NodeProto) -> QdqParameters | None:
        """Scale, zero point, type of the codes and axis of a Q or DQ node; None if one of them is computed."""
        scale, zero_point = self.scale(node), self.zero_point(node)
        if scale is None or zero_point is None:
            return None
        axis, block_size = attribute(node, "axis", 1), attribute(node, "block_size", 0)
        return QdqParameters(scale, zero_point, zero_point.dtype, axis, block_size)

    def is_weight(self, node: onnx.NodeProto) -> bool:
        """Whether a Q or DQ node works on a constant, perhaps through the other one."""
        return self.is_constant(self._before_pair(node))

    def weight(self, node: onnx.NodeProto) -> NDArray[Any] | None:
        """The constant that a Q or DQ node works on, float values or stored codes; None if it is no weight."""
        return self.constant(self._before_pair(node))

    def _before_pair(self, node: onnx.NodeProto) -> str:
        q = self.maker(node.input[0], "QuantizeLinear")
        return str(node.input[0] if q is None else q.input[0])

    def pair_after(self, tensor: str) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
        """The (Q, DQ) that quantize a tensor, if there is such a pair."""
        for q, index in self.readers.get(tensor, []):
            if q.op_type == "QuantizeLinear" and index == 0:
                for dq, position in self.readers.get(q.output[0], []):
                    if dq.op_type == "DequantizeLinear" and position == 0:
                        return q, dq
        return None

    def source(self, tensor: str) -> str:
        """The float tensor behind a DQ output; the tensor itself if it is none."""
        dq = self.maker(tensor, "DequantizeLinear")
        q = None if dq is None else self.maker(dq.input[0], "QuantizeLinear")
        return tensor if q is None else str(q.input[0])
