"""Keras models to ONNX and Q/DQ: TensorFlow itself is the oracle."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantlab.keras
from followed import follow
from keras_models import MODELS, L, convolutions, fed, float_bound_db, keras, lively, small, tf
from models import run, sqnr_db
from quantlab.errors import DataError
from quantlab.keras.quantize import keras_batches
from quantlab.onnx_model import input_specs
from quantlab.qdq import lint

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]


def outputs_of(model: Any, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Of Keras, in the model's order."""
    return [np.asarray(y) for y in tf.nest.flatten(model(list(arrays.values()), training=False))]


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


# ---- what cannot be


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
