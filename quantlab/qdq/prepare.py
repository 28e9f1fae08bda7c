"""Before Q/DQ: constants folded, BatchNorm folded into its convolution, every node named, opset at least 13."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import version_converter
from onnx_graphsurgeon.logger.logger import G_LOGGER

from quantlab.errors import GraphError
from quantlab.qdq.names import Names

OPSET = 13  # the first with per-channel QuantizeLinear and DequantizeLinear
_LOG = logging.getLogger(__name__)
G_LOGGER.severity = G_LOGGER.ERROR  # it prints to stdout below that


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of the default ONNX domain."""
    return next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)


def fold(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with constant subgraphs computed. Tensor names and the order of the nodes stay."""
    return export_graph(_folded(proto), proto)


def prepare(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The network that Q/DQ nodes go into; see the module. The inputs and outputs stay."""
    graph = _folded(proto)
    _name_nodes(graph)
    _fold_batch_norm(graph)
    graph.cleanup()
    return export_graph(graph, proto)


def _folded(proto: onnx.ModelProto) -> gs.Graph:
    if opset_of(proto) < OPSET:
        try:
            proto = version_converter.convert_version(proto, OPSET)
        except Exception as error:  # the converter raises RuntimeError and its own types
            reason = str(error).strip().splitlines()[0]
            raise GraphError(
                f"the model has opset {opset_of(proto)} and cannot be converted to {OPSET}: {reason}",
                hint=f"export it with opset {OPSET} or newer",
            ) from error
        _LOG.info("converted to opset %d", OPSET)
    graph = gs.import_onnx(onnx.shape_inference.infer_shapes(proto))
    return graph.fold_constants().cleanup()


def export_graph(graph: gs.Graph, original: onnx.ModelProto) -> onnx.ModelProto:
    """The ModelProto of a graph, with the IR version and metadata of the model it came from."""
    proto = gs.export_onnx(graph, do_type_check=False)
    proto.ir_version = max(original.ir_version, 7)  # 7 is the IR of opset 12 and 13
    proto.producer_name, proto.producer_version = original.producer_name, original.producer_version
    del proto.metadata_props[:]
    proto.metadata_props.extend(original.metadata_props)
    return onnx.shape_inference.infer_shapes(proto)


def _name_nodes(graph: gs.Graph) -> None:
    used = {node.name for node in graph.nodes if node.name}
    seen: set[str] = set()
    for node in graph.nodes:
        if not node.name or node.name in seen:
            base = node.name or node.op
            number = next(k for k in range(len(used) + 1) if f"{base}_{k}" not in used)
            node.name = f"{base}_{number}"
            used.add(node.name)
        seen.add(node.name)


def _fold_batch_norm(graph: gs.Graph) -> None:
    """`y = (conv(x) - mean) * gamma / sqrt(var + eps) + beta` as one convolution, computed in float64."""
    outputs = {id(t) for t in graph.outputs}
    names = Names(graph)
    for norm in [n for n in graph.nodes if n.op == "BatchNormalization"]:
        source = norm.inputs[0]
        conv = source.inputs[0] if len(source.inputs) == 1 else None
        if norm.attrs.get("training_mode", 0) or len(norm.outputs) != 1:
            continue  # it normalizes by the batch's own statistics
        alone = len(source.outputs) == 1 and id(source) not in outputs
        if conv is None or conv.op not in ("Conv", "ConvTranspose") or not alone:
            continue
        axis = 0 if conv.op == "Conv" else 1
        grouped = conv.op == "ConvTranspose" and conv.attrs.get("group", 1) != 1
        if grouped or not all(isinstance(t, gs.Constant) for t in (*norm.inputs[1:5], *conv.inputs[1:])):
            continue
        gamma, beta, mean, var = (t.values.astype(np.float64) for t in norm.inputs[1:5])
        factor = gamma / np.sqrt(var + norm.attrs.get("epsilon", 1e-5))
        weight = conv.inputs[1].values
        scaled = weight * factor.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
        bias = conv.inputs[2].values if len(conv.inputs) > 2 else 0.0
        folded = gs.Constant(
            names.new(f"{conv.name}_folded_bias"), ((bias - mean) * factor + beta).astype(weight.dtype)
        )
        kernel = gs.Constant(names.new(f"{conv.name}_folded_weight"), scaled.astype(weight.dtype))
        conv.inputs = [conv.inputs[0], kernel, folded]
        conv.outputs = [norm.outputs[0]]
        norm.outputs = []
