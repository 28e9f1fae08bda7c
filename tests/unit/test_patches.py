"""Layers as products: the rows of the weight times the patches of the input are what ONNX Runtime gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import floats, parse, run
from quantlab.transforms.patches import layout_of

CASES = {
    "1-D": ("Conv", (2, 4, 11), (6, 4, 3)),
    "1-D, strides, dilations, uneven pads": (
        "Conv <strides = [2], dilations = [3], pads = [2,1]>", (3, 4, 12), (6, 4, 3)
    ),
    "2-D": ("Conv", (2, 3, 7, 6), (4, 3, 3, 2)),
    "one by one": ("Conv <kernel_shape = [1,1]>", (2, 3, 4, 5), (4, 3, 1, 1)),
    "uneven pads": ("Conv <pads = [0,1,2,3]>", (2, 3, 7, 6), (4, 3, 3, 3)),
    "strides that leave a border": ("Conv <strides = [3,2]>", (2, 3, 9, 8), (4, 3, 2, 3)),
    "groups": ("Conv <group = 2, pads = [1,1,1,1]>", (2, 4, 6, 5), (6, 2, 3, 3)),
    "depthwise": ("Conv <group = 4, strides = [2,2], pads = [1,1,1,1]>", (2, 4, 7, 6), (4, 1, 3, 3)),
    "two outputs per channel": ("Conv <group = 4>", (2, 4, 5, 5), (8, 1, 3, 3)),
    "dilations": ("Conv <dilations = [2,3], pads = [2,0,1,3]>", (2, 3, 9, 9), (4, 3, 3, 2)),
    "3-D": ("Conv <strides = [1,2,2], pads = [1,0,1,0,1,1]>", (2, 2, 5, 6, 5), (4, 2, 2, 3, 3)),
    "kernel as large as the input": ("Conv", (2, 3, 4, 4), (4, 3, 4, 4)),
    "kernel larger than the input without its pads": ("Conv <pads = [2,2,2,2]>", (2, 3, 2, 2), (4, 3, 5, 5)),
    "SAME_UPPER": ('Conv <auto_pad = "SAME_UPPER", strides = [2,3]>', (2, 3, 7, 8), (4, 3, 3, 4)),
    "SAME_LOWER": ('Conv <auto_pad = "SAME_LOWER", strides = [2,1]>', (2, 3, 8, 7), (4, 3, 3, 4)),
    "SAME_UPPER, kernel smaller than the stride": (
        'Conv <auto_pad = "SAME_UPPER", strides = [3,3]>', (2, 3, 8, 7), (4, 3, 1, 1)
    ),
    "VALID": ('Conv <auto_pad = "VALID", strides = [2,2]>', (2, 3, 8, 7), (4, 3, 3, 3)),
    "one sample": ("Conv", (1, 3, 4, 4), (4, 3, 3, 3)),
    "transposed": ("ConvTranspose", (2, 3, 4, 5), (3, 4, 3, 2)),
    "transposed, 1-D": ("ConvTranspose <strides = [3], pads = [1,0]>", (2, 3, 6), (3, 4, 4)),
    "transposed, 3-D": ("ConvTranspose <strides = [2,1,2], pads = [1,0,0,0,1,1]>", (2, 2, 3, 4, 3), (2, 3, 3, 2, 3)),
    "transposed, strides and pads": ("ConvTranspose <strides = [2,3], pads = [1,0,2,1]>", (2, 3, 4, 5), (3, 4, 4, 3)),
    "transposed, strides above the kernel": ("ConvTranspose <strides = [3,3]>", (2, 3, 3, 4), (3, 4, 2, 2)),
    "transposed, pads above the kernel": ("ConvTranspose <pads = [2,2,3,2]>", (2, 3, 8, 9), (3, 4, 2, 2)),
    "transposed, output padding": (
        "ConvTranspose <strides = [2,2], pads = [1,1,1,1], output_padding = [1,0]>", (2, 3, 4, 5), (3, 4, 3, 3)
    ),
    "transposed, groups": ("ConvTranspose <group = 2, strides = [2,2]>", (2, 4, 4, 5), (4, 3, 2, 3)),
    "transposed, depthwise": ("ConvTranspose <group = 4, strides = [2,2]>", (2, 4, 4, 5), (4, 1, 4, 4)),
    "transposed, dilations": ("ConvTranspose <dilations = [2,3], strides = [1,2]>", (2, 3, 4, 5), (3, 4, 3, 2)),
    "transposed, SAME_UPPER": ('ConvTranspose <auto_pad = "SAME_UPPER", strides = [2,2]>', (2, 3, 4, 5), (3, 4, 3, 5)),
    "transposed, SAME_LOWER": ('ConvTranspose <auto_pad = "SAME_LOWER", strides = [2,2]>', (2, 3, 4, 5), (3, 4, 3, 5)),
    "transposed, SAME_UPPER, strides above the kernel": (
        'ConvTranspose <auto_pad = "SAME_UPPER", strides = [3,3]>', (2, 3, 4, 5), (3, 4, 2, 1)
    ),
    "transposed, SAME_UPPER, output padding": (
        'ConvTranspose <auto_pad = "SAME_UPPER", strides = [2,2], output_padding = [1,1]>', (2, 3, 4, 5), (3, 4, 3, 3)
    ),
    "transposed, VALID": ('ConvTranspose <auto_pad = "VALID", strides = [2,2]>', (2, 3, 4, 5), (3, 4, 3, 3)),
    "Gemm": ("Gemm", (3, 5), (5, 4)),
    "Gemm, transB": ("Gemm <transB = 1>", (3, 5), (4, 5)),
    "MatMul, 2-D": ("MatMul", (3, 5), (5, 4)),
    "MatMul, 3-D": ("MatMul", (2, 3, 5), (5, 4)),
    "MatMul, 4-D": ("MatMul", (2, 3, 4, 5), (5, 4)),
}  # fmt: skip
"""Name -> operator with its attributes, shape of the input, shape of the weight."""


def node_of(text: str) -> onnx.NodeProto:
    return parse(f"m (float[a] x) => (float[b] y) {{ y = {text} (x, w) }}").graph.node[0]


def given(operator: str, x: tuple[int, ...], w: np.ndarray) -> np.ndarray:
    """What ONNX Runtime gives."""
    shape = ",".join(map(str, x))
    model = parse(f"m (float[{shape}] x) => (y) {{ y = {operator} (x, w) }}", {"w": w})
    return run(model, {"x": floats(*x)})[0]


@pytest.mark.parametrize("name", CASES)
def test_rows_times_patches_are_the_output(name: str) -> None:
    operator, x_shape, w_shape = CASES[name]
    x, w = floats(*x_shape), floats(*w_shape, seed=1)
    wanted = given(operator, x_shape, w)
    layout = layout_of(node_of(operator), w_shape)
    assert layout is not None
    channels_last = wanted if operator.startswith(("Gemm", "MatMul")) else np.moveaxis(wanted, 1, -1)
    count = layout.positions(x.shape)
    assert count * len(x) * layout.rows(w).shape[0] * layout.rows(w).shape[1] == wanted.size
    at = np.tile(np.arange(count), (len(x), 1))
    got = layout.patches(x, at) @ np.swapaxes(layout.rows(w), 1, 2)  # (groups, patches, outputs)
    np.testing.assert_allclose(np.moveaxis(got, 0, 1).reshape(channels_last.shape), channels_last, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(layout.weight(layout.rows(w)), w)


@pytest.mark.parametrize("name", ["2-D", "groups", "transposed, groups", "MatMul, 4-D"])
def test_patches_are_those_of_the_positions_that_were_chosen(name: str) -> None:
    operator, x_shape, w_shape = CASES[name]
    x, generator = floats(*x_shape), np.random.default_rng(2)
    layout = layout_of(node_of(operator), w_shape)
    assert layout is not None
    count = layout.positions(x.shape)
    every = layout.patches(x, np.tile(np.arange(count), (len(x), 1)))
    every = every.reshape(len(every), len(x), count, -1)
    at = np.stack([generator.permutation(count)[:5] for _ in x])
    some = layout.patches(x, at).reshape(len(every), len(x), 5, -1)
    for sample, chosen in enumerate(at):
        np.testing.assert_array_equal(some[:, sample], every[:, sample, chosen])
    assert layout.patches(x, at[:, :0]).shape[1] == 0


@pytest.mark.parametrize("name", ["2-D", "groups", "transposed, groups", "Gemm", "MatMul, 4-D"])
def test_no_samples_have_no_patches(name: str) -> None:
    operator, x_shape, w_shape = CASES[name]
    layout = layout_of(node_of(operator), w_shape)
    assert layout is not None
    x = floats(*x_shape)[:0]
    count = layout.positions(x.shape)
    assert count == layout.positions(x_shape)
    rows = layout.rows(floats(*w_shape))
    assert layout.patches(x, np.zeros((0, count), np.int64)).shape == (len(rows), 0, rows.shape[2])


@pytest.mark.parametrize(
    ("operator", "shape"),
    [
        ("Gemm <alpha = 0.5>", (5, 4)),
        ("Gemm <beta = 2.0>", (5, 4)),
        ("Gemm <transA = 1>", (5, 4)),
        ("MatMul", (2, 5, 4)),
        ("MatMul", (5,)),
        ("ConvTranspose <output_shape = [9,9]>", (3, 4, 3, 3)),
        ("Gather", (5, 4)),
    ],
)
def test_what_is_no_such_product_has_no_layout(operator: str, shape: tuple[int, ...]) -> None:
    assert layout_of(node_of(operator), shape) is None
