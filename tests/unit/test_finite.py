"""NaN and infinity in constants: named in weights, biases and scales, left alone in masks, which get no scale."""

from __future__ import annotations

import numpy as np
import pytest

import quantlab
from models import conv_net, floats, parse
from quantlab.errors import GraphError
from quantlab.onnx_model import not_finite, require_finite

LINEAR = "m (float[N,4] x) => (float[N,4] y) {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "value", "found"),
    [
        ("y = MatMul (x, c)", np.inf, "infinity"),
        ("t = Transpose (c) y = MatMul (x, t)", np.nan, "NaN"),
        ("y = Add (x, c)", np.nan, "NaN"),
        ("y = Add (x, c)", -np.inf, ""),
        ("y = Max (x, c)", np.nan, ""),
        ("y = Add (x, c)", 1.0, ""),
    ],
)
def test_constant_that_is_not_finite_is_named_but_for_masks(body: str, value: float, found: str) -> None:
    constant = floats(4, 4)
    constant[1, 2] = value
    model = parse(LINEAR.format(body=body), {"c": constant})
    assert [(f.tensor, f.what, f.count, f.size) for f in not_finite(model)] == ([("c", found, 1, 16)] if found else [])
    if found:
        with pytest.raises(GraphError, match=f"constant 'c' of node .* has {found}"):
            require_finite(model)


def test_tensor_of_a_mask_is_left_out_with_the_reason_and_one_that_is_needed_is_refused() -> None:
    text = LINEAR.format(body="a = MatMul (x, w) b = Add (a, mask) p = Softmax (b) y = MatMul (p, w)")
    mask = np.where(np.eye(4, dtype=bool), 0, -np.inf).astype(np.float32)[0]
    model, batches = parse(text, {"w": floats(4, 4), "mask": mask}), [{"x": floats(8, 4)}]
    table = quantlab.calibrate(model, batches, tensors="all")
    assert sorted(table.amax) == ["a", "p", "x", "y"]
    assert [w.tensor for w in table.warnings if w.kind == "not_finite"] == ["b"]
    needed = parse(text.replace("p = Softmax (b)", "p = Neg (b)"), {"w": floats(4, 4), "mask": mask})
    with pytest.raises(quantlab.QuantlabError, match="tensor 'p': values contain infinity"):
        quantlab.calibrate(needed, batches, tensors="all")


def test_model_with_nan_is_refused_by_every_verb() -> None:
    model = conv_net()
    model.graph.initializer[1].raw_data = np.full(8, np.nan, np.float32).tobytes()
    table = quantlab.CalibrationTable({"image": np.float32(1)})
    for verb in (lambda: quantlab.calibrate(model, []), lambda: quantlab.quantize(model, table)):
        with pytest.raises(GraphError, match="constant 'b1' of node .* has NaN"):
            verb()
