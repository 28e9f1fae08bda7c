"""A widened model in the form that TensorRT takes: zero point 0 everywhere, see `full_range`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantlab.errors import GraphError
from quantlab.onnx_model import (
    FreshNames,
    GraphView,
    copy_model,
    drop_unread,
    require_finite,
    set_shapes,
    tensor_names,
    why_invalid,
)
from quantlab.qdq.rewritten import mark_rewritten
from quantlab.qdq.rules import row_of
from quantlab.transforms.biases import Biases, bias_site
from quantlab.transforms.channels_added import Stream, Widening, added_codes, room_of, stream_of
from quantlab.transforms.full_range import LOWEST, widened
from quantlab.transforms.stored import integer_weight
from quantlab.transforms.wide_sites import WideSite, wide_sites


def shifted(qdq: onnx.ModelProto) -> onnx.ModelProto:
    """Shift every tensor with the zero point -128 so that it becomes 0.

    Args:
        qdq: What `widen` gives, its weights and biases changed or not.

    Returns:
        The same function, but for the rounding of floats, with symmetric scales.

    Raises:
        GraphError: A tensor has this zero point and is none of `wide_sites`.
    """
    scales = widened(qdq)
    if not scales:
        return qdq
    model = copy_model(qdq)
    view = GraphView(qdq)
    sites, reasons = wide_sites(qdq)
    moved = {name for site in sites.values() for name in site.moved}
    if other := [name for name in scales if name not in sites and name not in moved]:
        why = reasons.get(other[0], "it has no activation before it")
        raise GraphError(f"tensor '{other[0]}' cannot have all codes: {why}", hint="leave it symmetric")
    chosen = [site for site in sites.values() if site.tensor in scales]
    names = FreshNames(tensor_names(model))
    biases = Biases(model)
    for site in chosen:
        shift = -LOWEST * float(scales[site.tensor])
        biases.add(site.site, -shift)
        for reader in site.readers:
            if not reader.padded:
                biases.add(reader.site, shift * _weight_sum(view, reader.node))
    longer = _add_channels(model, view, chosen, scales, names)
    for layer, more in longer.items():  # a bias that has not changed otherwise gets longer too
        bias = bias_site(view, view.named[layer], len(integer_weight(view, view.named[layer]).codes))
        assert bias is not None and more.size
        biases.add(bias, 0.0)
    biases.write(longer, names)
    _zero_points(model, {*scales}, names)
    _drop_activations(model, chosen, names)
    mark_rewritten(model, (), ())  # what is shifted has names of its own
    drop_unread(model)
    del model.graph.value_info[:]
    set_shapes(model)
    require_finite(model, "the shifted model")
    reason = why_invalid(model)
    if reason is not None:
        raise GraphError(f"the shifted model is not valid ONNX: {reason}", hint="please report this model")
    return model


def _weight_sum(view: GraphView, name: str) -> NDArray[np.float64] | float:
    """What one more in every input adds to the outputs of a layer; 1 for a sum of two branches."""
    node = view.named[name]
    row = row_of(node.op_type, node.domain)
    if row.weight_input is None:
        return 1.0
    weight = integer_weight(view, node)
    axes = tuple(a for a in range(weight.codes.ndim) if a != weight.axis)
    return np.asarray(weight.codes.sum(axis=axes) * weight.scale)


def _add_channels(
    model: onnx.ModelProto,
    view: GraphView,
    chosen: list[WideSite],
    scales: Mapping[str, NDArray[np.float64]],
    names: FreshNames,
) -> dict[str, NDArray[np.float64]]:
    """Give convolutions that pad with zeros the constant as channels of their own.

    Returns:
        Layer -> what its bias has for the channels that it gives more.
    """
    longer: dict[str, NDArray[np.float64]] = {}
    done: set[str] = set()
    by_tensor = {site.tensor: site for site in chosen}
    for site in chosen:
        if not site.padded or site.tensor in done:
            continue
        stream = stream_of(view, site.tensor)
        if isinstance(stream, str):
            raise GraphError(f"tensor '{site.tensor}' cannot have all codes: {stream}", hint="leave it symmetric")
        done.update(stream.tensors)
        constants = {t: -LOWEST * float(scales[t]) if t in by_tensor else 0.0 for t in stream.tensors}
        codes = {
            reader.node: added_codes(integer_weight(view, view.named[reader.node]).codes)
            for tensor in stream.tensors
            if tensor in by_tensor
            for reader in by_tensor[tensor].readers
            if reader.padded
        }
        needed = max(rows.shape[1] for rows in codes.values())  # rounding may have made it more than there is room for
        widening = Widening(model, view, names, max(needed, room_of(stream)))
        longer |= _widen_stream(widening, stream, constants, codes)
    return longer


def _widen_stream(
    widening: Widening, stream: Stream, constants: Mapping[str, float], codes: Mapping[str, NDArray[np.int64]]
) -> dict[str, NDArray[np.float64]]:
    longer = {}
    for layer in stream.readers:
        widening.read_more(layer, codes.get(layer))
    for name in stream.slices:
        widening.slice_less(name, stream.channels)
    for layer, (result, others) in stream.makers.items():
        value = -constants[result] + sum(constants[other] for other in others)
        longer[layer] = widening.give_more(layer, value)
    return longer


def _drop_activations(model: onnx.ModelProto, chosen: list[WideSite], names: FreshNames) -> None:
    """What comes before an activation is quantized in its place, under a name that FP32 has not: its values are others,
    and nobody compares the two."""
    gone = {site.activation for site in chosen}
    renamed = {}
    for node in model.graph.node:
        if node.name in gone:
            renamed[node.input[0]] = renamed[node.output[0]] = names.new(f"{node.output[0]}_shifted")
    kept = [node for node in model.graph.node if node.name not in gone]
    for node in kept:
        for index, name in enumerate(node.output):
            node.output[index] = renamed.get(name, name)
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _zero_points(model: onnx.ModelProto, tensors: set[str], names: FreshNames) -> None:
    view = GraphView(model)
    for q in [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in tensors]:
        zero = names.new(f"{q.input[0]}_zero_point")
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(0, np.int8), zero))
        for node in (q, *(dq for dq, _ in view.readers[q.output[0]])):
            node.input[2] = zero
