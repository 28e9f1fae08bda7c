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


def opset(number: int) -> str:
    return f'<ir_version: {10 if number > 20 else 8}, opset_import: ["" : {number}]>'


def codes(text: str, constants: dict[str, np.ndarray], header: str | None = None) -> list[str]:
    arrays = {n: np.asarray(v) for n, v in constants.items()}
    model = parse(text, arrays, header) if header else parse(text, arrays)
    return sorted({f.code for f in lint(model)})


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
