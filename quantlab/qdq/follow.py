"""What becomes of a tensor inside the kernel that makes it: activations and a fused residual sum."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from quantlab.qdq.activations import activation_of
from quantlab.qdq.draft import Draft
from quantlab.qdq.graph import feeds_one_reader
from quantlab.qdq.rules import row_of


def last_of(draft: Draft, tensor: gs.Tensor) -> gs.Tensor:
    """Follow a tensor through activations and the residual sums that its kernel takes.

    Args:
        draft: With everything that reads INT8.
        tensor: What a layer makes.

    Returns:
        What leaves the kernel, or the first tensor on the way that is read in INT8.
    """
    while tensor.name not in draft.int8:
        activation = activation_of(draft.graph, tensor)
        if activation is not None:
            tensor = activation.result
            continue
        reader = tensor.outputs[0] if feeds_one_reader(draft.graph, tensor) else None
        if reader is None or not row_of(reader.op, reader.domain).residual or not draft.is_read_by(reader):
            break
        tensor = reader.outputs[0]
    return tensor
