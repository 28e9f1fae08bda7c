"""What the ONNX parser of TensorRT refuses, said with the names of the model's nodes."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from quantlab.errors import BuildError
from quantlab.onnx_model import node_label, qdq_nodes


def parse_error(proto: onnx.ModelProto, errors: Iterable[tuple[int, str]], tensorrt: str) -> BuildError:
    """The error for a model that cannot be parsed.

    Args:
        proto: The model.
        errors: The parser's errors: number of the node (-1 for none) and description.
        tensorrt: The version.

    Returns:
        A BuildError that names the nodes, with the way out where it is known.
    """
    texts = []
    for number, description in errors:
        node = proto.graph.node[number] if 0 <= number < len(proto.graph.node) else None
        where = f"node '{node_label(node)}' ({node.op_type}): " if node is not None else ""
        texts.append(f"{where}{description}")
    reason = "; ".join(texts) or "it gave no reason"
    return BuildError(f"TensorRT cannot parse the model: {reason}", hint=_hint(proto, tensorrt))


def _hint(proto: onnx.ModelProto, tensorrt: str) -> str:
    scales = {node.input[1] for node in qdq_nodes(proto)}
    fp16 = any(t.name in scales and t.data_type == onnx.TensorProto.FLOAT16 for t in proto.graph.initializer)
    if fp16 and int(tensorrt.split(".")[0]) < 10:
        return f"TensorRT {tensorrt} reads float32 scales only: build from the model before quantlab fp16"
    return "export the model without this operator, or with another opset"
