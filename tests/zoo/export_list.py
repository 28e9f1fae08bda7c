"""Which networks PyTorch exports for the zoo, and what they are fed. Needs nothing but Python."""

from __future__ import annotations

from typing import Any

PICTURE = {"make": "normalised", "shape": [3, 224, 224]}


def _text(network: str, dynamo: bool) -> dict[str, Any]:
    tokens = {"make": "tokens", "shape": [64], "vocabulary": 5000, "dtype": "int64"}
    inputs = {"input_ids": tokens, "attention_mask": {"make": "mask", "shape": [64], "dtype": "int64"}}
    return _entry(network, dynamo, inputs, 4) | {"tokens": True}


def _entry(network: str, dynamo: bool, inputs: dict[str, Any], batch: int, samples: int = 32) -> dict[str, Any]:
    kind = f"{network}, exported by {'dynamo' if dynamo else 'TorchScript'}"
    shape = (batch, *next(iter(inputs.values()))["shape"])
    return {"kind": kind, "network": network, "dynamo": dynamo, "shape": shape, "inputs": inputs, "batch": batch,
            "samples": samples}  # fmt: skip


def _picture(network: str, dynamo: bool, batch: int = 4, size: int = 224, samples: int = 16) -> dict[str, Any]:
    return _entry(network, dynamo, {"input": PICTURE | {"shape": [3, size, size]}}, batch, samples)


def _both(name: str, make: Any, *more: Any) -> dict[str, dict[str, Any]]:
    return {f"{name}_ts": make(name, False, *more), f"{name}_dynamo": make(name, True, *more)}


def _other(network: str, dynamo: bool, recipe: dict[str, Any], batch: int = 4) -> dict[str, Any]:
    return _entry(network, dynamo, {"input": recipe}, batch)


EXPORTS: dict[str, dict[str, Any]] = (
    _both("shared", _picture, 4, 64, 32)
    | _both("gru", _other, {"make": "signal", "shape": [50, 40]})
    | _both("einsum", _other, {"make": "signal", "shape": [49, 96]})
    | _both("crnn", _other, {"make": "image", "shape": [1, 32, 128], "scale": [-1, 1], "kind": "text"})
    | _both("audio1d", _other, {"make": "speech", "shape": [1, 16000], "scale": 10.0})
    | _both("resnet56", _picture, 8, 32, 64)
    | _both("bert", _text)
    | _both("distilbert", _text)
    | _both("gpt2", _text)
    | _both("mobilenet_v3_small", _picture)
    | _both("resnet18", _picture)
    | _both("efficientnet_b0", _picture)
    | _both("vit", _picture)
    | _both("convnext", _picture)
    | _both("unet", _picture, 2, 128)
    | _both("deeplabv3", _picture, 2, 160)
    | _both("video_resnet", lambda n, d: _entry(n, d, {"input": {"make": "video", "shape": [3, 8, 56, 56]}}, 2, 16))
    | _both("yolo", _picture, 2, 320)
    | _both("swin", _picture, 2, 224, 16)
)
"""Name -> the network, the exporter, the shape that it is traced with, and what it is fed."""
