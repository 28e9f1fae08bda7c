"""Quantization-aware training of TensorFlow: its scales come in. The oracle is what TensorFlow computes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantlab.keras
from keras_models import L, keras, tf
from models import run, sqnr_db
from quantlab.errors import GraphError

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]


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
