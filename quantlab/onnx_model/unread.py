"""Constants that nothing reads any more."""

from __future__ import annotations

import onnx

from quantlab.onnx_model.nodes import names_read


def drop_unread(model: onnx.ModelProto) -> None:
    """Drop the constants that no node reads, those in subgraphs included, and that are no output.

    Args:
        model: The model, which changes.
    """
    read = {output.name for output in model.graph.output}.union(*(names_read(node) for node in model.graph.node))
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    if len(kept) < len(model.graph.initializer):
        kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]  # they live in the list
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
