"""Layers for which INT8 does not pay and that stay float unless a user's --include names them.

GEMV: with one row (or one column) every weight is read once and used once, so that memory decides the time and the
conversion of the activations comes on top; TensorRT has no INT8 kernel worth its name for that. Few output channels:
the INT8 kernels work on groups of 4 channels, the rest of a group is computed and thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_graphsurgeon as gs

from quantlab.errors import Notice, NoticeKind
from quantlab.qdq.rules import RULES

NO_GAIN: NoticeKind = "no_gain"
"""The kind of these reasons."""
MIN_OUTPUT_CHANNELS = 4


def no_gain(why: str) -> Notice:
    """A reason to leave a layer in float."""
    return Notice(f"INT8 does not pay: {why}", NO_GAIN)


def does_not_pay(node: gs.Node) -> Notice | None:
    """The reason why a weighted node is left in float, or None. Dynamic dimensions are taken to be large."""
    a, b = node.inputs[0].shape, node.inputs[1].shape
    if a is None or b is None:
        return None
    if RULES[node.op].epilogue:  # the weight of a Conv begins with the output channels
        channels = b[0] if node.op == "Conv" else b[1] * node.attrs.get("group", 1)
        if isinstance(channels, int) and channels < MIN_OUTPUT_CHANNELS:
            return no_gain(f"{channels} output channel(s), its kernels work on {MIN_OUTPUT_CHANNELS}")
        return None
    rows, columns = _rows_and_columns(node, a, b)
    if 1 in (rows, columns):
        return no_gain(f"a product with one {'row' if rows == 1 else 'column'} (GEMV) is bound by memory")
    return None


def _rows_and_columns(node: gs.Node, a: Sequence[object], b: Sequence[object]) -> tuple[object, object]:
    if node.op == "Gemm":
        return a[1 if node.attrs.get("transA", 0) else 0], b[0 if node.attrs.get("transB", 0) else 1]
    # a MatMul with a matrix on the right is one product of all the rows
    inner = a[:-1] if len(b) <= 2 else a[-2:-1]
    sizes = [d for d in inner if isinstance(d, int)]
    rows = prod(sizes) if len(sizes) == len(inner) else None
    return rows, b[-1] if len(b) > 1 else 1
