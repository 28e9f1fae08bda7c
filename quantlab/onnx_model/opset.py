"""The version of the ONNX operators that a model uses."""

from __future__ import annotations

import onnx
from onnx import version_converter

from quantlab.errors import GraphError, first_line
from quantlab.onnx_model.large import copy_model
from quantlab.onnx_model.nodes import opset_of
from quantlab.onnx_model.plugins import set_plugins_aside, set_plugins_back


def raise_opset(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Convert a model to a newer opset. Large weights are set aside meanwhile.

    Args:
        proto: The model; it stays as it is.
        opset: The version of the default domain that the result shall have.

    Returns:
        The converted copy, with the same inputs and outputs.

    Raises:
        GraphError: onnx cannot convert this model.
    """
    light = copy_model(proto, with_weights=False)
    set_plugins_aside(light)
    try:
        model: onnx.ModelProto = version_converter.convert_version(light, opset)
    except Exception as error:  # the converter raises RuntimeError and its own types
        raise GraphError(
            f"the model has opset {opset_of(proto)} and cannot be converted to {opset}: {first_line(error)}",
            hint=f"export it with opset {opset} or newer",
        ) from error
    set_plugins_back(model)
    there, fed = {t.name for t in model.graph.initializer}, {i.name for i in proto.graph.input}
    model.graph.initializer.extend(t for t in proto.graph.initializer if t.name not in there)
    kept = [i for i in model.graph.input if i.name in fed]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model
