"""Keras models with made-up weights that carry a signal through, and their SQNR bounds."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

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
from quantlab.errors import QuantlabError

__all__ = ["L", "keras", "tf"]
"""Of TensorFlow, for tests that skip without it."""


def lively(model: Any, seed: int = 0) -> Any:
    """The same with weights of variance 2 / fan-in and a BatchNorm that works: a fresh model's signal dies out."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        name, shape = variable.path.rsplit("/", 1)[-1], tuple(variable.shape)
        if name in ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel"):
            spatial = int(np.prod(shape[:-2])) if len(shape) > 2 else 1
            fan_in = spatial * (1 if "depthwise" in variable.path else shape[-2])
            variable.assign(rng.normal(0, (2 / fan_in) ** 0.5, shape))
        elif name == "moving_variance":
            variable.assign(rng.uniform(0.5, 1.5, shape))
        elif name in ("moving_mean", "beta", "bias"):
            variable.assign(rng.normal(0, 0.1, shape))
        elif name == "gamma":
            variable.assign(rng.uniform(0.7, 1.3, shape))
    return model


def convolutions() -> Any:
    """Every kind of convolution and pooling, asymmetric padding at strides of 2, activations of all sorts."""
    image = x = L.Input((33, 32, 3), name="image")
    x = L.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
    x = L.Activation("swish")(L.BatchNormalization()(x))
    x = L.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(x)
    x = L.ReLU(6.0)(L.BatchNormalization()(x))
    x = L.SeparableConv2D(32, 5, padding="same", dilation_rate=2)(x)
    x = x * L.Activation("hard_sigmoid")(x)
    x = L.Conv2DTranspose(16, 3, strides=2, padding="same", activation="gelu")(x)
    y = L.Conv2D(16, 1, groups=4)(L.LeakyReLU()(x))
    x = L.Concatenate()([L.PReLU(shared_axes=[1, 2])(y), x])
    x = L.UpSampling2D(2, interpolation="bilinear")(L.MaxPooling2D(3, strides=2, padding="same")(x))
    x = L.Conv2D(24, (1, 5), strides=(1, 2), activation="relu")(L.ZeroPadding2D(((0, 1), (2, 0)))(x))
    x = L.AveragePooling2D(2, padding="same")(L.Cropping2D(1)(x))
    pooled = L.Concatenate()([L.GlobalAveragePooling2D()(x), L.GlobalMaxPooling2D()(x)])
    return keras.Model(image, L.Softmax(name="scores")(L.Dense(7)(L.Dense(20, activation="elu")(pooled))))


def recurrent() -> Any:
    """LSTM, GRU, Conv1D and attention over a sequence, two inputs and two outputs."""
    words, other = L.Input((12, 16), name="words"), L.Input((8,), name="extra")
    x = L.Conv1D(24, 3, padding="causal", activation="tanh")(words)
    x = L.LSTM(20, return_sequences=True)(x)
    x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 10)(x, x))
    x = L.Dropout(0.5)(L.GRU(12)(x))
    both = L.Concatenate()([x, L.Dense(12, activation="softplus")(other)])
    return keras.Model([words, other], [L.Dense(3, name="zone")(both), L.Dense(5, name="area")(both)])


def application(name: str, size: int = 64, **options: Any) -> Any:
    """One of `keras.applications` with ten classes, its logits."""
    make = getattr(keras.applications, name)
    return make(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None, **options)


def fed(model: Any, count: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays for every input."""
    rng = np.random.default_rng(seed)
    scale = 50 if "efficient" in model.name or "MobilenetV3" in model.name else 1  # those take 0 to 255
    return {
        tensor.name: (scale * (rng.standard_normal((count, *tensor.shape[1:])) + 1)).astype(np.float32)
        for tensor in model.inputs
    }


def float_bound_db(proto: onnx.ModelProto) -> float:
    """The SQNR that two orders of float32 summation have at least.

    A sum of K products has a relative rounding error of sqrt(K) units (they are independent), the errors of layers add
    up as their squares do: noise over signal is at most eps * sqrt(sum of K over the layers).
    """
    shapes = {tensor.name: numpy_helper.to_array(tensor).shape for tensor in proto.graph.initializer}
    products = sum(
        int(np.prod(shapes[node.input[1]][1:] if node.op_type == "Conv" else shapes[node.input[1]][:-1]))
        for node in proto.graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm", "ConvTranspose") and node.input[1] in shapes
    )
    return float(-20 * np.log10(np.finfo(np.float32).eps * products**0.5))


def small(batch_norm: bool = True) -> Any:
    image = x = L.Input((16, 16, 3), name="image")
    x = L.Conv2D(16, 3, padding="same", strides=2)(x)
    x = L.ReLU()(L.BatchNormalization()(x) if batch_norm else x)
    x = L.Conv2D(24, 3, padding="same", activation="relu")(x)
    return lively(keras.Model(image, L.Dense(5, name="scores")(L.GlobalAveragePooling2D()(x)), name="small"))


def raises(model: Any, kind: type[QuantlabError], match: str, **options: Any) -> None:
    with pytest.raises(kind, match=match) as caught:
        quantlab.keras.to_onnx(model, **options)
    assert caught.value.hint


MODELS: dict[str, Callable[[], Any]] = {
    "convolutions": convolutions,
    "recurrent": recurrent,
    "MobileNetV2": lambda: application("MobileNetV2", alpha=0.35),
    "EfficientNetB0": lambda: application("EfficientNetB0"),
    "ResNet50V2": lambda: application("ResNet50V2"),
    "DenseNet121": lambda: application("DenseNet121"),
    "MobileNetV3Small": lambda: application("MobileNetV3Small", minimalistic=False),
}
