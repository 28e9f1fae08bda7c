"""The version of the ONNX operators that a model uses."""

from __future__ import annotations

import onnx
from onnx import version_converter

from quantlab.errors import GraphError, first_line
from quantlab.onnx_model.large import copy_model
from quantlab.onnx_model.nodes import STANDARD_DOMAINS


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of the default ONNX domain; 1 where the model names none."""
    return next((o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS), 1)


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
    try:
        model: onnx.ModelProto = version_converter.convert_version(copy_model(proto, with_weights=False), opset)
    except Exception as error:  # the converter raises RuntimeError and its own types
        raise GraphError(
            f"the model has opset {opset_of(proto)} and cannot be converted to {opset}: {first_line(error)}",
            hint=f"export it with opset {opset} or newer",
        ) from error
    there, fed = {t.name for t in model.graph.initializer}, {i.name for i in proto.graph.input}
    model.graph.initializer.extend(t for t in proto.graph.initializer if t.name not in there)
    kept = [i for i in model.graph.input if i.name in fed]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model
