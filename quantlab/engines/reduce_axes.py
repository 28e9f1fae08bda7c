"""Reduce operators as the ONNX parser of TensorRT 8 reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantlab.errors import BuildError
from quantlab.onnx_model import all_nodes, attribute, copy_model, has_axes_as_input, node_label


def axes_as_attributes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Give Reduce operators their axes as TensorRT 8 reads them.

    From opset 18 on they are an input (of ReduceSum from 13 on, which TensorRT 8 knows). TensorRT 8 does not read it:
    it reduces over every axis, the batch included, and says nothing (github.com/NVIDIA/TensorRT/issues/3467; seen with
    8.6.0 in the shape of what follows). The attribute of earlier opsets is what it reads.

    Args:
        proto: The model, for the parser; it is not changed.

    Returns:
        The model itself where nothing is to be done, else a copy that is no valid ONNX any more.

    Raises:
        BuildError: The axes of a node are computed, or it has none and reduces nothing.
    """
    if not any(map(has_axes_as_input, all_nodes(proto.graph))):
        return proto
    copied = copy_model(proto)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in copied.graph.initializer if _is_axes(tensor)}
    for node in all_nodes(copied.graph):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Constant" and node.attribute[0].name == "value_ints":
            constants[node.output[0]] = np.array(node.attribute[0].ints, np.int64)
    for node in filter(has_axes_as_input, all_nodes(copied.graph)):
        _write(node, constants)
    return copied


def _is_axes(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == onnx.TensorProto.INT64 and len(tensor.dims) == 1


def _write(node: onnx.NodeProto, constants: dict[str, NDArray[Any]]) -> None:
    name = node.input[1] if len(node.input) > 1 else ""
    if name and name not in constants:
        raise BuildError(
            f"node '{node_label(node)}' ({node.op_type}) computes its axes, and TensorRT 8 would reduce over all",
            hint="export the model with constant axes, or use TensorRT 10",
        )
    axes = [int(axis) for axis in constants[name].reshape(-1)] if name else []
    if not axes and attribute(node, "noop_with_empty_axes", 0):
        raise BuildError(
            f"node '{node_label(node)}' ({node.op_type}) reduces nothing, and TensorRT 8 would reduce over all axes",
            hint="export the model without the node, or use TensorRT 10",
        )
    kept = [one for one in node.attribute if one.name != "noop_with_empty_axes"]
    del node.attribute[:], node.input[1:]
    node.attribute.extend(kept + ([helper.make_attribute("axes", axes)] if axes else []))
