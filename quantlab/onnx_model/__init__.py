"""What every room asks of an ONNX file: load, save, large models, inputs and outputs, nodes, names, Q/DQ."""

from quantlab.arguments import guard
from quantlab.onnx_model.fingerprint import model_hash
from quantlab.onnx_model.finite import NotFinite, not_finite, require_finite
from quantlab.onnx_model.large import (
    LIMIT,
    as_file,
    check_data_file,
    check_model,
    copy_model,
    infer_shapes,
    model_bytes,
    save_model,
    serialized,
    set_shapes,
    why_invalid,
)
from quantlab.onnx_model.load import Model, load_model
from quantlab.onnx_model.names import FreshNames, tensor_names, unique_names
from quantlab.onnx_model.nodes import (
    QDQ_OPS,
    STANDARD_DOMAINS,
    all_nodes,
    attribute,
    has_axes_as_input,
    inner_nodes,
    label_of,
    node_attributes,
    node_label,
    opset_of,
    subgraphs_of,
)
from quantlab.onnx_model.opset import raise_opset
from quantlab.onnx_model.parameters import QdqParameters, code_type
from quantlab.onnx_model.quantized import (
    activation_qdq,
    constant_qdq_notices,
    has_float_weights,
    has_qdq,
    qdq_nodes,
    require_float,
    require_qdq,
)
from quantlab.onnx_model.specs import TensorSpec, input_specs, output_specs
from quantlab.onnx_model.unread import drop_unread
from quantlab.onnx_model.view import GraphView
from quantlab.onnx_model.weight_files import weight_files

__all__ = [
    "LIMIT",
    "QDQ_OPS",
    "STANDARD_DOMAINS",
    "FreshNames",
    "GraphView",
    "Model",
    "NotFinite",
    "QdqParameters",
    "TensorSpec",
    "activation_qdq",
    "all_nodes",
    "as_file",
    "attribute",
    "check_data_file",
    "check_model",
    "code_type",
    "constant_qdq_notices",
    "copy_model",
    "drop_unread",
    "has_axes_as_input",
    "has_float_weights",
    "has_qdq",
    "infer_shapes",
    "inner_nodes",
    "input_specs",
    "label_of",
    "load_model",
    "model_bytes",
    "model_hash",
    "node_attributes",
    "node_label",
    "not_finite",
    "opset_of",
    "output_specs",
    "qdq_nodes",
    "raise_opset",
    "require_finite",
    "require_float",
    "require_qdq",
    "save_model",
    "serialized",
    "set_shapes",
    "subgraphs_of",
    "tensor_names",
    "unique_names",
    "weight_files",
    "why_invalid",
]

guard(globals())
