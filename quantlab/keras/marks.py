"""The marks that FakeQuant operators left in an ONNX graph become Q/DQ nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantlab.keras.frozen import TrainedWeight
from quantlab.keras.ranges import FakeQuant, int8_scales
from quantlab.onnx_model import attribute


def write_qdq(
    proto: onnx.ModelProto, marked: Mapping[str, FakeQuant], weights: Mapping[str, TrainedWeight]
) -> list[str]:
    """Put Q/DQ nodes in the place of the marks, in this very model.

    An activation gets a pair with one scale. A weight gets its int8 codes and a DequantizeLinear in the layout that its
    readers want, so that nothing stands between the two.

    Args:
        proto: As tf2onnx made it.
        marked: Name of a Clip -> the operator that it stands for.
        weights: Name of an input -> the weight that it stands for.

    Returns:
        What the ranges lost, a line each.

    Raises:
        GraphError: A range is none that int8 can have.
    """
    graph, lost = _Graph(proto), []
    for node in list(proto.graph.node):
        if node.op_type == "Clip" and node.name in marked:
            scales = int8_scales(marked[node.name])
            lost.append(scales.loss(marked[node.name]))
            graph.replace(node, _pair(graph, node, marked[node.name].name, scales.scales.reshape(())))
    for name, weight in weights.items():
        scales = int8_scales(weight.fake)
        lost.append(scales.loss(weight.fake))
        graph.prepend(_dequantized(graph, name, *_codes(weight, scales.scales), weight.fake.name))
    for name in [value.name for value in proto.graph.input if value.name in weights]:
        proto.graph.input.remove(next(value for value in proto.graph.input if value.name == name))
    graph.drop_unread()
    return [text for text in lost if text]


class _Graph:
    """A graph whose nodes are replaced."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.graph = proto.graph
        self.constants = {tensor.name: tensor for tensor in proto.graph.initializer}

    def replace(self, node: onnx.NodeProto, new: list[onnx.NodeProto]) -> None:
        place = next(k for k, one in enumerate(self.graph.node) if one is node or one == node)
        del self.graph.node[place]
        for k, one in enumerate(new):
            self.graph.node.insert(place + k, one)

    def prepend(self, new: list[onnx.NodeProto]) -> None:
        for one in reversed(new):
            self.graph.node.insert(0, one)

    def readers(self, name: str) -> Iterator[tuple[onnx.NodeProto, int]]:
        for node in self.graph.node:
            yield from ((node, k) for k, read in enumerate(node.input) if read == name)

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        tensor = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        self.graph.initializer.append(tensor)
        self.constants[name] = tensor
        return name

    def drop_unread(self) -> None:
        """Constants that only the marks or the moves of a weight have read."""
        read = {name for node in self.graph.node for name in node.input} | {out.name for out in self.graph.output}
        read |= {name for node in self.graph.node for name in _read_inside(node)}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)


def _read_inside(node: onnx.NodeProto) -> Iterator[str]:
    for one in node.attribute:
        for graph in [one.g] if one.HasField("g") else list(one.graphs):
            for inner in graph.node:
                yield from inner.input
                yield from _read_inside(inner)


def _pair(graph: _Graph, node: onnx.NodeProto, name: str, scale: NDArray[np.float32]) -> list[onnx.NodeProto]:
    parameters = [
        graph.constant(f"{name}_scale", scale),
        graph.constant(f"{name}_zero_point", np.zeros((), np.int8)),
    ]
    codes = f"{name}_quantized"
    return [
        helper.make_node("QuantizeLinear", [node.input[0], *parameters], [codes], name=f"{name}_QuantizeLinear"),
        helper.make_node("DequantizeLinear", [codes, *parameters], list(node.output), name=f"{name}_DequantizeLinear"),
    ]


def _codes(weight: TrainedWeight, scales: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The codes of a weight and the scale of each, by its last axis."""
    every = np.broadcast_to(scales, weight.value.shape if scales.size > 1 or weight.value.ndim else ())
    # rounded as TensorFlow does; a narrow range has no code below -127
    codes = np.floor(weight.value / every + np.float32(0.5))
    return np.clip(codes, -127 if weight.fake.narrow_range else -128, 127).astype(np.int8), every


def _dequantized(
    graph: _Graph, name: str, codes: NDArray[np.int8], scales: NDArray[np.float32], base: str
) -> list[onnx.NodeProto]:
    """DequantizeLinear nodes for all readers of a weight; the moves of values before them go."""
    found: list[onnx.NodeProto] = []
    left = False
    for reader, place in list(graph.readers(name)):
        moved = _moved(graph, reader) if place == 0 else None
        if moved is None:
            left = True
            continue
        graph.graph.node.remove(reader)
        found += _dequantized(graph, reader.output[0], moved(codes), moved(scales), f"{base}_{len(found)}")
    if left:
        axis, values = _axis_of(scales)
        parameters = [
            graph.constant(f"{base}_quantized", codes),
            graph.constant(f"{base}_scale", values),
            graph.constant(f"{base}_zero_point", np.zeros(values.shape, np.int8)),
        ]
        attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
        found.append(
            helper.make_node("DequantizeLinear", parameters, [name], name=f"{base}_DequantizeLinear", **attributes)
        )
    return found


def _moved(graph: _Graph, node: onnx.NodeProto) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
    """What a node does with an array, if it changes no value of it."""
    if node.op_type == "Identity":
        return lambda array: array
    if node.op_type == "Transpose":
        return lambda array: array.transpose(attribute(node, "perm", None))
    if any(name not in graph.constants for name in node.input[1:]):
        return None
    numbers = [tuple(numpy_helper.to_array(graph.constants[name]).tolist()) for name in node.input[1:]]
    if node.op_type == "Reshape":
        return lambda array: array.reshape(tuple(array.shape[k] if d == 0 else d for k, d in enumerate(numbers[0])))
    if node.op_type == "Squeeze":
        return lambda array: np.squeeze(array, numbers[0] if numbers else None)
    if node.op_type == "Unsqueeze":
        return lambda array: np.expand_dims(array, numbers[0])
    return None


def _axis_of(scales: NDArray[np.float32]) -> tuple[int | None, NDArray[np.float32]]:
    """The axis along which scales differ, and the scales; one for all where none differ."""
    if (scales == scales.flat[0]).all():
        return None, scales.reshape(-1)[0]
    for axis in range(scales.ndim):
        values = scales.min(axis=tuple(k for k in range(scales.ndim) if k != axis))
        shape = [1] * scales.ndim
        shape[axis] = -1
        if (scales == values.reshape(shape)).all():
            return axis, values
    raise AssertionError("scales per channel stay per channel")
