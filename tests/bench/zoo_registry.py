"""The models of the zoo: which network, of which input, by which exporter. Needs PyTorch and its model packages."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import skeleton

try:
    import torch

    if "+cpu" in torch.__version__:
        # torchvision on PyPI is built for CUDA: beside a CPU torch its compiled operators are missing, and it asks for
        # the schemas of these when it is imported. No model here runs them.
        _LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            with contextlib.suppress(RuntimeError):
                _LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm
    import torchvision
    import transformers
    import zoo_models
    from torch import nn
except ImportError as error:
    sys.exit(
        f"{error}\nThe zoo needs an environment of its own:\n"
        "  python3 -m venv .venv-peers\n"
        '  .venv-peers/bin/pip install "nvidia-modelopt[onnx]==0.47.0" torch torchvision timm transformers onnxscript '
        "onnxruntime onnx"
    )

vision = torchvision.models


@dataclass(frozen=True)
class Entry:
    """One model.

    Attributes:
        build: Makes the network; its weights are seeded by the name before.
        shape: Of its input, with the batch. None for the language model.
        dynamo: Which of PyTorch's two exporters.
        opset: What the exporter is asked for.
    """

    build: Callable[[], Any]
    shape: tuple[int, ...] | None = None
    dynamo: bool = False
    opset: int = 17


class Picked(nn.Module):
    """A network whose output is one of the values of a dictionary."""

    def __init__(self, body: Any, key: str) -> None:
        super().__init__()
        self.body, self.key = body, key

    def forward(self, x: Any) -> Any:
        return self.body(x)[self.key]


class RawDetector(nn.Module):
    """A detector's backbone and head, without the boxes' decoding and suppression."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x: Any) -> Any:
        out = self.head(list(self.backbone(x).values()))
        return out["bbox_regression"], out["cls_logits"]


class Bert(nn.Module):
    """BERT with an attention mask, giving the hidden states and the pooled one."""

    LENGTH, BATCH = 128, 8

    def __init__(self) -> None:
        super().__init__()
        config = transformers.BertConfig(
            vocab_size=8192, num_hidden_layers=6, hidden_size=512, num_attention_heads=8, intermediate_size=2048
        )
        config._attn_implementation = "eager"
        self.body = transformers.BertModel(config)

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        out = self.body(input_ids=input_ids, attention_mask=attention_mask)
        return out.last_hidden_state, out.pooler_output


def _image(batch: int, size: int = 224) -> tuple[int, ...]:
    return (batch, 3, size, size)


def _segmenter() -> Any:
    body = vision.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=False)
    return Picked(body, "out")


def _ssd() -> Any:
    return RawDetector(vision.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None))


def _retinanet() -> Any:
    return RawDetector(vision.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None))


def _conv_mixer() -> Any:
    return timm.models.convmixer.ConvMixer(256, 8, kernel_size=9, patch_size=7)


ZOO: dict[str, Entry] = {
    "resnet56": Entry(zoo_models.cifar_resnet, _image(64, 32)),
    "mobilenet_v3_small": Entry(vision.mobilenet_v3_small, _image(32)),
    "efficientnet_b0": Entry(vision.efficientnet_b0, _image(32)),
    "shufflenet_v2": Entry(vision.shufflenet_v2_x1_0, _image(32), dynamo=True),
    "yolo": Entry(zoo_models.Yolo, _image(8, 320)),
    "vit_b_16": Entry(vision.vit_b_16, _image(8), dynamo=True),
    "bert": Entry(Bert, dynamo=True),
    "resnet18": Entry(vision.resnet18, _image(32)),
    "resnet18_dynamo": Entry(vision.resnet18, _image(32), dynamo=True),
    "resnet50": Entry(vision.resnet50, _image(32)),
    "mobilenet_v2": Entry(vision.mobilenet_v2, _image(32), opset=13),
    "mobilenet_v3_large": Entry(vision.mobilenet_v3_large, _image(32), dynamo=True),
    "densenet121": Entry(vision.densenet121, _image(16), dynamo=True),
    "regnet_y_400mf": Entry(vision.regnet_y_400mf, _image(32)),
    "convnext_tiny": Entry(vision.convnext_tiny, _image(16), dynamo=True),
    "swin_t": Entry(vision.swin_t, _image(8)),
    "unet": Entry(zoo_models.Unet, _image(8, 256), opset=13),
    "deeplabv3": Entry(_segmenter, _image(4, 320)),
    "ssd": Entry(_ssd, _image(8, 320), dynamo=True),
    "crnn": Entry(zoo_models.Crnn, (32, 1, 32, 128)),
    "audio1d": Entry(zoo_models.Audio, (16, 1, 16000), opset=13),
    "efficientnet_lite0": Entry(lambda: timm.create_model("efficientnet_lite0"), _image(32), opset=13),
    "convmixer": Entry(_conv_mixer, _image(16), dynamo=True),
    "hrnet": Entry(zoo_models.HighResolution, _image(8, 256), dynamo=True),
    "vgg16_bn": Entry(vision.vgg16_bn, _image(16)),
    "googlenet": Entry(lambda: vision.googlenet(aux_logits=False, init_weights=True), _image(32), dynamo=True),
    "mobilenet_v4": Entry(lambda: timm.create_model("mobilenetv4_conv_small"), _image(32), dynamo=True),
    "repvgg_a0": Entry(lambda: timm.create_model("repvgg_a0"), _image(32)),
    "mobilevit": Entry(lambda: timm.create_model("mobilevit_s"), _image(16, 256), dynamo=True),
    "lcnet": Entry(lambda: timm.create_model("lcnet_100"), _image(32)),
    "ghostnet": Entry(lambda: timm.create_model("ghostnet_100"), _image(32)),
    "squeezenet": Entry(vision.squeezenet1_1, _image(32)),
    "retinanet": Entry(_retinanet, _image(2, 320), dynamo=True),
    # the same networks by the other exporter; TorchScript's has opset 17
    "swin_t_dynamo": Entry(vision.swin_t, _image(8), dynamo=True),
    "shufflenet_v2_ts": Entry(vision.shufflenet_v2_x1_0, _image(32)),
    "mobilenet_v3_large_ts": Entry(vision.mobilenet_v3_large, _image(32)),
    "densenet121_ts": Entry(vision.densenet121, _image(16)),
    "ssd_ts": Entry(_ssd, _image(8, 320)),
    "convnext_tiny_ts": Entry(vision.convnext_tiny, _image(16)),
    "hrnet_ts": Entry(zoo_models.HighResolution, _image(8, 256)),
    "mobilevit_ts": Entry(lambda: timm.create_model("mobilevit_s"), _image(16, 256)),
    "resnet56_padded": Entry(lambda: zoo_models.cifar_resnet(56, padded=True), _image(64, 32), dynamo=True),
}
"""In the order in which they are made."""


def seeded(name: str, entry: Entry) -> tuple[Any, dict[str, Any]]:
    """The network, whose activations stay of ordinary size, and its inputs.

    Args:
        name: Seeds the weights; the two exports of one network have the same.
        entry: Of the zoo.
    """
    torch.manual_seed(int(hashlib.sha256(re.sub("_(dynamo|ts)$", "", name).encode()).hexdigest()[:8], 16))
    net = entry.build().eval()
    for key, parameter in net.named_parameters():
        if "layer_scale" in key:
            nn.init.constant_(parameter, 0.2)  # 1e-6 as built: the branches would not be heard
        elif parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)  # zeros as built: the output would be a constant
    if entry.shape is None:
        ids = torch.randint(0, 8192, (Bert.BATCH, Bert.LENGTH))
        return net, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    generator = np.random.default_rng(0)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # the mean over the batches
        norm.reset_running_stats()
        norm.train()
    with torch.no_grad():
        for _ in range(3 if norms else 0):
            net(torch.from_numpy(skeleton.smooth((min(8, entry.shape[0]), *entry.shape[1:]), generator)))
    return net.eval(), {"input": torch.from_numpy(skeleton.smooth(entry.shape, generator))}
