"""The preprocess of a model folder of Hugging Face: `preprocessor_config.json`, as transformers and optimum write it.

Read as transformers' processors over Pillow work (the ones called `...Fast` resize in torchvision, which differs from
Pillow by a gray level here and there). What a `Preprocess` cannot say is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantlab.data.preprocess import Preprocess
from quantlab.errors import ConfigError
from quantlab.files import is_file, read_text
from quantlab.nearest import nearest
from quantlab.strict_json import parse_json

FILE = "preprocessor_config.json"
_HINT = "write the preprocess as a JSON file of quantlab, see quantlab presets NAME"


@dataclass(frozen=True, slots=True)
class Processor:
    """What a class of transformers does where its file does not say.

    Attributes:
        square: A size of one number is a square, else the shorter side.
        crops: Whether it crops where the file does not say: "yes", "no", "never" whatever the file says, or "" where
            that has changed between versions.
        resample: Its filter, None where that has changed between versions.
        crop_pct: Whether it crops by a share of its size, below 384 pixels.
        efficient: Whether it has the two further steps of EfficientNet.
    """

    square: bool = True
    crops: str = "no"
    resample: int | None = 3
    crop_pct: bool = False
    efficient: bool = False


PROCESSORS: Mapping[str, Processor] = {
    "ViT": Processor(resample=2),
    "DeiT": Processor(crops="yes"),
    "Beit": Processor(crops=""),
    "ConvNext": Processor(square=False, resample=None, crop_pct=True),
    "EfficientNet": Processor(resample=None, efficient=True),
    "MobileNetV1": Processor(square=False, crops="yes", resample=2),
    "MobileNetV2": Processor(square=False, crops="yes", resample=2),
    "Segformer": Processor(crops="never", resample=2),
    "CLIP": Processor(square=False, crops="yes"),
    "Bit": Processor(square=False, crops="yes"),
    "Siglip": Processor(square=False),
    "Pvt": Processor(resample=None),
}
"""By the names of their classes, without ImageProcessor or FeatureExtractor."""
_MODELS = {
    "vit": "ViT", "swin": "ViT", "swinv2": "ViT", "deit": "DeiT", "beit": "Beit", "data2vec-vision": "Beit",
    "convnext": "ConvNext", "convnextv2": "ConvNext", "resnet": "ConvNext", "regnet": "ConvNext", "cvt": "ConvNext",
    "efficientnet": "EfficientNet", "mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2",
    "segformer": "Segformer", "clip": "CLIP", "dinov2": "Bit", "bit": "Bit", "siglip": "Siglip", "pvt": "Pvt",
}  # fmt: skip
"""`model_type` in config.json -> the class, for files that name none."""
_LARGEST = 2**16
"""Pixels of a side that nobody resizes to."""
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_OF_NO_PIXEL = {
    "image_processor_type", "feature_extractor_type", "processor_class", "_valid_processor_keys", "return_tensors",
    "disable_grouping", "device", "do_convert_rgb", "do_reduce_labels", "reduce_labels", "input_data_format",
    "_name_or_path",
}  # fmt: skip
_READ = {
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std", "crop_pct", "rescale_offset", "include_top", "data_format",
}  # fmt: skip


def is_processor(values: Mapping[str, Any]) -> bool:
    """Whether a JSON object is the configuration of a processor, not a preprocess of quantlab."""
    return bool(values.keys() & {"image_processor_type", "feature_extractor_type", "do_resize", "do_normalize"})


def processor_file(folder: Path) -> Path:
    """Where a model folder has its preprocess; ConfigError if it has none."""
    if not is_file(folder / FILE):
        raise ConfigError(
            f"folder {folder} has no {FILE}", hint="give the folder of a Hugging Face model, or a JSON file"
        )
    return folder / FILE


def preprocess_of(values: Mapping[str, Any], file: Path) -> Preprocess:
    """Read the configuration of a processor.

    Args:
        values: What is in the file.
        file: Where it is; `config.json` beside it names the model where this one names no class.

    Returns:
        The same steps.

    Raises:
        ConfigError: A field is missing, of the wrong kind, or says what a `Preprocess` cannot.
    """
    config = _Config(values, file)
    kind = config.kind()
    config.refuse_others()
    resize = _resize(config, kind)
    crop = _crop(config, kind)
    if "crop" in resize and crop is not None and crop != resize["crop"]:
        raise config.cannot(f"it crops twice, to {resize['crop']} and {crop}")
    return Preprocess(**{"crop": crop, "rounding": "down"} | resize | _scaling(config, kind))


def _resize(config: _Config, kind: Processor) -> dict[str, Any]:
    """The arguments of a preprocess for the size."""
    if not config.flag("do_resize", True):
        return {}
    resample = config.number("resample", kind.resample)
    if resample not in _FILTERS:
        raise config.cannot(f"resample {resample} is a filter that quantlab has not")
    filtered = {"interpolation": _FILTERS[int(resample)]}
    height, width = config.size("size", kind.square)
    if not kind.crop_pct:
        return filtered | _sized(height, width)
    if width is not None:
        raise config.cannot(f"size {config.values['size']!r} is no shortest_edge, which its class needs")
    if height >= 384:
        return filtered | _sized(height, height)
    share = config.number("crop_pct", None)
    if not height / _LARGEST < share <= 1:
        raise config.cannot(f"crop_pct {share} is no share of an image of {height} pixels, expected (0, 1]")
    return filtered | _sized(int(height / share), None) | {"crop": (height, height)}


def _sized(height: int, width: int | None) -> dict[str, Any]:
    if width is None:
        return {"resize": "short_side", "size": (height, height)}
    return {"resize": "exact", "size": (height, width)}


def _crop(config: _Config, kind: Processor) -> tuple[int, int] | None:
    if not kind.crops and config.values.get("do_center_crop") is None:
        raise config.cannot("do_center_crop is not there, and versions of transformers differ in what it then is")
    if kind.crops == "never" or not config.flag("do_center_crop", kind.crops == "yes"):
        return None
    height, width = config.size("crop_size", True)
    return height, height if width is None else width


def _scaling(config: _Config, kind: Processor) -> dict[str, Any]:
    """The arguments of a preprocess for the values."""
    rescales, normalizes = config.flag("do_rescale", True), config.flag("do_normalize", True)
    scale = config.number("rescale_factor", 1 / 255) if rescales else 1.0
    if not scale:
        raise config.cannot("rescale_factor is 0: every pixel would be the same")
    mean = config.numbers("image_mean") if normalizes else (0.0,)
    std = config.numbers("image_std") if normalizes else (1.0,)
    if kind.efficient:
        if rescales and config.flag("rescale_offset", False):
            mean = tuple(value + 1 for value in mean)  # (x * scale - 1 - mean) / std
        if config.flag("include_top", True):
            further = config.numbers("image_std")  # divided by a second time, or for the first time
            std = tuple(a * b for a, b in zip(std * (len(further) // len(std)), further, strict=True))
            normalizes = True
    dtype = "float32" if rescales or normalizes else "uint8"
    return {"scale": scale, "mean": mean, "std": std, "dtype": dtype}


class _Config:
    """The fields of a file, with errors that name them."""

    def __init__(self, values: Mapping[str, Any], file: Path) -> None:
        self.values, self.file = values, file

    def cannot(self, why: str) -> ConfigError:
        return ConfigError(f"{self.file}: {why}", hint=_HINT)

    def kind(self) -> Processor:
        """The class of the processor."""
        name = self.values.get("image_processor_type") or self.values.get("feature_extractor_type")
        if name is None:
            beside = self.file.parent / "config.json"
            try:
                model = parse_json(read_text(beside, "model configuration")) if is_file(beside) else {}
            except ValueError as error:
                raise ConfigError(f"{beside} is not JSON: {error}", hint=_HINT) from error
            found = model.get("model_type") if isinstance(model, dict) else None
            name = _MODELS.get(found) if isinstance(found, str) else None
            if name is None:
                raise self.cannot(f"it names no image_processor_type, and model_type in config.json is {found!r}")
        plain = str(name).removesuffix("Pil").removesuffix("Fast")
        plain = plain.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
        if plain not in PROCESSORS:
            question = nearest(plain, PROCESSORS)
            raise ConfigError(
                f"{self.file}: {str(name)[:60]} is a class whose steps quantlab does not know",
                hint=f"{question}known: {', '.join(PROCESSORS)}; else {_HINT}",
            )
        return PROCESSORS[plain]

    def refuse_others(self) -> None:
        """ConfigError for a step that nobody here knows."""
        for name, value in self.values.items():
            if name not in _OF_NO_PIXEL | _READ and value not in (None, False):
                raise self.cannot(f"{name[:40]} {str(value)[:40]!r} is a step that quantlab does not know")
        if self.values.get("data_format") not in (None, "channels_first"):
            raise self.cannot(f"data_format is {str(self.values['data_format'])[:40]!r}, expected channels_first")

    def flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name)
        if value is not None and type(value) is not bool:
            raise self.cannot(f"{name} is {str(value)[:40]!r}, expected true or false")
        return default if value is None else value

    def number(self, name: str, default: float | None) -> float:
        value = self.values.get(name)
        value = default if value is None else value
        if type(value) not in (int, float):
            raise self.cannot(f"{name} is {str(value)[:40]!r}, expected a number")
        assert isinstance(value, (int, float))
        return value

    def numbers(self, name: str) -> tuple[float, ...]:
        value = self.values.get(name)
        found = value if isinstance(value, list) else [value]
        if not found or any(type(one) not in (int, float) for one in found):
            raise self.cannot(f"{name} is {str(value)[:40]!r}, expected numbers")
        return tuple(found)

    def size(self, name: str, square: bool) -> tuple[int, int | None]:
        """(height, width), or (shorter side, None)."""
        value = self.values.get(name)
        edges = value if isinstance(value, dict) else {}
        edges = {key: edge for key, edge in edges.items() if edge is not None}
        if type(value) is int:
            found: tuple[Any, ...] = (value, value if square else None)
        elif isinstance(value, list) and len(value) == 2:
            found = tuple(value)
        elif set(edges) == {"height", "width"}:
            found = (edges["height"], edges["width"])
        elif set(edges) == {"shortest_edge"}:
            found = (edges["shortest_edge"], None)
        else:
            raise self.cannot(f"{name} is {str(value)[:60]!r}, expected height and width, or shortest_edge alone")
        if any(edge is not None and (type(edge) is not int or edge < 1) for edge in found):
            raise self.cannot(f"{name} is {str(value)[:60]!r}, expected whole numbers of pixels")
        return found[0], found[1]
