"""Preprocessing of well-known model families, by name. `quantlab presets NAME` prints one as JSON to start from."""

from __future__ import annotations

from quantlab.data.preprocess import Preprocess

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PRESETS: dict[str, Preprocess] = {
    # torchvision's and timm's classic evaluation transform
    "imagenet": Preprocess(
        "short_side", (256, 256), crop=(224, 224), scale=1 / 255, mean=_IMAGENET_MEAN, std=_IMAGENET_STD
    ),
    # TensorFlow-style models (EfficientNet-Lite, MobileNet): pixels to about [-1, 1]
    "imagenet-127": Preprocess("short_side", (256, 256), crop=(224, 224), mean=(127.0,), std=(128.0,)),
    # 32x32 with the statistics most ONNX exports of CIFAR-10 ResNets were trained with
    "cifar10": Preprocess("exact", (32, 32), scale=1 / 255, mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
    "fashion-mnist": Preprocess("exact", (28, 28), color="gray", scale=1 / 255, mean=(0.2860,), std=(0.3530,)),
    "yolo": Preprocess("letterbox", (640, 640), scale=1 / 255),
    "none": Preprocess(),
}  # fmt: skip
"""The preprocess of well-known model families, by name."""
