"""A Clip between a float layer and a QuantizeLinear, which TensorRT 8.6 gets wrong, is written otherwise."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest

import quantlab
from models import floats, parse, run
from quantlab.qdq import Selection, lint, quantize_model, repair

TEXT = """m (float[N,4,8,8] x) => (float[N,4,8,8] y) {{
    a = {layer}
    r = Clip ({bounds})
    y = Conv (r, v)
}}"""
WEIGHTS = {"w": floats(4, 4, 1, 1), "v": floats(4, 4, 1, 1, seed=1), "m": floats(8, 8, seed=2),
           "zero": np.float32(0), "low": np.float32(-0.3), "high": np.float32(0.5)}  # fmt: skip
BATCHES = [{"x": 3 * floats(2, 4, 8, 8, seed=k)} for k in range(2)]


def quantized(bounds: str, layer: str, selection: Selection) -> onnx.ModelProto:
    """The Q/DQ model."""
    fp32 = parse(TEXT.format(bounds=bounds, layer=layer), {name: np.asarray(w) for name, w in WEIGHTS.items()})
    for node in fp32.graph.node:
        node.name = node.output[0]
    return quantize_model(fp32, quantlab.calibrate(fp32, BATCHES, "minmax"), selection).model


def written(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node if node.op_type in ("Clip", "Relu", "Max", "Min")]


@pytest.mark.parametrize(
    ("bounds", "ops"),
    [("a, zero, high", ["Relu", "Min"]), ("a, low, high", ["Max", "Min"]), ("a, zero", ["Relu"]), ("a, low", ["Max"]),
     ("a, , high", ["Min"])],
)  # fmt: skip
@pytest.mark.parametrize("layer", ["Conv (x, w)", "MatMul (x, m)"])
def test_behind_a_float_layer_it_is_the_same_function_of_other_operators(
    bounds: str, ops: list[str], layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection = Selection(include=("y",), exclude=("a",))
    model = quantized(bounds, layer, selection)
    assert written(model) == ops
    assert lint(model) == []
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["quantlab.qdq.insert"], "write_otherwise", lambda graph, names: None)
        before = quantized(bounds, layer, selection)
    assert written(before) == ["Clip"]
    assert [finding.code for finding in lint(before)] == ["Q24"]
    for batch in BATCHES:
        np.testing.assert_array_equal(run(model, batch)[0], run(before, batch)[0])
    mended = repair(before)
    assert mended.after == ()
    np.testing.assert_array_equal(run(mended.model, BATCHES[0])[0], run(before, BATCHES[0])[0])


def test_behind_a_layer_in_int8_it_stays() -> None:
    model = quantized("a, zero, high", "Conv (x, w)", Selection(include=("*",)))
    assert written(model) == ["Clip"]
    assert lint(model) == []
