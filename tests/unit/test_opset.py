"""The opset of a model, and the way to a newer one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import conv_net, image_batches, parse, run
from quantlab.errors import GraphError
from quantlab.onnx_model import large, opset_of, raise_opset


@pytest.mark.parametrize(
    ("imports", "opset"),
    [('"" : 13', 13), ('"ai.onnx" : 17', 17), ('"my.ops" : 3, "" : 15', 15), ('"my.ops" : 3', 1)],
)
def test_opset_is_that_of_the_standard_domain(imports: str, opset: int) -> None:
    header = f"<ir_version: 8, opset_import: [{imports}]>"
    assert opset_of(parse("m (float[N] x) => (float[N] y) { y = Relu (x) }", header=header)) == opset


@pytest.mark.parametrize("small_limit", [False, True])
def test_newer_opset_computes_the_same_and_keeps_inputs_and_weights(
    small_limit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small_limit:
        monkeypatch.setattr(large, "BIG", 64)  # the weights are set aside meanwhile
    model, batch = conv_net(), image_batches(1)[0]
    before = model.SerializeToString(deterministic=True)
    raised = raise_opset(model, 19)
    assert opset_of(raised) == 19
    assert [i.name for i in raised.graph.input] == ["image"]
    assert {t.name for t in raised.graph.initializer} >= {t.name for t in model.graph.initializer}
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(raised, full_check=True)
    np.testing.assert_array_equal(run(raised, batch)[0], run(model, batch)[0])


def test_model_that_cannot_be_converted_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
        raise RuntimeError("no adapter for Foo\nat line 7")

    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)
    text = r"the model has opset 13 and cannot be converted to 21: no adapter for Foo Hint: export it with opset 21"
    with pytest.raises(GraphError, match=text):
        raise_opset(conv_net(), 21)


def test_converter_that_fails_without_a_word_is_named_by_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
        raise KeyError

    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)
    with pytest.raises(GraphError, match="cannot be converted to 21: KeyError"):
        raise_opset(conv_net(), 21)
