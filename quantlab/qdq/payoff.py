"""Layers for which INT8 does not pay and that stay float unless a user's --include names them: what each says itself.

GEMV: with one row (or one column) every weight is read once and used once, so that memory decides the time and the
conversion of the activations comes on top; TensorRT has no INT8 kernel worth its name for that. Few output channels:
the INT8 kernels work on groups of 4 channels, the rest of a group is computed and thrown away. The first convolution of
a signal: INT8 kernels for few input channels take images only.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx
import onnx_graphsurgeon as gs

from quantlab.errors import Notice, NoticeKind
from quantlab.qdq.activations import kind_of
from quantlab.qdq.graph import import_graph, node_label
from quantlab.qdq.measured import BATCH, FIRST, MIN_OUTPUT_CHANNELS
from quantlab.qdq.rules import RULES, row_of

NO_GAIN: NoticeKind = "no_gain"
"""The kind of these reasons."""
COUNTED = f" (a dynamic batch counts as {BATCH})"
"""Of multiplications: what is taken for granted."""


def no_gain(why: str) -> Notice:
    """A reason to leave a layer in float."""
    return Notice(f"INT8 does not pay: {why}", NO_GAIN)


def does_not_pay(node: gs.Node) -> Notice | None:
    """The reason why a weighted node is left in float, or None. Dynamic dimensions are taken to be large."""
    a, b = node.inputs[0].shape, node.inputs[1].shape
    if a is None or b is None:
        return None
    if RULES[node.op].epilogue:
        channels = _output_channels(node, b)
        if isinstance(channels, int) and channels < MIN_OUTPUT_CHANNELS:
            return no_gain(f"{channels} output channel(s), its kernels work on {MIN_OUTPUT_CHANNELS}")
        if kind_of(node) == FIRST and len(b) == 3:
            return no_gain(f"{b[1]} input channel(s) of a signal, for which there is no INT8 kernel of its own")
        return None
    rows, columns = _rows_and_columns(node, a, b)
    if 1 in (rows, columns):
        return no_gain(f"a product with one {'row' if rows == 1 else 'column'} (GEMV) is bound by memory")
    return None


def macs_of(node: gs.Node) -> int | None:
    """How many multiplications a weighted node takes, on `BATCH` samples if their number is dynamic; None if another
    dimension is."""
    if any(tensor.shape is None for tensor in (*node.inputs[:2], node.outputs[0])):
        return None
    a, b, y = (_with_batch(tensor.shape) for tensor in (*node.inputs[:2], node.outputs[0]))
    if node.op == "ConvTranspose":  # every input value meets the whole kernel
        sizes = [*a, *b[1:]]
    elif RULES[node.op].epilogue:
        sizes = [*y, *b[1:]]
    else:
        sizes = [*y, a[0 if node.op == "Gemm" and node.attrs.get("transA", 0) else -1]]
    known = [size for size in sizes if isinstance(size, int)]
    return prod(known) if len(known) == len(sizes) else None


def work_per_value(node: gs.Node) -> int | None:
    """How many multiplications a convolution takes per value of its output; None for other nodes."""
    shape = node.inputs[1].shape if node.op == "Conv" else None
    sizes = [size for size in (shape or ())[1:] if isinstance(size, int)]
    return prod(sizes) if shape is not None and len(sizes) == len(shape) - 1 else None


def work_of(prepared: onnx.ModelProto) -> dict[str, int]:
    """Weighted node -> its multiplications, see `macs_of`; 1 where they are not known."""
    graph = import_graph(prepared)
    weighted = [n for n in graph.nodes if row_of(n.op, n.domain).weight_input is not None and len(n.inputs) > 1]
    return {node_label(node): max(1, macs_of(node) or 1) for node in weighted}


def _with_batch(shape: Sequence[object]) -> list[object]:
    return [BATCH if axis == 0 and not isinstance(size, int) else size for axis, size in enumerate(shape)]


def _output_channels(node: gs.Node, weight: Sequence[object]) -> object:
    """The weight of a Conv begins with them, that of a ConvTranspose has those of one group second."""
    if node.op == "Conv":
        return weight[0]
    return weight[1] * node.attrs.get("group", 1) if isinstance(weight[1], int) else weight[1]


def _rows_and_columns(node: gs.Node, a: Sequence[object], b: Sequence[object]) -> tuple[object, object]:
    if node.op == "Gemm":
        return a[1 if node.attrs.get("transA", 0) else 0], b[0 if node.attrs.get("transB", 0) else 1]
    # a MatMul with a matrix on the right is one product of all the rows
    inner = a[:-1] if len(b) <= 2 else a[-2:-1]
    sizes = [d for d in inner if isinstance(d, int)]
    rows = prod(sizes) if len(sizes) == len(inner) else None
    return rows, b[-1] if len(b) > 1 else 1
