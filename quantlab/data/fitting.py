"""Presets that fit the input of a model: as they are, or with its layout and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from quantlab.data.preprocess import Preprocess
from quantlab.data.presets import PRESETS
from quantlab.errors import ConfigError
from quantlab.onnx_model import TensorSpec

FARTHEST = 3.0
"""A preset is scaled to a model whose input is so many times as large, or less; statistics of 32 pixels say nothing of
224."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A preset for a model.

    Attributes:
        name: Of the preset.
        preprocess: What fits the model.
        adapted: Whether it is another than the preset: of another size, layout or type.
        same: Other presets that are the same for this model.
    """

    name: str
    preprocess: Preprocess
    adapted: bool
    same: tuple[str, ...] = ()


def fitting_presets(spec: TensorSpec, presets: Mapping[str, Preprocess] = PRESETS) -> list[Fitted]:
    """Find the presets that fit an input.

    Args:
        spec: The input, (N, C, H, W) or (N, H, W, C).
        presets: Those to choose from.

    Returns:
        Each preprocess once, under the name that comes first.

    Raises:
        ConfigError: The input takes no images, or no preset fits it.
    """
    layout = _layout(spec)
    found: dict[Preprocess, Fitted] = {}
    for name, preset in presets.items():
        fitted = _fitted(preset, spec, layout)
        if fitted is None:
            continue
        first = found.get(fitted)
        if first is None:
            found[fitted] = Fitted(name, fitted, fitted != preset)
        elif first.adapted and fitted == preset:
            found[fitted] = Fitted(name, fitted, False, (first.name, *first.same))
        else:
            found[fitted] = replace(first, same=(*first.same, name))
    if not found:
        raise ConfigError(
            f"no preset fits the input {spec}", hint="write a preprocess: quantlab presets imagenet > my.json"
        )
    return list(found.values())


def _layout(spec: TensorSpec) -> str:
    if len(spec.shape) != 4 or spec.dtype not in (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.uint8)):
        raise ConfigError(f"input '{spec.name}' ({spec}) takes no images", hint="presets are for images: (N, C, H, W)")
    return "nhwc" if spec.shape[3] in (1, 3) and spec.shape[1] not in (1, 3) else "nchw"


def _fitted(preset: Preprocess, spec: TensorSpec, layout: str) -> Preprocess | None:
    """The preset for an input, None where it does not fit."""
    channels, *size = (spec.shape[k] for k in ((1, 2, 3) if layout == "nchw" else (3, 1, 2)))
    if isinstance(channels, int) and channels != (1 if preset.color == "gray" else 3):
        return None
    if spec.dtype == np.uint8 and (preset.mean != (0.0,) or preset.std != (1.0,)):
        return None  # what takes bytes scales them itself
    made = replace(preset, layout=layout, dtype=spec.dtype.name)
    if spec.dtype == np.uint8:
        made = replace(made, scale=1.0)
    height, width = size
    given = preset.crop or preset.size
    if given is None or not isinstance(height, int) or not isinstance(width, int) or given == (height, width):
        return made
    if not 1 / FARTHEST <= max(height, width) / max(given) <= FARTHEST:
        return None
    if preset.crop is None:
        return replace(made, size=(height, width))
    if preset.size is None:
        return replace(made, crop=(height, width))
    side = round(max(height, width) * preset.size[0] / max(given))
    return replace(made, size=(side, side), crop=(height, width))
