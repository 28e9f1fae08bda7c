"""Reduce operators for the parser of TensorRT 8. Oracle: the same text as a model of opset 17, on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from lint_parts import ints, opset
from models import floats, parse, run
from quantlab.engines.reduce_axes import axes_as_attributes
from quantlab.errors import BuildError

OPS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"]
X = np.abs(floats(2, 3, 4, 5)) + 0.5


def network(body: str, **constants: np.ndarray) -> onnx.ModelProto:
    return parse(f"m (float[2,3,4,5] x) => (float y) {{ {body} }}", constants, opset(18))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    "body",
    ["y = Reduce{op} (x, a)", "y = Reduce{op} <keepdims = 0> (x, a)", "a2 = Identity (x) y = Reduce{op} (a2, a)"],
)
def test_axes_are_an_attribute_that_means_the_same(op: str, body: str) -> None:
    model = network(body.format(op=op), a=ints(1, -1))
    before = model.SerializeToString()
    written = axes_as_attributes(model)
    assert model.SerializeToString() == before
    assert [len(node.input) for node in written.graph.node if node.op_type == f"Reduce{op}"] == [1]
    written.opset_import[0].version = 17
    onnx.checker.check_model(written)
    np.testing.assert_allclose(run(written, {"x": X})[0], run(model, {"x": X})[0], rtol=1e-6)


def test_axes_of_a_constant_node_and_in_a_branch_are_found() -> None:
    then, other = (
        f"g{n} () => (float[2,3,1,5] {n}) {{ a{n} = Constant <{value}> () {n} = ReduceMean (x, a{n}) }}"
        for n, value in (("i", "value = int64[1] {2}"), ("j", "value_ints = [2]"))
    )
    model = network(f"c = Constant <value = bool {{1}}> () y = If (c) <then_branch = {then}, else_branch = {other}>")
    written = axes_as_attributes(model)
    written.opset_import[0].version = 17
    np.testing.assert_allclose(run(written, {"x": X})[0], X.mean(2, keepdims=True), rtol=1e-6)


def test_all_axes_where_none_are_given_and_the_model_itself_where_nothing_is_to_be_done() -> None:
    everything = axes_as_attributes(network("y = ReduceMean (x, a)", a=np.zeros(0, np.int64)))
    assert not everything.graph.node[0].attribute
    for model in (network("y = ReduceSum (x, a)", a=ints(1)), network("y = ReduceMean (x)")):
        assert axes_as_attributes(model) is model


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("s = Shape <start = 0, end = 1> (x) y = ReduceMax (x, s)", "computes its axes"),
        ("y = ReduceMax <noop_with_empty_axes = 1> (x)", "reduces nothing"),
        ("y = ReduceMean <noop_with_empty_axes = 1> (x, a)", "reduces nothing"),
    ],
)
def test_what_tensorrt_8_would_get_wrong_is_refused(body: str, said: str) -> None:
    with pytest.raises(BuildError, match=f"'y' .*{said}.*TensorRT 8 would reduce over all"):
        axes_as_attributes(network(body, **({"a": np.zeros(0, np.int64)} if ", a)" in body else {})))
