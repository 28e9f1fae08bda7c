"""Checks of `lint` of the values in Q/DQ nodes: scales, zero points, axes, types. One function per code or two."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from quantlab.numerics import SMALLEST_SCALE
from quantlab.onnx_model import (
    STANDARD_DOMAINS,
    GraphView,
    attribute,
    node_attributes,
    node_label,
    not_finite,
    opset_of,
)
from quantlab.qdq.finding import Finding
from quantlab.qdq.rules import RULES, weighted_nodes


def zero_points_and_types(view: GraphView) -> Iterator[Finding]:
    """Q01, Q02, Q04, Q18: what the codes are."""
    for node in view.qdq_nodes:
        if node.op_type == "DequantizeLinear" and view.type_of(node.input[0]) == onnx.TensorProto.INT32:
            yield Finding("Q04", node_label(node), f"bias '{node.input[0]}'")
            continue
        zero_point = view.zero_point(node)
        if zero_point is None:
            continue
        if np.any(zero_point != 0):
            yield Finding("Q01", node_label(node), f"zero point {np.unique(zero_point)[:4].tolist()}")
        reported = node.op_type == "DequantizeLinear" and not view.is_constant(node.input[0])  # with its QuantizeLinear
        if zero_point.dtype == np.uint8 and not reported:
            yield Finding("Q02", node_label(node), f"tensor '{node.input[0]}'")
        elif zero_point.dtype not in (np.int8, np.uint8) and not reported:
            yield Finding("Q18", node_label(node), f"{zero_point.dtype} codes of '{node.input[0]}'")


def granularity(view: GraphView) -> Iterator[Finding]:
    """Q03, Q17: how many scales, and whether they are constant."""
    for node in view.qdq_nodes:
        scale = view.scale(node)
        if scale is None:
            yield Finding("Q17", node_label(node), f"scale '{node.input[1]}'")
        elif scale.size > 1 and node.op_type == "QuantizeLinear" and not view.is_weight(node):
            yield Finding("Q03", node_label(node), f"tensor '{node.input[0]}' has {scale.size} scales")


def weight_axes(view: GraphView) -> Iterator[Finding]:
    """Q05: along which axis a weight has its scales."""
    for node, weight_input in weighted_nodes(view.proto.graph):
        dq = view.maker(node.input[weight_input], "DequantizeLinear")
        weight = None if dq is None else view.weight(dq)
        if dq is None or weight is None:
            continue
        scale, ndim = view.scale(dq), weight.ndim
        if scale is None or scale.size <= 1 or attribute(dq, "block_size", 0):
            continue
        wanted, got = RULES[node.op_type].axis(node_attributes(node), ndim), attribute(dq, "axis", 1) % ndim
        if got != wanted:
            needs = "one scale for the whole tensor" if wanted is None else f"axis {wanted}"
            yield Finding("Q05", node_label(dq), f"axis {got}, {node.op_type} '{node_label(node)}' needs {needs}")


def scale_values(view: GraphView) -> Iterator[Finding]:
    """Q13: scales that are no numbers to divide by."""
    for node in view.qdq_nodes:
        scale = view.scale(node)
        if scale is None:
            continue
        values = scale.astype(np.float64)
        bad = values[~(np.isfinite(values) & (values >= SMALLEST_SCALE))]
        if bad.size:
            yield Finding("Q13", node_label(node), f"{bad.size} of {values.size}, such as {bad.flat[0]:.3g}")


def finite_constants(view: GraphView) -> Iterator[Finding]:
    """Q23: weights and biases that are no numbers to compute with. Those of scales are Q13."""
    scales = {node.input[1] for node in view.qdq_nodes}
    for found in not_finite(view.proto):
        if found.tensor not in scales:
            yield Finding("Q23", found.node, str(found))


def opset(view: GraphView) -> Iterator[Finding]:
    """Q14, Q15: what the opset of the model allows."""
    version = opset_of(view.proto)
    for node in view.qdq_nodes:
        scale = view.scale(node)
        if scale is not None and scale.dtype == np.float16 and version < 19:
            yield Finding("Q14", node_label(node), f"opset {version}")
        if scale is not None and scale.size > 1 and version < 13:
            yield Finding("Q15", node_label(node), f"opset {version} has no per-channel scales: needs 13")
        if attribute(node, "block_size", 0) and version < 21:
            yield Finding("Q15", node_label(node), f"opset {version} has no blocked scales: needs 21")
        if node.domain not in STANDARD_DOMAINS:
            yield Finding("Q15", node_label(node), f"domain '{node.domain}': TensorRT reads the standard operators")
