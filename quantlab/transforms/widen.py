"""All codes by another zero point, see `full_range`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from quantlab.numerics import SMALLEST_SCALE
from quantlab.onnx_model import FreshNames, GraphView, copy_model, drop_unread, tensor_names
from quantlab.transforms.full_range import CODES, LOWEST
from quantlab.transforms.wide_sites import WideSite


def widen(qdq: onnx.ModelProto, sites: Mapping[str, WideSite], amax: Mapping[str, float]) -> onnx.ModelProto:
    """Give tensors all codes by the zero point -128: the model that `shifted` brings into a form for TensorRT.

    Args:
        qdq: A Q/DQ model with symmetric scales.
        sites: Its `wide_sites`.
        amax: Tensor of `sites` -> the largest magnitude that is kept; at most the upper end of its Clip. Without one,
            or with 0, a tensor stays as it is.

    Returns:
        The model with other scales and zero points for these tensors, and for those that hold the same values.
    """
    model = copy_model(qdq)
    names = FreshNames(tensor_names(model))
    wanted = {name: amax[site.tensor] for site in sites.values() if amax.get(site.tensor, 0) > 0
              for name in (site.tensor, *site.moved)}  # fmt: skip
    view = GraphView(model)
    for q in [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in wanted]:
        base = q.input[0]
        scale = np.float32(max(wanted[base] / CODES, SMALLEST_SCALE)).reshape(())
        parameters = [names.new(f"{base}_scale"), names.new(f"{base}_zero_point")]
        model.graph.initializer.append(numpy_helper.from_array(scale, parameters[0]))
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(LOWEST, np.int8), parameters[1]))
        for node in (q, *(dq for dq, _ in view.readers[q.output[0]])):
            first = node.input[0]
            del node.input[:]
            node.input.extend([first, *parameters])
    drop_unread(model)
    return model
