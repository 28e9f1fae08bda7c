"""Models above protobuf's limit: the same code with a limit of a few hundred bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse, run
from quantlab.onnx_model import large, load_model, model_hash
from quantlab.ort import Session


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every weight counts as big and every model as too big for one file."""
    monkeypatch.setattr(large, "BIG", 64)
    monkeypatch.setattr(large, "LIMIT", 128)


def test_shapes_and_checks_are_those_of_onnx(small_limit: None) -> None:
    model = conv_net()
    shapes = {v.name: v.type.SerializeToString() for v in large.infer_shapes(model).graph.value_info}
    wanted = onnx.shape_inference.infer_shapes(model)
    assert shapes == {v.name: v.type.SerializeToString() for v in wanted.graph.value_info}
    assert [t.name for t in large.infer_shapes(model).graph.initializer] == [t.name for t in model.graph.initializer]
    model.graph.initializer[2].raw_data = model.graph.initializer[2].raw_data[:-4]
    with pytest.raises(onnx.checker.ValidationError, match=r"initializer 'w2' has \d+ bytes, its shape needs"):
        large.check_model(model)


def test_session_takes_the_weights_beside_the_model(small_limit: None) -> None:
    batch = image_batches(1)[0]
    wanted = run(conv_net(), batch)[0]
    for optimize in (False, True):
        got = Session(conv_net(), optimize=optimize).run(batch)["logits"]
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_initializer_that_is_also_an_input_stays_an_initializer(small_limit: None) -> None:
    model = parse("m (float[N,6] x, float[6,8] w) => (float[N,8] y) { y = MatMul (x, w) }", {"w": floats(6, 8)})
    session = Session(model)
    assert [s.name for s in session.inputs] == ["x"]
    np.testing.assert_allclose(session.run({"x": np.eye(6, dtype=np.float32)})["y"], floats(6, 8), rtol=1e-6)


def test_whole_chain_with_files(small_limit: None, tmp_path: Path) -> None:
    path, output = tmp_path / "m.onnx", tmp_path / "q.onnx"
    onnx.save(conv_net(), path, save_as_external_data=True, location="m.weights", size_threshold=0)
    table = quantlab.calibrate(path, image_batches())
    result = quantlab.quantize(path, table)
    large.save_model(result.model, output)
    assert (tmp_path / "q.onnx.data").stat().st_size > 0
    assert model_hash(load_model(output)) == model_hash(result.model)
    assert model_hash(load_model(path)) == table.provenance.model_hash
    comparison = quantlab.compare(path, {"q": output}, image_batches())
    assert comparison.results[1].worst_sqnr_db > 20
    with large.as_file(result.model) as file:
        onnx.checker.check_model(str(file), full_check=True)


def test_model_of_ordinary_size_is_one_file_with_onnxs_bytes(tmp_path: Path) -> None:
    large.save_model(conv_net(), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == conv_net().SerializeToString(deterministic=True)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert large.model_bytes(conv_net()) == conv_net().ByteSize()


def test_weights_of_another_model_are_not_overwritten(small_limit: None, tmp_path: Path) -> None:
    onnx.save(conv_net(), tmp_path / "fp32.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    with pytest.raises(quantlab.QuantlabError, match="it may be another model's"):
        large.save_model(conv_net(), tmp_path / "m.onnx")
    load_model(tmp_path / "fp32.onnx")


def test_interrupted_save_leaves_no_model_with_other_weights(
    small_limit: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large.save_model(conv_net(), tmp_path / "m.onnx")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(large, "write_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        large.save_model(conv_net(), tmp_path / "m.onnx")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_big_weight_that_onnx_refuses_is_refused() -> None:
    model = parse("m (float[N,256] x) => (float[N,256] y) { y = MatMul (x, w) }")
    short = onnx.TensorProto(name="w", data_type=1, dims=[256, 256])
    short.float_data.extend([0.5] * (256 * 256 - 4))
    model.graph.initializer.append(short)
    with pytest.raises(quantlab.QuantlabError, match="is not a valid ONNX model"):
        load_model(model)


def test_truncated_external_data_is_refused(tmp_path: Path) -> None:
    onnx.save(conv_net(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    content = (tmp_path / "m.data").read_bytes()
    (tmp_path / "m.data").write_bytes(content[:100])
    with pytest.raises(quantlab.QuantlabError, match="external data cannot be read"):
        load_model(tmp_path / "m.onnx")


def test_weight_of_a_type_that_numpy_lacks_stays_in_the_model(small_limit: None) -> None:
    header = '<ir_version: 10, opset_import: ["" : 21]>'
    model = parse("m (float[N,16] x) => (float[N,16] y) { c = Cast <to = 1> (w)  y = MatMul (x, c) }", {}, header)
    model.graph.initializer.append(onnx.helper.make_tensor("w", onnx.TensorProto.BFLOAT16, [16, 16], [0.5] * 256))
    got = Session(model, optimize=False).run({"x": np.ones((2, 16), np.float32)})["y"]
    np.testing.assert_array_equal(got, np.full((2, 16), 8.0, np.float32))


def test_weights_that_do_not_fit_on_the_disk_leave_no_file(
    small_limit: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("quantlab.files.sets.os.fsync", full)
    with pytest.raises(quantlab.QuantlabError, match=r"m\.onnx\.data cannot be written: No space left on device"):
        large.save_model(conv_net(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_copy_without_weights_has_the_big_ones_as_inputs(small_limit: None) -> None:
    model = conv_net()
    light = large.copy_model(model, with_weights=False)
    sizes = {t.name: len(t.raw_data) for t in model.graph.initializer}
    assert {t.name for t in light.graph.initializer} == {n for n, size in sizes.items() if size < 64}
    assert [i.name for i in light.graph.input] == ["image", *(n for n, size in sizes.items() if size >= 64)]
    assert large.copy_model(model).SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_weight_beyond_protobufs_limit_is_checked_by_its_size(small_limit: None) -> None:
    model = conv_net()
    large.check_model(model)
    assert large.why_invalid(model) is None
    model.graph.initializer[2].raw_data += bytes(4)
    assert large.why_invalid(model) == "initializer 'w2' has 2308 bytes, its shape needs 2304"
