"""Reading models: every broken file has one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from models import conv_net, parse
from quantlab.data import BatchSize
from quantlab.errors import ConfigError, GraphError, in_batch
from quantlab.onnx_model import input_specs, load_model, output_specs
from quantlab.ort import Session


def test_specs_and_batch() -> None:
    (image,) = input_specs(conv_net())
    assert (image.name, image.dtype.name, image.shape) == ("image", "float32", ("N", 3, 8, 8))
    assert str(output_specs(conv_net())[0]) == "float32 (N, 5)"
    assert BatchSize.of(input_specs(conv_net())).fixed is None
    for size in (1, 4):
        (image,) = input_specs(conv_net(batch=str(size)))
        assert image.shape == (size, 3, 8, 8)
        assert BatchSize.of([image]).fixed == size


def test_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="none.onnx does not exist"):
        load_model(tmp_path / "none.onnx")


def test_empty_file_raises(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(GraphError, match=r"is empty \(0 bytes\)"):
        load_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("cut", [10, 200, 1500])
def test_truncated_file_raises(tmp_path: Path, cut: int) -> None:
    (tmp_path / "m.onnx").write_bytes(conv_net().SerializeToString()[:-cut])
    with pytest.raises(GraphError, match=r"m\.onnx"):
        load_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(100), b"hello world, this is text\n", bytes(50)])
def test_file_that_is_not_onnx_raises(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(GraphError, match=r"m\.onnx"):
        load_model(tmp_path / "m.onnx")


def test_invalid_graph_raises() -> None:
    model = conv_net()
    model.graph.node[1].input[0] = "nowhere"
    with pytest.raises(GraphError, match="'r' .Relu. reads 'nowhere', which nothing makes"):
        load_model(model)


def test_missing_external_data_raises(tmp_path: Path) -> None:
    onnx.save(conv_net(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert load_model(tmp_path / "m.onnx").graph.initializer
    (tmp_path / "m.data").unlink()
    with pytest.raises(GraphError, match="external data cannot be read"):
        load_model(tmp_path / "m.onnx")


def test_model_that_onnx_runtime_cannot_load_raises() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "my.ops" : 1]>'
    model = parse("m (float[N,4] x) => (float[N,4] y) { y = my.ops.Magic (x) }", header=header)
    with pytest.raises(
        GraphError, match=r"ONNX Runtime has no operator for 'y' \(Magic\), and nothing is computed without it"
    ):
        Session(model)


def test_model_that_fails_at_run_time_raises() -> None:
    model = parse("m (float[N,M] x) => (float[2,3] y) { y = Reshape (x, s) }", {"s": np.array([2, 3])})
    with pytest.raises(GraphError, match="^batch 3, ONNX Runtime failed: .*Reshape"), in_batch(3):
        Session(model).run({"x": np.zeros((1, 4), np.float32)})


def test_what_is_neither_a_path_nor_a_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="model is a Graph, expected str or Path or ModelProto"):
        load_model(type("Graph", (), {})())  # type: ignore[arg-type]


def test_file_without_a_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    with pytest.raises(GraphError, match=r"m\.onnx is not an ONNX model: it has no graph"):
        load_model(tmp_path / "m.onnx")


WITH_FUNCTION = """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
m (float[N,4] x) => (float[N,4] y) { a = mine.Twice (x)  y = Add (a, w) }
<domain: "mine", opset_import: ["" : 17]>
Twice (t) => (u) { u = Add (t, t) }"""


def with_function() -> onnx.ModelProto:
    model = onnx.parser.parse_model(WITH_FUNCTION)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(4, np.float32), "w"))
    return model


def test_local_functions_are_inlined() -> None:
    loaded = load_model(with_function())
    assert [n.op_type for n in loaded.graph.node] == ["Add", "Add"]
    assert not loaded.functions


def test_local_functions_of_a_model_too_large_to_inline_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.onnx_model.load.LIMIT", 15)
    with pytest.raises(
        GraphError, match="model has local functions and more than 2 GB of weights Hint: export it with"
    ):
        load_model(with_function())


def test_inputs_that_are_constants_need_not_be_fed() -> None:
    model = parse("m (float[N,4] x, float[4,2] w) => (float[N,2] y) { y = MatMul (x, w) }",
                  {"w": np.ones((4, 2), np.float32)})  # fmt: skip
    assert [spec.name for spec in input_specs(model)] == ["x"]


def test_spec_shows_known_named_and_unknown_dimensions() -> None:
    model = parse("m (float[N,4,8] x) => (float[N,4,8] y) { y = Relu (x) }")
    model.graph.input[0].type.tensor_type.shape.dim[2].Clear()
    assert str(input_specs(model)[0]) == "float32 (N, 4, ?)"


def test_spec_of_a_sequence_has_no_type_of_values() -> None:
    model = parse("m (float[2,4] x) => (seq(float[2,4]) y) { y = SequenceConstruct (x) }")
    (spec,) = output_specs(model)
    assert (spec.name, spec.dtype.kind) == ("y", "V")
