"""What is wrong with a Q/DQ graph from any exporter: code, node, what TensorRT will do, remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx

from quantlab.onnx_model import GraphView
from quantlab.qdq import lint_fusion, lint_structure, lint_values
from quantlab.qdq.finding import Finding
from quantlab.qdq.graph import export_graph, fold_around_qdq

CHECKS: tuple[Callable[[GraphView], Iterator[Finding]], ...] = (
    lint_values.zero_points_and_types,
    lint_values.granularity,
    lint_values.weight_axes,
    lint_fusion.breaks_fusion,
    lint_fusion.residual_adds,
    lint_structure.quantized_outputs,
    lint_structure.concat_scales,
    lint_structure.shape_computations,
    lint_structure.counterparts,
    lint_structure.doubled,
    lint_values.scale_values,
    lint_values.finite_constants,
    lint_values.opset,
    lint_structure.one_operand_float,
    lint_structure.subgraphs,
    lint_fusion.mixed_readers,
    lint_fusion.unfused_activations,
    lint_fusion.weights_dequantized,
    lint_fusion.clips_of_float_layers,
    lint_structure.axes_as_inputs,
)


def lint(proto: onnx.ModelProto) -> list[Finding]:
    """Every finding, in network order per check; an empty list for a clean graph. Constants are computed first."""
    view = GraphView(export_graph(fold_around_qdq(proto), proto))
    return [finding for check in CHECKS for finding in check(view)]
