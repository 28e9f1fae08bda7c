"""Keras models to ONNX and Q/DQ: TensorFlow itself is the oracle."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
with warnings.catch_warnings():  # what TensorFlow and its libraries warn of one another
    warnings.simplefilter("ignore")
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed (pip install 'quantlab-trt[keras]')")
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed (pip install 'quantlab-trt[keras]')")
    import keras
    import tensorflow as tf
    from keras import layers as L  # noqa: N812

import quantlab.keras
from followed import follow
from keras_models import application, convolutions, fed, float_bound_db, lively, recurrent
from models import run, sqnr_db
from quantlab.errors import ConfigError, DataError, GraphError, QuantlabError
from quantlab.keras.quantize import keras_batches
from quantlab.onnx_model import input_specs
from quantlab.qdq import lint

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

MODELS: dict[str, Callable[[], Any]] = {
    "convolutions": convolutions,
    "recurrent": recurrent,
    "MobileNetV2": lambda: application("MobileNetV2", alpha=0.35),
    "EfficientNetB0": lambda: application("EfficientNetB0"),
    "ResNet50V2": lambda: application("ResNet50V2"),
    "DenseNet121": lambda: application("DenseNet121"),
    "MobileNetV3Small": lambda: application("MobileNetV3Small", minimalistic=False),
}


def outputs_of(model: Any, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Of Keras, in the model's order."""
    return [np.asarray(y) for y in tf.nest.flatten(model(list(arrays.values()), training=False))]


def small(batch_norm: bool = True) -> Any:
    image = x = L.Input((16, 16, 3), name="image")
    x = L.Conv2D(16, 3, padding="same", strides=2)(x)
    x = L.ReLU()(L.BatchNormalization()(x) if batch_norm else x)
    x = L.Conv2D(24, 3, padding="same", activation="relu")(x)
    return lively(keras.Model(image, L.Dense(5, name="scores")(L.GlobalAveragePooling2D()(x)), name="small"))


@cache
def made(name: str) -> tuple[Any, quantlab.keras.Converted]:
    model = lively(MODELS[name]())
    return model, quantlab.keras.to_onnx(model)


@pytest.mark.parametrize("name", MODELS)
def test_model_computes_in_onnx_what_keras_computes(name: str) -> None:
    model, found = made(name)
    arrays = fed(model)
    graph = found.model.graph
    assert [value.name for value in graph.input] == list(arrays)
    assert [value.name for value in graph.output] == model.output_names
    bound = float_bound_db(found.model)
    for want, got in zip(outputs_of(model, arrays), run(found.model, arrays), strict=True):
        assert want.std() > 1e-3
        assert sqnr_db(want, got) > bound
    # the input stays NHWC; behind its Transpose no other one moves images
    images = [b for b in found.transposes if len(b.perm) == 4 and b.moves]
    if name != "recurrent":
        assert [b.perm for b in images] == [(0, 3, 1, 2)]
        assert images[0].place == "input" or name in ("MobileNetV3Small", "EfficientNetB0")  # they rescale it first
        assert not found.notes


@pytest.mark.parametrize("name", ["convolutions", "MobileNetV2", "EfficientNetB0", "ResNet50V2"])
def test_qdq_model_is_as_good_as_int8_is(name: str) -> None:
    model, found = made(name)
    arrays = fed(model)
    result = quantlab.quantize(found.model, quantlab.calibrate(found.model, [arrays], "minmax"))
    assert not lint(result.model)
    for want, got in zip(outputs_of(model, arrays), run(result.model, arrays), strict=True):
        sqnr = sqnr_db(want, got)
        print(name, f"{sqnr:.1f} dB", Counter(n.op_type for n in result.model.graph.node)["QuantizeLinear"])
        assert sqnr > 12  # 2 bits of signal: made-up weights of 52 layers, depthwise ones among them, have hardly more
        if want.shape[-1] > 1:
            top = np.sort(want, -1)
            clear = top[..., -1] - top[..., -2] > 2 * np.abs(want - got).max()
            assert (want.argmax(-1) == got.argmax(-1))[clear].all()


@pytest.mark.parametrize("form", ["model", ".keras", ".h5", "saved_model", "exported"])
def test_every_form_of_a_model_gives_the_same_network(form: str, tmp_path: Path) -> None:
    model = small()
    arrays = fed(model)
    given: Any = tmp_path / f"m{form}"
    if form == "model":
        given = model
    elif form == "exported":
        given = tmp_path / "exported"
        model.export(str(given), verbose=False)
    elif form == "saved_model":
        given = tmp_path / "plain"
        spec = tf.TensorSpec((None, 16, 16, 3), tf.float32, name="image")
        module = tf.Module()
        module.model = model
        module.serve = tf.function(lambda image: {"scores": model(image, training=False)}, input_signature=[spec])
        tf.saved_model.save(module, str(given), signatures={"serving_default": module.serve})
    else:
        model.save(given)
    found = quantlab.keras.to_onnx(str(given) if isinstance(given, Path) else given)
    (name,) = (value.name for value in found.model.graph.input)
    (got,) = run(found.model, {name: arrays["image"]})
    assert sqnr_db(outputs_of(model, arrays)[0], got) > float_bound_db(found.model)
    assert Counter(n.op_type for n in found.model.graph.node)["Transpose"] == 1


def test_batch_norm_is_folded_and_convolutions_are_int8() -> None:
    result = quantlab.keras.quantize(small(), fed(small()), "minmax")
    kinds = Counter(node.op_type for node in result.model.graph.node)
    assert kinds["BatchNormalization"] == 0
    assert len(result.quantized.placement.weights) >= 2
    assert kinds["Conv"] == 2


@pytest.mark.parametrize("kind", ["array", "dict", "dataset", "labelled dataset", "list", "stream"])
def test_data_go_in_as_keras_takes_them(kind: str) -> None:
    model = small(batch_norm=False)
    x = fed(model, 12)["image"]
    rows = tf.data.Dataset.from_tensor_slices(x)
    labelled = tf.data.Dataset.zip(rows, tf.data.Dataset.from_tensor_slices(np.arange(12)))
    data: dict[str, Any] = {
        "array": x,
        "dict": {"image": x},
        "dataset": rows.batch(4),
        "labelled dataset": labelled.batch(4),
        "list": [x[:4], x[4:]],
        "stream": quantlab.IterableBatches(lambda: iter([{"image": x}])),
    }
    want = quantlab.calibrate(quantlab.keras.to_onnx(model).model, [{"image": x}], "minmax")
    got = quantlab.keras.quantize(model, data[kind], "minmax").table
    assert {name: float(amax) for name, amax in got.amax.items()} == pytest.approx(
        {name: float(amax) for name, amax in want.amax.items()}, rel=1e-5
    )


def test_image_folder_in_the_layout_of_keras(tmp_path: Path) -> None:
    from dataclasses import replace

    from PIL import Image

    (tmp_path / "images").mkdir()
    for k in range(4):
        pixels = np.random.default_rng(k).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{k}.png")
    nchw = replace(quantlab.PRESETS["imagenet"], size=(16, 16), crop=None, resize="exact")
    nhwc = replace(nchw, layout="nhwc")
    batches = quantlab.image_folder(tmp_path / "images", nhwc, input_name="image", batch_size=2)
    assert quantlab.keras.quantize(small(), batches, "minmax").quantized.placement.weights
    wrong = quantlab.image_folder(tmp_path / "images", nchw, input_name="image", batch_size=2)
    with pytest.raises(DataError, match=r"these look like NCHW images, and the model takes NHWC.*layout 'nhwc'"):
        quantlab.keras.quantize(small(), wrong)


def test_nhwc_data_for_a_channels_first_model_is_refused() -> None:
    image = L.Input((3, 16, 16), name="image")
    turned = L.Permute((2, 3, 1))(image)
    model = keras.Model(image, L.Dense(2)(L.Flatten()(L.Conv2D(4, 3)(turned))))
    with pytest.raises(DataError, match="look like NHWC images, and the model takes NCHW"):
        quantlab.keras.quantize(model, np.zeros((4, 16, 16, 3), np.float32))
    found = quantlab.keras.to_onnx(model)
    assert not [b for b in found.transposes if b.place == "input"]  # the model's own one and tf2onnx's are gone


# ---- quantization-aware training


class Trained(tf.Module):
    """Convolution, depthwise convolution and matrix product with FakeQuant as QAT leaves it."""

    def __init__(self, ends: tuple[float, float] = (-4.0, 4.0), weight: str = "narrow", bits: int = 8) -> None:
        super().__init__()
        rng = np.random.default_rng(3)
        self.ends, self.weight, self.bits = ends, weight, bits
        self.kernel = tf.Variable(rng.normal(0, 0.3, (3, 3, 3, 16)).astype(np.float32))
        self.depthwise = tf.Variable(rng.normal(0, 0.4, (3, 3, 16, 2)).astype(np.float32))
        self.dense = tf.Variable(rng.normal(0, 0.2, (32, 5)).astype(np.float32))

    def activation(self, x: Any, low: float, high: float) -> Any:
        return tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=self.bits)

    def quantized(self, w: Any) -> Any:
        if self.weight == "tensor":
            top = tf.reduce_max(tf.abs(w))
            return tf.quantization.fake_quant_with_min_max_vars(w, -top, top, narrow_range=True)
        top = tf.reduce_max(tf.abs(w), axis=list(range(len(w.shape) - 1)))
        narrow = self.weight == "narrow"
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(w, -top, top, narrow_range=narrow)

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32, name="image")])
    def serve(self, image: Any) -> dict[str, Any]:
        x = self.activation(image, *self.ends)
        x = tf.nn.relu6(tf.nn.conv2d(x, self.quantized(self.kernel), 2, "SAME"))
        x = self.activation(x, *((-6.0, 6.0) if self.ends[0] == -self.ends[1] else (0.0, 6.0)))
        x = tf.nn.relu(tf.nn.depthwise_conv2d(x, self.quantized(self.depthwise), (1, 1, 1, 1), "SAME"))
        x = self.activation(tf.reduce_mean(x, (1, 2)), -4.0, 4.0)
        return {"scores": tf.matmul(x, self.quantized(self.dense))}

    def saved(self, path: Path) -> Path:
        tf.saved_model.save(self, str(path), signatures={"serving_default": self.serve})
        return path


IMAGES = np.random.default_rng(5).standard_normal((16, 16, 16, 3)).astype(np.float32)


def steps_apart(trained: Trained, found: quantlab.keras.Converted) -> tuple[np.ndarray, np.ndarray]:
    want = trained.serve(tf.constant(IMAGES))["scores"].numpy()
    return want, run(found.model, {"image": IMAGES})[0]


@pytest.mark.parametrize("weight", ["narrow", "full", "tensor"])
def test_symmetric_ranges_are_kept_exactly(weight: str, tmp_path: Path) -> None:
    trained = Trained(weight=weight)
    found = quantlab.keras.to_onnx(trained.saved(tmp_path / "qat"))
    assert found.quantized
    assert not [note for note in found.notes if "symmetric" in note]
    want, got = steps_apart(trained, found)
    # every code is TensorFlow's but where float32 sums fall on either side of half a step
    assert sqnr_db(want, got) > 35
    kinds = Counter(node.op_type for node in found.model.graph.node)
    assert (kinds["QuantizeLinear"], kinds["DequantizeLinear"], kinds["Transpose"]) == (3, 6, 1)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in found.model.graph.initializer}
    codes = [w for name, w in weights.items() if name.endswith("_quantized")]
    assert sorted(w.shape for w in codes) == [(16, 3, 3, 3), (32, 1, 3, 3), (32, 5)]
    assert all(w.dtype == np.int8 for w in codes)


def test_weights_are_the_values_that_tensorflow_computes_with(tmp_path: Path) -> None:
    trained = Trained()
    found = quantlab.keras.to_onnx(trained.saved(tmp_path / "qat"))
    (node,) = (n for n in found.model.graph.node if n.op_type == "MatMul")
    makers = {n.output[0]: n for n in found.model.graph.node}
    dequantize = makers[node.input[1]]
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in found.model.graph.initializer}
    codes, scale, zero = (constants[name] for name in dequantize.input)
    assert not zero.any()
    got = codes.astype(np.float32) * scale
    want = trained.quantized(trained.dense).numpy()
    # the code times the step, once rounded; TensorFlow adds the low end, which rounds once more
    assert np.abs(got - want).max() <= 2 * np.finfo(np.float32).eps * np.abs(want).max()


def test_asymmetric_ranges_are_converted_and_what_is_lost_is_said(tmp_path: Path) -> None:
    trained = Trained(ends=(-1.0, 3.0))
    found = quantlab.keras.to_onnx(trained.saved(tmp_path / "qat"))
    said = [note for note in found.notes if "not symmetric" in note]
    assert len(said) == 2
    assert any("the range -1 to 3" in note and "1.5 times" in note for note in said), said
    assert any("the range 0 to 6" in note and "2.01 times" in note for note in said), said
    want, got = steps_apart(trained, found)
    assert 15 < sqnr_db(want, got) < 60


def test_model_of_qat_is_repaired_for_tensorrt(tmp_path: Path) -> None:
    from quantlab.qdq import repair

    trained = Trained()
    found = quantlab.keras.to_onnx(trained.saved(tmp_path / "qat"))
    done = repair(found.model, [{"image": IMAGES}])
    assert not done.after
    want, _ = steps_apart(trained, found)
    assert sqnr_db(want, run(done.model, {"image": IMAGES})[0]) > 25


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Trained(bits=4), "was trained with 4 bits, TensorRT's INT8 has 8"),
        (lambda: Trained(ends=(1.0, 3.0)), "the range 1 to 3, which does not hold zero"),
        (lambda: Trained(ends=(2.0, 2.0)), "the range 2 to 2, which holds no values"),
    ],
)
def test_range_that_int8_cannot_have_is_refused(make: Callable[[], Trained], match: str, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=match):
        quantlab.keras.to_onnx(make().saved(tmp_path / "qat"))


def test_activation_per_channel_is_refused() -> None:
    class Fake(L.Layer):
        def call(self, x: Any) -> Any:
            top = tf.ones(3) * 2.0
            return tf.quantization.fake_quant_with_min_max_vars_per_channel(x, -top, top)

    image = L.Input((8, 8, 3), name="image")
    with pytest.raises(GraphError, match="quantizes an activation per channel"):
        quantlab.keras.to_onnx(keras.Model(image, L.Conv2D(4, 3)(Fake()(image))))


def test_model_with_its_own_ranges_is_not_calibrated(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="has ranges of its own.*to_onnx"):
        quantlab.keras.quantize(Trained().saved(tmp_path / "qat"), IMAGES)


# ---- what cannot be


def subclassed() -> Any:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.layer = L.Conv2D(4, 3)

        def call(self, x: Any) -> Any:
            return self.layer(x)

    return Own()


def raises(model: Any, kind: type[QuantlabError], match: str, **options: Any) -> None:
    with pytest.raises(kind, match=match) as caught:
        quantlab.keras.to_onnx(model, **options)
    assert caught.value.hint


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


@pytest.mark.parametrize("form", ["tuple", "mapping"])
def test_several_inputs_with_labels_as_keras_takes_them(form: str) -> None:
    left, right = L.Input((4,), name="left"), L.Input((4,), name="right")
    model = keras.Model([right, left], L.Dense(3)(right - left))
    a, b = np.full((6, 4), 2, np.float32), np.full((6, 4), 5, np.float32)
    inputs = (b, a) if form == "tuple" else {"left": a, "right": b}
    data = tf.data.Dataset.from_tensor_slices((inputs, np.arange(6))).batch(3)
    specs = input_specs(quantlab.keras.to_onnx(model).model)
    fed = list(keras_batches(data, specs))
    assert [(x["left"].tolist(), x["right"].tolist()) for x in fed] == [([[2] * 4] * 3, [[5] * 4] * 3)] * 2


def test_array_for_two_inputs_and_an_iterator_are_refused() -> None:
    model = lively(recurrent())
    with pytest.raises(ConfigError, match="data are one array, the model has the inputs words, extra"):
        quantlab.keras.quantize(model, np.zeros((2, 12, 16), np.float32))
    with pytest.raises(ConfigError, match="read only once"):
        quantlab.keras.quantize(small(), iter([np.zeros((2, 16, 16, 3), np.float32)]))


def test_page_runs_as_it_is_written(tmp_path: Path) -> None:
    printed = follow("how-to/keras.md", tmp_path)
    assert (tmp_path / "model.qdq.onnx").is_file()
    assert any("Transpose at the input" in text for text in printed)


def test_transposes_that_are_left_inside_are_said() -> None:
    """Keras repeats pixels by Tile and Reshape, which tf2onnx leaves in NHWC."""
    image = L.Input((8, 8, 4), name="image")
    x = L.Conv2D(8, 3)(L.UpSampling2D(2, interpolation="nearest")(L.Conv2D(6, 1)(image)))
    found = quantlab.keras.to_onnx(lively(keras.Model(image, x)))
    inside = [line for line in found.describe() if "Transpose inside" in line]
    assert len(inside) == 2
    assert "moves 768 values a sample" in inside[0]
    assert [b.place for b in found.transposes if b.place != "inside"] == ["input", "output"]


def test_names_are_the_same_in_every_conversion() -> None:
    model = lively(convolutions())
    first, second = (quantlab.keras.to_onnx(model).model for _ in range(2))
    for one, other in zip(first.graph.node, second.graph.node, strict=True):
        assert one == other
    assert {t.name for t in first.graph.initializer} == {t.name for t in second.graph.initializer}
    assert first.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


TFMOT = """
import numpy as np, tensorflow as tf, tensorflow_model_optimization as tfmot
import quantlab.keras
from models import run, sqnr_db
L = tf.keras.layers
model = tf.keras.Sequential([
    L.InputLayer((16, 16, 3), name="image"), L.Conv2D(8, 3, padding="same", use_bias=False), L.BatchNormalization(),
    L.ReLU(6.0), L.DepthwiseConv2D(3, strides=2, padding="same"), L.BatchNormalization(), L.ReLU(),
    L.Conv2D(12, 1, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(5),
])
model = tfmot.quantization.keras.quantize_model(model)
x = np.random.default_rng(0).standard_normal((32, 16, 16, 3)).astype(np.float32)
for variable in model.variables:  # the ranges that a training finds
    if variable.name.endswith(("min:0", "max:0")) and variable.shape.rank == 0:
        variable.assign(-2.0 if variable.name.endswith("min:0") else 2.0)
model.save("saved")
want = model(x, training=False).numpy()
for given in (model, "saved"):
    found = quantlab.keras.to_onnx(given)
    (name,) = (value.name for value in found.model.graph.input)
    (got,) = run(found.model, {name: x})
    kinds = [node.op_type for node in found.model.graph.node]
    weights = kinds.count("DequantizeLinear") - kinds.count("QuantizeLinear")
    print(found.quantized, weights, round(sqnr_db(want, got), 1))
"""


def test_model_of_tfmot_comes_in_with_its_scales(tmp_path: Path) -> None:
    """In a process of its own: tfmot needs the Keras of before version 3."""
    import subprocess
    import sys

    pytest.importorskip("tensorflow_model_optimization", reason="tfmot is not installed")
    pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", TFMOT], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for line in done.stdout.splitlines()[-2:]:
        quantized, weights, sqnr = line.split()
        assert (quantized, weights) == ("True", "4")
        assert float(sqnr) > 20, done.stdout  # of random weights: 24.6 and 26 in two environments
