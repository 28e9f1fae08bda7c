"""All 256 codes behind a ReLU, for a runtime whose zero point is 0.

Of a tensor x in [0, a] a symmetric int8 scale a / 127 uses 128 codes. With the scale s = a / 255 and the zero point
-128 x has all 256 (`widen`); TensorRT takes no such model. But with c = 128 s and z = x - c, the zero point is 0 again:

    quantize(x; s, -128) = clip(rint(x / s) - 128, -128, 127) = clip(rint(z / s), -128, 127) = quantize(z; s, 0)

and since codes end at -128, z may be what comes before the ReLU, less c: `max(y, 0) - c` and `y - c` have one code. So
the ReLU goes, c goes off the bias of the layer that gives y, and whoever reads x makes up for it, at no cost:

    W x + b  = W z + (b + c sum(W))        a layer without padding: its bias
    x + y    = z + (y + c)                 a residual sum: the bias of the layer that gives the other branch

Around a zero-padded convolution x is 0 and z must be -c. With k more input channels of the constant code -128, for
which the layer has integer weights that sum, per output and tap, to minus the sum S of those that it has, the constant
is there inside and missing outside, as it must be: sum over taps inside of W z + c S. It is exact, and free where
channels are padded to a multiple of 32 anyway (`CHANNEL_BLOCK`); other such tensors stay as they are.

`shifted` gives the model that TensorRT takes; on ONNX Runtime it equals the widened one to the rounding of floats.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.onnx_model import GraphView

LOWEST, CODES = -128, 255
"""The code of 0, and the steps from it to the largest."""
CHANNEL_BLOCK = 32
"""TensorRT's INT8 convolutions hold channels in blocks of so many. A block is filled: ResNet-20's first stage, 16
channels, took as long with 32 as with 16, and 1.8 % longer with 21 (H200, 8.6.0, batch 64)."""


def widened(qdq: onnx.ModelProto) -> dict[str, NDArray[np.float64]]:
    """Tensor -> its scale, of those that have the zero point -128."""
    view = GraphView(qdq)
    found = {}
    for q in qdq.graph.node:
        given = view.parameters(q) if q.op_type == "QuantizeLinear" else None
        if given is not None and given.code_type == np.int8 and np.all(given.zero_point == LOWEST):
            found[str(q.input[0])] = given.scale.astype(np.float64).reshape(())
    return found
