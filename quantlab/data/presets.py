"""Preprocessing of well-known model families, by name. `quantlab presets NAME` prints one as JSON to start from.

Those of torchvision are the evaluation transforms of its weights; timm's are named by its `crop_pct` in thousandths and
its statistics (`half`: mean and deviation 0.5, `clip`: CLIP's, `raw`: pixels from 0 to 1). timm resizes to
`floor(size / crop_pct)`. Sizes are those of most weights; `quantlab check-data --try-presets` scales them to the model.
"""

from __future__ import annotations

from quantlab.data.preprocess import Preprocess

_Statistics = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: _Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: _Statistics = ((0.5,), (0.5,))
CLIP: _Statistics = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
RAW: _Statistics = ((0.0,), (1.0,))


def _cropped(
    resize: int, crop: int, interpolation: str = "bilinear", statistics: _Statistics = IMAGENET, color: str = "rgb"
) -> Preprocess:
    """The shorter side to `resize`, the middle of it, pixels from 0 to 1, the statistics."""
    mean, std = statistics
    return Preprocess(
        "short_side", (resize, resize), interpolation, crop=(crop, crop), color=color, scale=1 / 255, mean=mean, std=std
    )


def _squashed(size: int, interpolation: str, statistics: _Statistics) -> Preprocess:
    mean, std = statistics
    return Preprocess("exact", (size, size), interpolation, scale=1 / 255, mean=mean, std=std)


PRESETS: dict[str, Preprocess] = {
    # torchvision's and timm's classic evaluation transform; torchvision's first weights (IMAGENET1K_V1) of most models
    "imagenet": _cropped(256, 224),
    # TensorFlow-style models (EfficientNet-Lite, MobileNet): pixels to about [-1, 1]
    "imagenet-127": Preprocess("short_side", (256, 256), crop=(224, 224), mean=(127.0,), std=(128.0,)),
    # an OpenCV loader that nobody turned to RGB
    "imagenet-bgr": _cropped(256, 224, color="bgr"),
    # torchvision: most weights that are called IMAGENET1K_V2
    "torchvision-v2": _cropped(232, 224),
    "torchvision-swag": _cropped(224, 224, "bicubic"),
    "torchvision-swag-384": _cropped(384, 384, "bicubic"),
    "torchvision-convnext-tiny": _cropped(236, 224),
    "torchvision-convnext-small": _cropped(230, 224),
    "torchvision-efficientnet-b0": _cropped(256, 224, "bicubic"),
    "torchvision-efficientnet-b1": _cropped(256, 240, "bicubic"),
    "torchvision-efficientnet-b1-v2": _cropped(255, 240),
    "torchvision-efficientnet-b2": _cropped(288, 288, "bicubic"),
    "torchvision-efficientnet-b3": _cropped(320, 300, "bicubic"),
    "torchvision-efficientnet-b4": _cropped(384, 380, "bicubic"),
    "torchvision-efficientnet-b5": _cropped(456, 456, "bicubic"),
    "torchvision-efficientnet-b6": _cropped(528, 528, "bicubic"),
    "torchvision-efficientnet-b7": _cropped(600, 600, "bicubic"),
    "torchvision-efficientnet-v2-s": _cropped(384, 384),
    "torchvision-efficientnet-v2-m": _cropped(480, 480),
    "torchvision-efficientnet-v2-l": _cropped(480, 480, "bicubic", HALF),
    "torchvision-inception-v3": _cropped(342, 299),
    "torchvision-swin-t": _cropped(232, 224, "bicubic"),
    "torchvision-swin-s": _cropped(246, 224, "bicubic"),
    "torchvision-swin-b": _cropped(238, 224, "bicubic"),
    "torchvision-swin-v2": _cropped(260, 256, "bicubic"),
    "torchvision-swin-v2-b": _cropped(272, 256, "bicubic"),
    "torchvision-vit-l-16": _cropped(242, 224),
    # timm
    "timm-875": _cropped(256, 224, "bicubic"),
    "timm-900": _cropped(248, 224, "bicubic"),
    "timm-950": _cropped(235, 224, "bicubic"),
    "timm-965": _cropped(232, 224, "bicubic"),
    "timm-1000": _cropped(224, 224, "bicubic"),
    "timm-950-bilinear": _cropped(235, 224),
    "timm-half-875": _cropped(256, 224, "bicubic", HALF),
    "timm-half-875-bilinear": _cropped(256, 224, "bilinear", HALF),
    "timm-half-900": _cropped(248, 224, "bicubic", HALF),
    "timm-half-950": _cropped(235, 224, "bicubic", HALF),
    "timm-half-1000": _cropped(224, 224, "bicubic", HALF),
    "timm-clip-900": _cropped(248, 224, "bicubic", CLIP),
    "timm-clip-1000": _cropped(224, 224, "bicubic", CLIP),
    "timm-raw-875": _cropped(256, 224, "bilinear", RAW),
    "timm-raw-900": _cropped(248, 224, "bicubic", RAW),
    "timm-squash": _squashed(224, "bicubic", IMAGENET),
    "timm-half-squash": _squashed(224, "bicubic", HALF),
    # Keras: its two ways of scaling beside torch's
    "keras-tf": Preprocess("exact", (224, 224), mean=(127.5,), std=(127.5,)),
    "keras-caffe": Preprocess("exact", (224, 224), color="bgr", mean=(103.939, 116.779, 123.68)),
    # ultralytics: detection, segmentation and pose; classification
    "yolo": Preprocess("letterbox", (640, 640), scale=1 / 255),
    "yolo-cls": _cropped(224, 224, "bilinear", RAW),
    # 32x32 with the statistics most ONNX exports of CIFAR-10 ResNets were trained with
    "cifar10": _squashed(32, "bilinear", IMAGENET),
    "cifar10-own": _squashed(32, "bilinear", ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))),
    "cifar10-half": _squashed(32, "bilinear", HALF),
    "cifar100": _squashed(32, "bilinear", ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))),
    "fashion-mnist": Preprocess("exact", (28, 28), color="gray", scale=1 / 255, mean=(0.2860,), std=(0.3530,)),
    "mnist": Preprocess("exact", (28, 28), color="gray", scale=1 / 255, mean=(0.1307,), std=(0.3081,)),
    "none": Preprocess(),
}  # fmt: skip
"""The preprocess of well-known model families, by name."""
