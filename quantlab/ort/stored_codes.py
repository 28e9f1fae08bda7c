"""Weights behind Q/DQ pairs as their int8 codes: ONNX Runtime would quantize them anew in every run."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from quantlab.numerics import quantize
from quantlab.onnx_model import STANDARD_DOMAINS, all_nodes, copy_model


def with_stored_codes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Compute the codes of constant weights that have a scale per channel, once.

    The outputs stay what they are, bit for bit. ONNX Runtime quantizes along a last axis, that of a MatMul, value by
    value: some hundred times slower than with one scale, and slower than the network itself.

    Args:
        proto: A model; it stays as it is.

    Returns:
        The model itself where it has no such weight, else a copy.
    """
    outputs = {o.name for o in proto.graph.output}
    constants = {t.name: t for t in proto.graph.initializer}
    codes: dict[int, onnx.TensorProto] = {}
    for number, node in enumerate(proto.graph.node):
        if node.op_type == "QuantizeLinear" and node.domain in STANDARD_DOMAINS and node.output[0] not in outputs:
            found = _codes(node, constants)
            if found is not None:
                codes[number] = found
    if not codes:
        return proto
    copied = copy_model(proto)
    graph = copied.graph
    for number in sorted(codes, reverse=True):
        del graph.node[number]
    read = {name for node in all_nodes(graph) for name in node.input} | outputs
    unread = {proto.graph.node[number].input[0] for number in codes} - read
    for number in reversed([k for k, t in enumerate(graph.initializer) if t.name in unread]):
        del graph.initializer[number]
    for number in reversed([k for k, i in enumerate(graph.input) if i.name in unread]):
        del graph.input[number]
    graph.initializer.extend(codes.values())
    copied.ir_version = max(copied.ir_version, 4)  # before it every constant had to be an input too
    return copied


def _codes(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> onnx.TensorProto | None:
    """What the node makes of a constant float32 weight with int8 codes around 0, a scale per channel; None of another
    one."""
    if len(node.input) < 3 or not all(name in constants for name in node.input):
        return None
    weight, scale, zero_point = (constants[name] for name in node.input)
    kinds = [weight.data_type, scale.data_type, zero_point.data_type]
    if kinds != [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT, onnx.TensorProto.INT8]:
        return None
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    axis, _ = int(given.pop("axis", 1)), given.pop("saturate", 1)  # the latter is for float8
    shape, scales = tuple(weight.dims), numpy_helper.to_array(scale)
    per_channel = -len(shape) <= axis < len(shape) and scales.shape == (shape[axis],) == tuple(zero_point.dims)
    if any(given.values()) or not per_channel or numpy_helper.to_array(zero_point).any():
        return None
    values = numpy_helper.to_array(weight)
    if np.isnan(values).any() or not ((scales > 0) & np.isfinite(scales)).all():
        return None
    return numpy_helper.from_array(quantize(values, scales, axis), node.output[0])
