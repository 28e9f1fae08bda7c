"""The preprocess of a Hugging Face folder against the processors of transformers, on images of all shapes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("transformers", reason="transformers is not installed")

import transformers

from quantlab.data.hugging_face import PROCESSORS
from quantlab.data.preprocess import Preprocess
from quantlab.data.request import read_preprocess

SIZES = [(375, 500), (427, 640), (640, 427), (333, 500), (257, 300), (301, 301), (480, 1001)]
HALF = [0.5, 0.5, 0.5]


def processor(name: str, **more: Any) -> Any:
    """A processor of transformers that works with Pillow."""
    found = getattr(transformers, f"{name}ImageProcessorPil", None) or getattr(transformers, f"{name}ImageProcessor")
    return found(**more)


def pictures(folder: Path | None) -> list[Image.Image]:
    """Photos where there are some, and noise over a gradient: every size rounds in another way."""
    made = []
    for k, (height, width) in enumerate(SIZES):
        y, x = np.mgrid[0:height, 0:width]
        noise = np.random.default_rng(k).integers(0, 128, (height, width, 3))
        made.append(Image.fromarray(((np.stack([x, y, x + y], -1) + noise) % 256).astype(np.uint8)))
    return made + [Image.open(f).convert("RGB") for f in sorted(folder.glob("*.jpg"))[:8]] if folder else made


@pytest.fixture(scope="module")
def images(request: pytest.FixtureRequest) -> list[Image.Image]:
    folder = Path(os.environ.get("QUANTLAB_TEST_DATA", "")) / "imagenet_sample"
    return pictures(folder if folder.is_dir() else None)


def bound(preprocess: Preprocess, kind: str) -> float:
    """How far two orders of the same steps in float32 can be apart.

    A value is p * scale (exact to half an ulp there, rounded twice here), minus the mean, divided: each step is off by
    half an ulp of what it gives, the subtraction passes on what came before, and the division by std enlarges it.
    EfficientNet has two steps more, and its mean and std are put together here, which is two roundings more.
    """
    ulp = 2.0**-23
    largest = 255 * preprocess.scale + max(abs(m) for m in preprocess.mean)
    return (3 + 3 * (kind == "EfficientNet")) * ulp * largest / min(abs(s) for s in preprocess.std)


CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in PROCESSORS),
    ("ViT", {"resample": 3, "size": {"height": 240, "width": 200}, "image_mean": HALF, "image_std": HALF}),  # Swin
    ("ViT", {"resample": 0}),
    ("ViT", {"resample": 1, "size": {"height": 17, "width": 301}}),
    ("ViT", {"do_normalize": False}),
    ("ViT", {"do_rescale": False}),
    ("ViT", {"do_rescale": False, "do_normalize": False}),
    ("ViT", {"do_resize": False}),
    ("ViT", {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}),
    ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.875}),  # ResNet too
    ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.95, "resample": 2}),
    ("ConvNext", {"size": {"shortest_edge": 223}, "crop_pct": 0.9}),
    ("ConvNext", {"size": {"shortest_edge": 384}}),
    ("DeiT", {"size": {"height": 438, "width": 438}, "crop_size": {"height": 384, "width": 384}}),
    ("DeiT", {"do_center_crop": False}),
    ("Beit", {"do_center_crop": True, "size": {"height": 256, "width": 256}, "resample": 2}),
    ("MobileNetV2", {"crop_size": {"height": 223, "width": 224}, "size": {"shortest_edge": 230}}),
    ("EfficientNet", {"resample": 0, "include_top": False}),
    ("EfficientNet", {"rescale_offset": True, "rescale_factor": 1 / 127.5}),
    ("EfficientNet", {"do_center_crop": True, "resample": 2}),
    ("EfficientNet", {"do_normalize": False}),
    ("Segformer", {"do_reduce_labels": True}),
    ("CLIP", {"size": {"shortest_edge": 224}}),
]


@pytest.mark.parametrize(("name", "more"), CASES, ids=lambda v: v if isinstance(v, str) else "-".join(v) or "default")
def test_preprocess_is_that_of_transformers(
    name: str, more: dict[str, Any], images: list[Image.Image], tmp_path: Path
) -> None:
    theirs = processor(name, **more)
    theirs.save_pretrained(tmp_path)
    ours = read_preprocess(None, tmp_path)
    assert ours is not None
    worst = 0.0
    for image in images:
        want = np.asarray(theirs(image, return_tensors=None)["pixel_values"][0])
        got = ours.apply(image)
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        worst = max(worst, float(np.abs(got.astype(np.float64) - want).max()))
    print(f"{name} {more}: {worst:.2e}, bound {bound(ours, name):.2e}")
    assert worst <= (bound(ours, name) if got.dtype == np.float32 else 0)


OLD: dict[str, dict[str, Any]] = {
    "vit": {"do_normalize": True, "do_resize": True, "image_mean": HALF, "image_std": HALF, "size": 224},
    "swin": {"do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor",
             "image_mean": HALF, "image_std": HALF, "resample": 3, "size": 224},
    "resnet": {"crop_pct": 0.875, "do_normalize": True, "do_resize": True, "image_mean": HALF, "image_std": HALF,
               "feature_extractor_type": "ConvNextFeatureExtractor", "resample": 3, "size": 224},
    "deit": {"crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3,
             "feature_extractor_type": "DeiTFeatureExtractor", "image_mean": HALF, "image_std": HALF, "size": 256},
    "beit": {"crop_size": 224, "do_center_crop": False, "do_normalize": True, "do_resize": True, "resample": 2,
             "feature_extractor_type": "BeitFeatureExtractor", "image_mean": HALF, "image_std": HALF, "size": 224},
    "segformer": {"do_normalize": True, "do_resize": True, "feature_extractor_type": "SegformerFeatureExtractor",
                  "image_mean": HALF, "image_std": HALF, "reduce_labels": True, "resample": 2, "size": 512},
    "clip": {"crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3,
             "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": HALF, "image_std": HALF, "size": 224},
}  # fmt: skip
CLASSES = {"vit": "ViT", "swin": "ViT", "resnet": "ConvNext", "deit": "DeiT", "beit": "Beit", "segformer": "Segformer"}


@pytest.mark.parametrize("model", OLD)
def test_files_of_the_old_form_are_read_as_transformers_reads_them(
    model: str, images: list[Image.Image], tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(OLD[model]))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model}))
    ours = read_preprocess(None, tmp_path)
    assert ours is not None
    values = {k: v for k, v in OLD[model].items() if k not in ("feature_extractor_type", "reduce_labels")}
    theirs = processor(CLASSES.get(model, "CLIP"), **values)
    for image in images[:4]:
        want = np.asarray(theirs(image, return_tensors=None)["pixel_values"][0])
        assert np.abs(ours.apply(image) - want).max() <= bound(ours, model)


def test_classes_do_what_they_did_where_a_file_says_nothing() -> None:
    """What `PROCESSORS` says of a class is what this version of transformers does."""
    for name, known in PROCESSORS.items():
        theirs = processor(name)
        assert getattr(theirs, "default_to_square", True) in (known.square, None), name
        assert known.resample in (None, int(theirs.resample)), name
        if known.crops is not None:
            assert bool(theirs.do_center_crop) is known.crops, name
