"""The tensors that can have all codes, see `full_range`: what gives them, who reads them, and why others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from quantlab.onnx_model import GraphView, attribute, node_attributes
from quantlab.qdq.rules import row_of
from quantlab.transforms.biases import BiasSite, bias_site
from quantlab.transforms.channels_added import added_codes, room_of, stream_of
from quantlab.transforms.full_range import widened
from quantlab.transforms.stored import integer_weight


@dataclass(frozen=True, slots=True)
class Reader:
    """A layer or a sum that reads a tensor in INT8.

    Attributes:
        node: Its name.
        site: The bias that makes up for the shift.
        padded: Whether it pads with zeros, so that the shift is made up for by channels of its own.
    """

    node: str
    site: BiasSite
    padded: bool = False


@dataclass(frozen=True, slots=True)
class WideSite:
    """A tensor that can have all codes.

    Attributes:
        tensor: Its name.
        activation: The ReLU or Clip that gives it, which goes.
        highest: The upper end of that Clip, beyond which saturation must begin; None for a ReLU.
        site: The bias that the shift goes off.
        readers: Who makes up for it.
        moved: Tensors that hold the same values behind a MaxPool or the like, with a pair of their own.
    """

    tensor: str
    activation: str
    highest: float | None
    site: BiasSite
    readers: tuple[Reader, ...]
    moved: tuple[str, ...] = ()

    @property
    def padded(self) -> bool:
        """Whether a reader pads with zeros."""
        return any(reader.padded for reader in self.readers)


def wide_sites(qdq: onnx.ModelProto) -> tuple[dict[str, WideSite], dict[str, str]]:
    """Find the tensors that can have all codes.

    Args:
        qdq: A Q/DQ model with symmetric scales.

    Returns:
        By tensor, in network order; and for the other quantized tensors behind a ReLU or Clip the reason why not.
    """
    view = GraphView(qdq)
    sites, reasons = dict[str, WideSite](), dict[str, str]()
    for q in qdq.graph.node:
        if q.op_type != "QuantizeLinear" or view.is_constant(q.input[0]):
            continue
        found = _site(view, q)
        if isinstance(found, WideSite):
            sites[found.tensor] = found
        elif found:
            reasons[q.input[0]] = found
    return sites, reasons


def _site(view: GraphView, q: onnx.NodeProto) -> WideSite | str:
    """A site, a reason, or '' where there is no activation that ends at 0."""
    tensor = str(q.input[0])
    activation = view.producer.get(tensor)
    if activation is None or not _starts_at_zero(view, activation):
        return ""
    before = str(activation.input[0])
    if len(view.readers[tensor]) > 1 or tensor in view.outputs:
        return "it is read in float too"
    if len(view.readers[before]) > 1 or before in view.outputs:
        return f"'{before}' is read by others than {activation.op_type}"
    site = _shift_site(view, before)
    if site is None:
        return f"nothing before '{activation.name}' has a constant bias"
    walk = _Readers(view)
    walk.follow(q)
    padded = [reader.node for reader in walk.found if reader.padded]
    reason = walk.reason or (_no_room(view, tensor, padded) if padded else "")
    if reason:
        return reason
    return WideSite(tensor, activation.name, _end(view, activation), site, tuple(walk.found), tuple(walk.moved))


def _no_room(view: GraphView, tensor: str, padded: Sequence[str]) -> str:
    """Why channels for convolutions that pad with zeros are not free; '' if they are."""
    stream = stream_of(view, tensor)
    if isinstance(stream, str):
        return f"'{padded[0]}' pads with zeros, and {stream}"
    needed = max(added_codes(integer_weight(view, view.named[name]).codes).shape[1] for name in padded)
    if needed > room_of(stream) and tensor not in widened(view.proto):  # of such a one rounding may have made more
        return f"'{padded[0]}' pads with zeros, and {stream.channels} channels have no room for {needed} more"
    return ""


def _starts_at_zero(view: GraphView, activation: onnx.NodeProto) -> bool:
    """Whether an activation is a ReLU, or a Clip from 0 to a constant or to nothing."""
    match activation.op_type:
        case "Relu":
            return True
        case "Clip":
            low, high = [*activation.input[1:], "", ""][:2]
            start = view.constant(low)
            return start is not None and not np.any(start) and (not high or view.is_constant(high))
    return False


def _end(view: GraphView, activation: onnx.NodeProto) -> float | None:
    """Where a Clip ends; None of what has no end."""
    high = view.constant(activation.input[2]) if len(activation.input) > 2 else None
    return None if high is None else float(high.reshape(()))


def _shift_site(view: GraphView, tensor: str) -> BiasSite | None:
    """A bias by which a tensor that one node reads can be shifted as a whole."""
    maker = view.producer.get(tensor)
    if maker is None:
        return None
    row = row_of(maker.op_type, maker.domain)
    if row.bias_input is not None and _is_scaled(maker):
        return None
    if row.bias_input is not None:
        outputs = _outputs(view, maker)
        return bias_site(view, maker, outputs) if outputs else None
    if not row.residual:
        return None
    for index, name in enumerate(maker.input):
        value = view.constant(name)
        if value is not None and value.dtype == np.float32:
            return BiasSite(maker.name, index, maker.output[0], value)
    for name in maker.input:
        if len(view.readers[name]) == 1 and name not in view.outputs:
            site = _shift_site(view, name)
            if site is not None:
                return site
    return None


def _outputs(view: GraphView, layer: onnx.NodeProto) -> int:
    """How many channels a layer with constant weights gives, quantized or not; 0 if that is not known."""
    row = row_of(layer.op_type, layer.domain)
    if row.weight_input is None:
        return 0
    name = layer.input[row.weight_input]
    dq = view.maker(name, "DequantizeLinear")
    weight = view.constant(name) if dq is None else view.weight(dq)
    axis = None if weight is None else row.axis(node_attributes(layer), weight.ndim)
    if weight is None or axis is None:
        return 0
    groups = attribute(layer, "group", 1) if layer.op_type == "ConvTranspose" else 1
    return int(weight.shape[axis] * groups)


@dataclass
class _Readers:
    """Who reads a quantized tensor, at once or behind nodes that only move its values.

    Attributes:
        view: The graph.
        found: Those that can make up for a shift.
        moved: Other tensors with the same values and a pair of their own.
        reason: Why one cannot.
    """

    view: GraphView
    found: list[Reader] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    reason: str = ""
    _behind_mover: bool = False

    def follow(self, q: onnx.NodeProto) -> None:
        """Look at all readers of a QuantizeLinear's codes."""
        for dq, _ in self.view.readers[q.output[0]]:
            if dq.op_type != "DequantizeLinear":
                self.reason = f"'{dq.name}' reads its codes"
            elif dq.output[0] in self.view.outputs:
                self.reason = "it is an output"
            else:
                self._look_at(str(dq.output[0]))

    def _look_at(self, tensor: str) -> None:
        for node, index in self.view.readers.get(tensor, []):
            if not self.reason:
                self._read(node, index)

    def _read(self, node: onnx.NodeProto, index: int) -> None:
        row = row_of(node.op_type, node.domain)
        if row.weight_input is not None and index == 0:
            self._layer(node)
        elif row.residual:
            self._sum(node, index)
        elif row.share_scale and not row.all_inputs and index == 0 and not _fills(node) and len(node.output) == 1:
            self._mover(node)
        else:
            self.reason = f"'{node.name}' ({node.op_type}) reads it"

    def _layer(self, node: onnx.NodeProto) -> None:
        outputs = _outputs(self.view, node)
        site = bias_site(self.view, node, outputs) if outputs else None
        weight = self.view.maker(node.input[1], "DequantizeLinear")
        stored = None if weight is None else self.view.weight(weight)
        batched = stored is not None and node.op_type == "MatMul" and stored.ndim > 2
        if site is None or stored is None or batched or _is_scaled(node):
            self.reason = f"'{node.name}' has no constant bias, or its weight is not constant INT8"
        elif row_of(node.op_type, node.domain).epilogue and (_may_pad(node) or node.op_type == "ConvTranspose"):
            self._padded(node, site)
        else:
            self.found.append(Reader(node.name, site))

    def _padded(self, node: onnx.NodeProto, site: BiasSite) -> None:
        if node.op_type != "Conv" or attribute(node, "group", 1) != 1 or self._behind_mover:
            self.reason = f"'{node.name}' pads with zeros"
        else:
            self.found.append(Reader(node.name, site, padded=True))

    def _sum(self, node: onnx.NodeProto, index: int) -> None:
        other = node.input[1 - index]
        value = self.view.constant(other)
        alone = len(self.view.readers[other]) == 1 and other not in self.view.outputs
        if value is not None and value.dtype == np.float32:
            site: BiasSite | None = BiasSite(node.name, 1 - index, node.output[0], value)
        else:
            site = _shift_site(self.view, other) if alone else None
        if site is None:
            self.reason = f"the other branch of '{node.name}' has no constant bias"
        else:
            self.found.append(Reader(node.name, site))

    def _mover(self, node: onnx.NodeProto) -> None:
        result = str(node.output[0])
        readers = self.view.readers.get(result, [])
        if result in self.view.outputs:
            self.reason = f"'{node.name}' gives an output"
        before, self._behind_mover = self._behind_mover, True
        if len(readers) == 1 and readers[0][0].op_type == "QuantizeLinear":
            self.moved.append(result)
            self.follow(readers[0][0])
        else:
            self._look_at(result)
        self._behind_mover = before


def _is_scaled(node: onnx.NodeProto) -> bool:
    """Whether a Gemm multiplies its product or its bias by a number."""
    return any(attribute(node, name, 1.0) != 1.0 for name in ("alpha", "beta"))


def _fills(node: onnx.NodeProto) -> bool:
    """Whether a node that moves values puts zeros beside them, or for those outside of the image."""
    mode = attribute(node, "coordinate_transformation_mode", b"half_pixel")
    return node.op_type == "Pad" or (node.op_type == "Resize" and mode == b"tf_crop_and_resize")


def _may_pad(node: onnx.NodeProto) -> bool:
    auto_pad = attribute(node, "auto_pad", b"NOTSET")
    return any(attribute(node, "pads", [])) or auto_pad in (b"SAME_UPPER", b"SAME_LOWER")
