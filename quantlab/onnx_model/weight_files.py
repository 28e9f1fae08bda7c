"""The files beside a model that hold its weights."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data

from quantlab.files import is_file
from quantlab.onnx_model.nodes import all_nodes


def weight_files(path: Path) -> list[Path]:
    """Find the files that a model takes its weights from.

    Args:
        path: The model.

    Returns:
        The files; none for a file that is no model, which is for others to say.
    """
    if not is_file(path):
        return []
    try:
        proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    except (OSError, ValueError, DecodeError):
        return []
    tensors = list(proto.graph.initializer)
    for node in all_nodes(proto.graph):
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors, *attribute.g.initializer]
            tensors += [tensor for graph in attribute.graphs for tensor in graph.initializer]
    named = [
        entry.value for t in tensors if uses_external_data(t) for entry in t.external_data if entry.key == "location"
    ]
    return [path.parent / name for name in dict.fromkeys(named)]
