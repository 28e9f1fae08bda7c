"""What quantlab.keras refuses: one error that names the thing and the way out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantlab.keras
from keras_models import L, float_bound_db, keras, lively, raises, recurrent, small, tf
from models import run, sqnr_db
from quantlab.errors import ConfigError, DataError, GraphError, QuantlabError

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]


def subclassed() -> Any:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.layer = L.Conv2D(4, 3)

        def call(self, x: Any) -> Any:
            return self.layer(x)

    return Own()


def test_subclassed_model_needs_shapes() -> None:
    raises(subclassed(), GraphError, "does not say what goes in: it is a subclassed model without a signature")
    model = subclassed()
    found = quantlab.keras.to_onnx(model, shapes={"pixels": (None, 8, 8, 3)})
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    assert sqnr_db(model(x).numpy(), run(found.model, {"pixels": x})[0]) > float_bound_db(found.model)


def test_dynamic_size_needs_shapes() -> None:
    image = L.Input((None, None, 3), name="image")
    model = keras.Model(image, L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(image)))
    raises(model, GraphError, r"input 'image' of shape \(None, None, None, 3\) leaves more open than the batch")
    raises(model, ConfigError, "shapes name 'imagee'.*image", shapes={"imagee": (None, 8, 8, 3)})
    raises(model, ConfigError, "does not fit input 'image'", shapes={"image": (None, 8, 8, 4)})
    raises(model, ConfigError, r"shape \(None, 0, 8, 3\)", shapes={"image": (None, 0, 8, 3)})
    assert quantlab.keras.to_onnx(model, shapes={"image": (None, 8, 8, 3)}).model.graph.input[0].name == "image"


def test_strings_are_refused() -> None:
    text = L.Input((1,), dtype="string", name="text")
    raises(keras.Model(text, L.Identity()(text)), GraphError, "input 'text' is string, TensorRT takes numbers only")


@pytest.mark.parametrize(
    ("name", "kind", "match"),
    [
        ("missing.keras", DataError, "does not exist"),
        ("a.txt", DataError, "does not exist"),
        ("frozen.pb", ConfigError, "a graph of TensorFlow 1"),
        ("model.meta", ConfigError, "a checkpoint of TensorFlow 1"),
        ("model.tflite", ConfigError, "TensorFlow Lite"),
        ("model.onnx", ConfigError, "an ONNX model already"),
        (".", DataError, "has no saved_model.pb"),
    ],
)
def test_path_of_something_else_says_what_it_is(
    name: str, kind: type[QuantlabError], match: str, tmp_path: Path
) -> None:
    raises(tmp_path / name, kind, match)


def test_broken_and_unknown_files_are_one_error(tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(b"no archive")
    raises(tmp_path / "m.keras", GraphError, "Keras cannot load")
    (tmp_path / "sm").mkdir()
    (tmp_path / "sm" / "saved_model.pb").write_bytes(b"\xff\xff nothing")
    raises(tmp_path / "sm", GraphError, "TensorFlow cannot load")
    raises(7, ConfigError, "model is a int")
    raises(small(), ConfigError, "opset 9", opset=9)


def test_custom_object_that_is_not_known_is_named(tmp_path: Path) -> None:
    class Twice(L.Layer):
        def call(self, x: Any) -> Any:
            return 2 * x

    image = L.Input((8, 8, 3), name="image")
    model = keras.Model(image, Twice()(L.Conv2D(4, 3)(image)))
    model.save(tmp_path / "m.keras")
    raises(tmp_path / "m.keras", GraphError, "(?s)Keras cannot load.*Twice")
    assert quantlab.keras.to_onnx(model).model.graph.node


def test_saved_model_without_signature_or_of_another_name(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "none"))
    raises(tmp_path / "none", GraphError, "has no signatures")
    small().export(str(tmp_path / "one"), verbose=False)
    raises(
        tmp_path / "one", ConfigError, "has no signature 'serve_default'.*serving_default", signature="serve_default"
    )


def test_tensorflow_1_saved_model_is_converted_or_one_error(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, (None, 8, 8, 3), name="x")
        w = tf.compat.v1.get_variable("w", (3, 3, 3, 4), initializer=tf.compat.v1.ones_initializer())
        y = tf.identity(tf.nn.conv2d(x, w, 1, "SAME"), name="y")
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "v1"), {"x": x}, {"y": y})
    found = quantlab.keras.to_onnx(tmp_path / "v1")
    array = np.ones((1, 8, 8, 3), np.float32)
    assert run(found.model, {"x": array})[0].max() == 27


def test_operator_that_onnx_does_not_have_is_named() -> None:
    class Odd(L.Layer):
        def call(self, x: Any) -> Any:
            return tf.math.betainc(2.0, 3.0, tf.clip_by_value(x, 0.1, 0.9))

    image = L.Input((4,), name="x")
    raises(keras.Model(image, Odd()(image)), GraphError, r"tf2onnx converts no Betainc \('.*Betainc'\)")


def test_layer_that_raises_is_one_error() -> None:
    class Bad(L.Layer):
        def call(self, x: Any) -> Any:
            if tf.reduce_sum(x) > 0:  # depends on data: no graph
                return x
            raise ValueError("no graph for this")

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

    image = L.Input((4,), name="x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = keras.Model(image, Bad()(image))
        except Exception:
            pytest.skip("this Keras does not even build it")
    raises(model, GraphError, "depends on its data")


def test_branch_on_data_is_refused() -> None:
    class Branchy(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x * 2 if tf.reduce_sum(x) > 0 else x

    with pytest.raises(GraphError, match=r"depends on its data, which no engine can follow: .*Hint: .*tf\.where"):
        quantlab.keras.to_onnx(Branchy(), shapes={"x": (None, 4)})


def test_random_numbers_are_refused() -> None:
    class Noisy(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x + tf.random.normal([4])

    with pytest.raises(GraphError, match="draws random numbers \\(RandomNormal"):
        quantlab.keras.to_onnx(Noisy(), shapes={"x": (None, 4)})


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_another_precision_is_refused(policy: str) -> None:
    image = L.Input((8, 8, 3))
    model = keras.Model(image, L.Conv2D(4, 3, dtype=policy)(image))
    kind = policy.removeprefix("mixed_")
    with pytest.raises(GraphError, match=f"computes in {kind} .*expected float32 Hint: .*'float32'"):
        quantlab.keras.to_onnx(model)


def test_data_that_can_be_read_only_once_and_do_not_look_it_are_refused() -> None:
    class Once:
        def __init__(self) -> None:
            self.batches = iter(np.zeros((4, 2, 16, 16, 3), np.float32))

        def __iter__(self) -> Any:
            return self.batches

    with pytest.raises(DataError, match="data can be read only once"):
        quantlab.keras.quantize(small(), Once(), "minmax")


def test_array_for_two_inputs_and_an_iterator_are_refused() -> None:
    model = lively(recurrent())
    with pytest.raises(ConfigError, match="data are one array, the model has the inputs words, extra"):
        quantlab.keras.quantize(model, np.zeros((2, 12, 16), np.float32))
    with pytest.raises(ConfigError, match="read only once"):
        quantlab.keras.quantize(small(), iter([np.zeros((2, 16, 16, 3), np.float32)]))
