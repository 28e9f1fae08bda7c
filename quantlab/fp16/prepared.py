"""What the conversion to FP16 starts from."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantlab.fp16.policy import FP32
from quantlab.onnx_model import STANDARD_DOMAINS, copy_model, has_qdq, opset_of, raise_opset

OPSET = 19  # the first whose scales may be FP16


def prepared(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy, of opset 19 or newer if it has Q/DQ; float constants are initializers, and these are no inputs."""
    constants = {t.name for t in proto.graph.initializer}
    model = copy_model(proto)
    if opset_of(proto) < OPSET and has_qdq(proto):
        model = raise_opset(proto, OPSET)
        model.ir_version = max(model.ir_version, 9)  # that of opset 19
    model.ir_version = max(model.ir_version, 4)  # the first in which an initializer need not be an input
    if not any(o.domain in STANDARD_DOMAINS for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", OPSET))  # for the Casts
    del model.graph.input[:]
    model.graph.input.extend(i for i in proto.graph.input if i.name not in constants)
    nodes = []
    for node in model.graph.node:
        value = node.attribute[0] if node.op_type == "Constant" else onnx.AttributeProto()
        if value.name in ("value_float", "value_floats") or (value.name == "value" and value.t.data_type == FP32):
            given = helper.get_attribute_value(value)
            array = numpy_helper.to_array(given) if value.name == "value" else np.asarray(given, np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
