"""Scales out of a Q/DQ model from any exporter."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from quantlab.numerics import amax_from_scale


def read_scales(proto: onnx.ModelProto) -> dict[str, np.float32]:
    """Tensor -> amax of every activation with a per-tensor QuantizeLinear of constant, finite, positive scale."""
    constants = {t.name: t for t in proto.graph.initializer}
    found: dict[str, np.float32] = {}
    for node in proto.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in constants or node.input[1] not in constants:
            continue
        scale = numpy_helper.to_array(constants[node.input[1]]).astype(np.float32)
        if scale.size == 1 and np.isfinite(scale).all() and (scale > 0).all():
            found[node.input[0]] = np.float32(amax_from_scale(scale.reshape(())))
    return found
