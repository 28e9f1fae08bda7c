"""ONNX Runtime sessions, and the inner tensors they give out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models import conv_net, floats, image_batches, parse
from quantlab.errors import DataError, GraphError
from quantlab.ort import ActivationReader, Session

LINEAR = "m (float[N,4] x) => (float[N,4] y) { a = MatMul (x, w)  y = Relu (a) }"


def linear() -> onnx.ModelProto:
    return parse(LINEAR, {"w": floats(4, 4, seed=1)})


def test_session_gives_all_outputs_or_those_asked_for() -> None:
    text = """m (float[N,4] x) => (float[N,4] y, float[N,4] z, int64[N] i) {
        y = Relu (x)  z = Neg (x)  i = ArgMax <axis = 1, keepdims = 0> (x)
    }"""
    session = Session(parse(text))
    x = floats(3, 4)
    assert session.outputs == ["y", "z", "i"]
    assert session.float_outputs == ["y", "z"]
    assert session.output_dtypes == {"y": np.float32, "z": np.float32}
    assert list(session.run({"x": x})) == ["y", "z", "i"]
    (got,) = session.run({"x": x}, ["z"]).items()
    assert got[0] == "z"
    np.testing.assert_array_equal(got[1], -x)
    assert session.run({"x": x}, []) == {}  # ONNX Runtime would take an empty list for all of them


def test_session_writes_into_arrays_that_are_there() -> None:
    session, x = Session(linear()), floats(6, 4)[::2]  # not contiguous
    y = np.empty((3, 4), np.float32)
    session.run_into({"x": x}, {"y": y})
    np.testing.assert_array_equal(y, session.run({"x": x})["y"])
    session.run_into({"x": x}, {})


def test_model_above_protobufs_limit_runs_with_its_weights_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = conv_net(), image_batches(1)[0]
    wanted = Session(model, optimize=False).run(batch)
    # as old exporters write it: weights are graph inputs with a default, too
    model.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    )
    monkeypatch.setattr("quantlab.onnx_model.large.LIMIT", 128)
    monkeypatch.setattr("quantlab.onnx_model.large.BIG", 64)
    session = Session(model, optimize=False)
    assert [spec.name for spec in session.inputs] == ["image"]
    np.testing.assert_array_equal(session.run(batch)["logits"], wanted["logits"])


def test_batch_that_does_not_fit_raises_before_it_is_run() -> None:
    for run in (lambda b: Session(linear()).run(b), lambda b: Session(linear()).run_into(b, {})):
        with pytest.raises(DataError, match=r"input 'x': got float64 \(2, 4\), expected float32 \(N, 4\)"):
            run({"x": np.zeros((2, 4))})
        with pytest.raises(DataError, match=r"it has input\(s\) y, the model has x"):
            run({"y": floats(2, 4)})


def test_model_that_onnx_runtime_cannot_load_raises() -> None:
    model = linear()
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(
        GraphError, match=r"ONNX Runtime has no operator for 'a' \(NoSuchOperator\), and nothing is computed without it"
    ):
        Session(model)


def test_model_that_fails_on_a_batch_raises() -> None:
    model = parse("m (float[N,M] x) => (float[N,4] y) { y = MatMul (x, w) }", {"w": floats(4, 4)})
    session = Session(model)
    with pytest.raises(GraphError, match="ONNX Runtime failed: .* Hint: does the shape fit"):
        session.run({"x": floats(2, 5)})
    with pytest.raises(GraphError, match="ONNX Runtime failed: .* Hint: does the shape fit"):
        session.run_into({"x": floats(2, 5)}, {"y": np.empty((2, 4), np.float32)})


def test_reader_gives_every_float_tensor_in_network_order() -> None:
    reader = ActivationReader(conv_net())
    values = reader.read_one(image_batches(1)[0])
    assert list(values) == reader.tensors == ["image", "a", "r", "c", "s", "t", "p", "f", "logits"]
    np.testing.assert_array_equal(values["r"], np.maximum(values["a"], 0))
    np.testing.assert_array_equal(values["t"], np.maximum(values["c"] + values["r"], 0))
    assert {v.dtype.name for v in values.values()} == {"float32"}


def test_reader_gives_the_wanted_tensors_in_the_order_wanted() -> None:
    reader = ActivationReader(conv_net(), ["t", "image", "t", "r"])
    assert list(reader.read_one(image_batches(1)[0])) == ["t", "image", "r"]
    alone = ActivationReader(conv_net(), ["image"])
    np.testing.assert_array_equal(alone.read_one(image_batches(1)[0])["image"], image_batches(1)[0]["image"])


def test_reader_of_half_precision_gives_float32() -> None:
    model = parse("m (float16[N,4] x) => (float16[N,4] y) { y = Relu (x) }")
    values = ActivationReader(model).read_one({"x": floats(2, 4).astype(np.float16)})
    assert {name: v.dtype.name for name, v in values.items()} == {"x": "float32", "y": "float32"}


def test_what_was_read_cannot_be_written_and_does_not_follow_the_batch() -> None:
    batch = {"x": floats(2, 4)}
    values = ActivationReader(linear()).read_one(batch)
    kept = batch["x"].copy()
    batch["x"][...] = 99
    np.testing.assert_array_equal(values["x"], kept)
    for array in values.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_tensor_that_does_not_exist_or_is_not_floating_point_raises() -> None:
    with pytest.raises(GraphError, match=r"the model has no tensor 'nope' \(2 unknown\) Hint: run quantlab inspect"):
        ActivationReader(linear(), ["x", "nope", "w"])
    model = parse("m (float[N,4] x) => (int64[N] i) { i = ArgMax <axis = 1, keepdims = 0> (x) }")
    with pytest.raises(GraphError, match="tensor 'i' is not floating point Hint: only such tensors have a range"):
        ActivationReader(model, ["x", "i"])
    assert ActivationReader(model).tensors == ["x"]


@pytest.mark.parametrize(
    ("text", "batch", "wanted"),
    [
        (LINEAR, {"x": floats(2, 4)}, 3 * 4 * 4),  # x, a, y
        (LINEAR.replace("N", "8"), {"x": floats(8, 4)}, None),  # takes no parts
        (
            "m (float[N,4] x, float[M,4] v) => (float[N,4] y) { y = Relu (x) }",
            {"x": floats(2, 4), "v": floats(2, 4)},
            None,
        ),
        (
            "m (float[N,4] x) => (float[4] y) { y = ReduceMean <axes = [0], keepdims = 0> (x) }",
            {"x": floats(2, 4)},
            None,
        ),
        (
            "m (float[N,4] x) => (float[N,4] y) { m = ReduceMean <axes = [0]> (x) y = Sub (x, m) }",
            {"x": floats(2, 4)},
            None,
        ),
        ("m (float[N,4] x) => (float[A,4] y) { y = Concat <axis = 0> (x, w) }", {"x": floats(2, 4)}, None),
        ("m (float[N,4] x) => (float[2,4] y) { y = Reshape (x, two) }", {"x": floats(2, 4)}, None),
    ],
    ids=["independent", "fixed", "two batches", "mean", "centred", "joined", "reshaped"],
)
def test_bytes_of_a_sample_are_known_where_samples_are_independent(
    text: str, batch: dict[str, np.ndarray], wanted: int | None
) -> None:
    weights = {"w": floats(4, 4, seed=1), "two": np.array([2, 4])}
    used = {name: w for name, w in weights.items() if f"({name}" in text or f", {name}" in text}
    reader = ActivationReader(parse(text, used))
    assert reader.bytes_per_sample(batch) == wanted
    assert reader.sizes == ({"x": 4, "a": 4, "y": 4} if wanted else {})
