"""What the tests of the linter share."""

from __future__ import annotations

import numpy as np

from models import parse
from quantlab.qdq import lint

INT8 = {"s": np.float32(0.1), "z": np.int8(0), "s2": np.float32(0.2)}

WEIGHT = {"wq": np.ones((4, 4), np.int8), "ws": np.full(4, 0.1, np.float32), "wz": np.zeros(4, np.int8)}

KERNEL = WEIGHT | {"kq": np.ones((4, 4, 1, 1), np.int8)}

PAIR = """m (float[N,4] x) => (float[N,4] y) {{
    q = QuantizeLinear {a} (x, s, z)
    d = DequantizeLinear {a} (q, s, z)
    y = Relu (d)
}}"""

LAYER = """m (float[N,4] x) => (float[N,4] y) {{
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    w = DequantizeLinear <axis = {axis}> (wq, ws, wz)
    {rest}
}}"""

RESIDUAL = """m (float[N,4,8,8] x) => (float[N,4,8,8] y) {{
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    w = DequantizeLinear <axis = 0> (kq, ws, wz)
    c = Conv (d, w)
    {behind}
    q2 = QuantizeLinear ({branch}, s, z)
    d2 = DequantizeLinear (q2, s, z)
    {add}
}}"""


DEPTHWISE = """m (float[N,8,8,8] x) => (float[A,B,C,D] y{more}) {{
    qx = QuantizeLinear (x, s, z)
    dx = DequantizeLinear (qx, s, z)
    w = DequantizeLinear <axis = 0> (depth, s8, z8)
    a = Conv <group = 8> (dx, w)
    {rest}
}}"""
"""A quantized depthwise convolution that makes a, and what stands behind it."""

DEPTHWISE_CODES = INT8 | {
    "depth": np.random.default_rng(0).integers(-90, 90, (8, 1, 3, 3)).astype(np.int8),
    "point": np.random.default_rng(1).integers(-90, 90, (8, 8, 1, 1)).astype(np.int8),
    "s8": np.full(8, 0.01, np.float32), "z8": np.zeros(8, np.int8),
}  # fmt: skip


def pair(result: str, tensor: str) -> str:
    """A pair that makes `result`."""
    return f"q{result} = QuantizeLinear ({tensor}, s2, z)  {result} = DequantizeLinear (q{result}, s2, z)  "


def pointwise(result: str, tensor: str) -> str:
    """A quantized 1x1 convolution of 8 channels behind a pair."""
    weight = f"v{result} = DequantizeLinear <axis = 0> (point, s8, z8)"
    return f"{pair(f'd{result}', tensor)}  {weight}  {result} = Conv (d{result}, v{result})  "


def opset(number: int) -> str:
    return f'<ir_version: {10 if number > 20 else 8}, opset_import: ["" : {number}]>'


def codes(text: str, constants: dict[str, np.ndarray], header: str | None = None) -> list[str]:
    arrays = {n: np.asarray(v) for n, v in constants.items()}
    model = parse(text, arrays, header) if header else parse(text, arrays)
    return sorted({f.code for f in lint(model)})


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
