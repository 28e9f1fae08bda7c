"""Channels of a constant value beside those of a tensor: who has to give them, who reads them, who leaves them out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantlab.numerics import INT8_MAX
from quantlab.onnx_model import FreshNames, GraphView, attribute
from quantlab.qdq.rules import row_of
from quantlab.transforms.biases import bias_site
from quantlab.transforms.full_range import CHANNEL_BLOCK
from quantlab.transforms.stored import integer_weight, weight_tensor


@dataclass
class Stream:
    """Tensors that get channels together, because they are added to each other.

    Attributes:
        tensors: That are quantized.
        makers: Convolution -> (the tensor that it is a part of, the other tensors of the same sum).
        readers: Convolutions that read one of them.
        slices: Slices that leave the channels out again.
        channels: That they have.
    """

    tensors: dict[str, None] = field(default_factory=dict)
    makers: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    readers: dict[str, None] = field(default_factory=dict)
    slices: dict[str, None] = field(default_factory=dict)
    channels: int = 0


def stream_of(view: GraphView, tensor: str) -> Stream | str:
    """Find all that changes where a tensor gets channels.

    Args:
        view: Of the Q/DQ model.
        tensor: A quantized tensor.

    Returns:
        The tensors and nodes, or why that cannot be.
    """
    stream, waiting = Stream(), [tensor]
    while waiting:
        name = waiting.pop()
        if name in stream.tensors:
            continue
        if name in view.outputs:
            return f"'{name}' is an output"
        stream.tensors[name] = None
        for problem in (_look_back(view, stream, waiting, name), _look_ahead(view, stream, waiting, name)):
            if problem:
                return problem
    return stream


def room_of(stream: Stream) -> int:
    """How many channels fit into the block that TensorRT computes anyway."""
    return -stream.channels % CHANNEL_BLOCK


def _look_back(view: GraphView, stream: Stream, waiting: list[str], name: str) -> str:
    """Who gives it: a convolution, or the sum of one and of other tensors of the stream."""
    maker = view.producer.get(name)
    if maker is not None and row_of(maker.op_type, maker.domain).fused:
        if not _keeps_zero(view, maker):
            return f"'{maker.name}' makes something else of 0"
        maker = view.producer.get(maker.input[0])
    if maker is None:
        return f"nothing gives '{name}'"
    layers, others = [], list[str]()
    for source in maker.input if maker.op_type == "Add" else [maker.output[0]]:
        layer = view.producer.get(source)
        if source in view.outputs:
            return f"'{source}' is an output"
        if layer is not None and layer.op_type == "Conv" and len(view.readers[layer.output[0]]) == 1:
            layers.append(layer)
        elif layer is not None and layer.op_type == "DequantizeLinear":
            others.append(view.source(source))
        else:
            return f"'{source}' is no convolution's and not quantized"
    if len(layers) != 1:
        return f"'{maker.name}' adds {len(layers)} convolutions"
    layer = layers[0]
    weight = view.maker(layer.input[1], "DequantizeLinear")
    if weight is None or attribute(layer, "group", 1) != 1 or _is_shared(view, weight):
        return f"'{layer.name}' is grouped, shares its weight or is not quantized"
    stored = view.weight(weight)
    stream.channels = 0 if stored is None else len(stored)
    if bias_site(view, layer, stream.channels) is None:
        return f"the bias of '{layer.name}' is computed"
    stream.makers[layer.name] = name, tuple(others)
    waiting.extend(others)
    return ""


def _keeps_zero(view: GraphView, activation: onnx.NodeProto) -> bool:
    if activation.op_type != "Clip":
        return row_of(activation.op_type, activation.domain).keeps_zero and len(activation.input) == 1
    low, high = (view.constant(name) if name else None for name in [*activation.input[1:], "", ""][:2])
    return (low is None or bool(np.all(low <= 0))) and (high is None or bool(np.all(high >= 0)))


def _look_ahead(view: GraphView, stream: Stream, waiting: list[str], name: str) -> str:
    """Who reads it: convolutions, sums whose result is quantized, and Slices."""
    for q, _ in view.readers[name]:
        if q.op_type != "QuantizeLinear":
            return f"'{q.name}' reads it in float"
        for dq, _ in view.readers[q.output[0]]:
            if dq.output[0] in view.outputs:
                return f"'{dq.output[0]}' is an output"
            for node, index in view.readers.get(dq.output[0], []):
                problem = _read(view, stream, waiting, node, index)
                if problem:
                    return problem
    return ""


def _read(view: GraphView, stream: Stream, waiting: list[str], node: onnx.NodeProto, index: int) -> str:
    if node.op_type == "Conv" and index == 0:
        weight = view.maker(node.input[1], "DequantizeLinear")
        if weight is None or attribute(node, "group", 1) != 1 or _is_shared(view, weight):
            return f"'{node.name}' is grouped, shares its weight or is not quantized"
        stream.readers[node.name] = None
        return ""
    if node.op_type == "Add":
        result = _quantized_result(view, str(node.output[0]))
        if result is None:
            return f"the result of '{node.name}' is read in float"
        waiting.append(result)
        return ""
    if node.op_type == "Slice" and _can_slice(view, node):
        stream.slices[node.name] = None
        return ""
    return f"'{node.name}' ({node.op_type}) reads it"


def _quantized_result(view: GraphView, tensor: str) -> str | None:
    """The tensor behind a sum, through its activation, if all that reads it is one QuantizeLinear."""
    while tensor not in view.outputs and len(view.readers.get(tensor, [])) == 1:
        reader = view.readers[tensor][0][0]
        if reader.op_type == "QuantizeLinear":
            return tensor
        if not row_of(reader.op_type, reader.domain).fused:
            return None
        tensor = str(reader.output[0])
    return None


def _is_shared(view: GraphView, dequantize: onnx.NodeProto) -> bool:
    stored = weight_tensor(view, dequantize)
    return len(view.readers[stored]) > 1 or len(view.readers[dequantize.output[0]]) > 1


def _can_slice(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a Slice has constant ranges, all of them of dimensions behind the channels."""
    values = [value for name in node.input[1:] if (value := view.constant(name)) is not None]
    return len(values) == len(node.input) - 1 and len(values) >= 3 and bool((values[2] > 1).all())


def added_codes(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The weights for channels of the code -128 that stand for the constant of a shifted input.

    Args:
        codes: Of a convolution, (outputs, inputs, kernel...).

    Returns:
        (outputs, added, kernel...), whose sum over the added channels is minus the sum over the inputs.
    """
    wanted = -codes.sum(axis=1)
    count = max(1, -(-int(np.abs(wanted).max()) // INT8_MAX))
    base, rest = np.divmod(np.abs(wanted), count)
    parts = [np.sign(wanted) * (base + (rest > k)) for k in range(count)]
    return np.stack(parts, axis=1)


@dataclass
class Widening:
    """Writes convolutions with more channels.

    Attributes:
        model: The model, which changes.
        view: Of the model as it was.
        names: Of new tensors.
        count: How many channels are added.
    """

    model: onnx.ModelProto
    view: GraphView
    names: FreshNames
    count: int

    def __post_init__(self) -> None:
        self._stored = {t.name: t for t in self.model.graph.initializer}
        self._nodes: dict[str, onnx.NodeProto] = {node.name: node for node in self.model.graph.node}

    def read_more(self, layer: str, codes: NDArray[np.int64] | None) -> None:
        """Let a convolution read the channels.

        Args:
            layer: Its name.
            codes: The weights for them; None for 0.
        """
        tensor = self._stored[weight_tensor(self.view, self._weight(layer))]
        values = numpy_helper.to_array(tensor)
        more = np.zeros((len(values), self.count, *values.shape[2:]), np.float64)
        if codes is not None:
            scale = integer_weight(self.view, self.view.named[layer]).scale.reshape(-1, *[1] * (values.ndim - 1))
            step = 1.0 if values.dtype == np.int8 else scale
            more[: len(codes), : codes.shape[1]] = codes * step  # outputs that it has got are 0
        self._write(tensor, np.concatenate([values, more.astype(values.dtype)], axis=1))

    def give_more(self, layer: str, value: float) -> NDArray[np.float64]:
        """Let a convolution give the channels, with weights of 0.

        Args:
            layer: Its name.
            value: Of the channels.

        Returns:
            What its bias gets for them.
        """
        weight = self._weight(layer)
        tensor = self._stored[weight_tensor(self.view, weight)]
        values = numpy_helper.to_array(tensor)
        self._write(tensor, np.concatenate([values, np.zeros((self.count, *values.shape[1:]), values.dtype)]))
        pair = [node for node in self.model.graph.node if weight.output[0] in node.output]
        pair += [
            node for node in self.model.graph.node if node.op_type == "QuantizeLinear" and tensor.name in node.input
        ]
        scale, zero = (numpy_helper.to_array(self._stored[weight.input[k]]) for k in (1, 2))
        if scale.ndim:
            named = [self.names.new(weight.input[k]) for k in (1, 2)]
            for name, old, fill in zip(named, (scale, zero), (1.0, 0), strict=True):
                longer = np.concatenate([old, np.full(self.count, fill, old.dtype)])
                self.model.graph.initializer.append(numpy_helper.from_array(longer, name))
                self._stored[name] = self.model.graph.initializer[-1]
            for node in pair:
                node.input[1], node.input[2] = named
        return np.full(self.count, value)

    def slice_less(self, name: str, channels: int) -> None:
        """Let a Slice leave the channels out: the one kernel does both.

        Args:
            name: Of the Slice.
            channels: That stay.
        """
        node = self._nodes[name]
        values = [np.asarray(self.view.constant(x), np.int64) for x in node.input[1:]]
        extra = [0, channels, 1, 1][: len(values)]
        inputs = [node.input[0]]
        for old, more in zip(values, extra, strict=True):
            new = self.names.new(f"{name}_range")
            self.model.graph.initializer.append(numpy_helper.from_array(np.concatenate([old, [more]]), new))
            inputs.append(new)
        del node.input[:]
        node.input.extend(inputs)

    def _weight(self, layer: str) -> onnx.NodeProto:
        node = self._nodes[layer]
        found = self.view.maker(node.input[1], "DequantizeLinear")
        assert found is not None  # only such layers are in a stream
        return self._nodes[found.name]

    @staticmethod
    def _write(tensor: onnx.TensorProto, values: NDArray[np.generic]) -> None:
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
