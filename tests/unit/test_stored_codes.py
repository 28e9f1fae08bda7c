"""Weights whose codes are computed before ONNX Runtime gets the model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import floats, parse, run
from quantlab.ort import Session, with_stored_codes

NET = """
agraph (float[N, 4] x) => (float[N, 3] y, float[4, 3] other)
{
  codes = QuantizeLinear <axis = 1> (w, s, z)
  weight = DequantizeLinear <axis = 1> (codes, s, z)
  y = MatMul (x, weight)
  other = Identity (READ)
}
"""


def net(read: str = "weight", axis: int = 1, zero_point: int = 0) -> onnx.ModelProto:
    size = (4, 3)[axis]
    values = floats(4, 3, seed=1)
    values[0, 0] = 200.0  # saturates
    weights = {
        "w": values,
        "s": np.linspace(0.01, 0.5, size, dtype=np.float32),
        "z": np.full(size, zero_point, np.int8),
    }
    return parse(NET.replace("READ", read).replace("axis = 1", f"axis = {axis}"), weights)


@pytest.mark.parametrize("read", ["weight", "w"], ids=["weight read once", "float weight read elsewhere"])
@pytest.mark.parametrize("axis", [0, 1])
def test_outputs_are_those_of_the_model_as_it_is(read: str, axis: int) -> None:
    model, batch = net(read, axis), {"x": floats(5, 4)}
    before = model.SerializeToString(deterministic=True)
    stored = with_stored_codes(model)
    assert model.SerializeToString(deterministic=True) == before
    assert "QuantizeLinear" not in [node.op_type for node in stored.graph.node]
    names = [t.name for t in stored.graph.initializer]
    assert "codes" in names and ("w" in names) == (read == "w")
    for got, want in zip(run(stored, batch), run(model, batch), strict=True):
        np.testing.assert_array_equal(got, want)
    for got, want in zip(Session(model, optimize=False).run(batch).values(), run(model, batch), strict=True):
        np.testing.assert_array_equal(got, want)


def test_weight_that_is_a_graph_input_too_is_no_input_afterwards() -> None:
    model = net()
    model.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    )
    stored = with_stored_codes(model)
    assert [i.name for i in stored.graph.input] == ["x", "s", "z"]
    np.testing.assert_array_equal(run(stored, {"x": floats(2, 4)})[0], run(model, {"x": floats(2, 4)})[0])


def _codes_are_an_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(onnx.helper.make_tensor_value_info("codes", onnx.TensorProto.INT8, [4, 3]))


def _scale_is_zero(model: onnx.ModelProto) -> None:
    kept = next(t for t in model.graph.initializer if t.name == "s")
    kept.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 0, 1], np.float32), "s"))


def _weight_is_an_activation(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "x"


def _one_scale(model: onnx.ModelProto) -> None:
    for tensor, value in zip(model.graph.initializer, (None, np.float32(1), np.int8(0)), strict=True):
        if value is not None:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(value), tensor.name))


@pytest.mark.parametrize("change", [_codes_are_an_output, _scale_is_zero, _weight_is_an_activation, _one_scale])
def test_other_models_stay_as_they_are(change: object) -> None:
    model = net()
    change(model)  # type: ignore[operator]
    assert with_stored_codes(model) is model
    assert with_stored_codes(net(zero_point=3)).graph.node[0].op_type == "QuantizeLinear"
