"""The preprocess of a Hugging Face folder against the processors of transformers, on images of all shapes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

pytest.importorskip("transformers", reason="transformers is not installed")

import transformers

from conftest import CliResult
from quantlab.data.hugging_face import PROCESSORS
from quantlab.data.preprocess import Preprocess
from quantlab.data.request import read_preprocess
from quantlab.ort import Session

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
        assert getattr(theirs, "default_to_square", known.square) in (known.square, None), name
        assert known.resample in (None, int(theirs.resample)), name
        if known.crops in ("yes", "no"):
            assert bool(getattr(theirs, "do_center_crop", False)) is (known.crops == "yes"), name


# --- whole folders, as optimum exports them


def tiny(name: str) -> Any:
    """A configuration of a model that fits a test: few layers, random weights."""
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    stages = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}
    made = {
        "ViT": lambda: transformers.ViTConfig(image_size=32, patch_size=8, **small),
        "DeiT": lambda: transformers.DeiTConfig(image_size=32, patch_size=8, **small),
        "Beit": lambda: transformers.BeitConfig(image_size=32, patch_size=8, **small),
        "Swin": lambda: transformers.SwinConfig(image_size=32, patch_size=2, embed_dim=16, depths=[1, 1],
                                                num_heads=[2, 2], window_size=4),
        "ResNet": lambda: transformers.ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1]),
        "ConvNext": lambda: transformers.ConvNextConfig(**stages),
        "MobileNetV2": lambda: transformers.MobileNetV2Config(image_size=32, depth_multiplier=0.35),
        "EfficientNet": lambda: transformers.EfficientNetConfig(image_size=32, width_coefficient=0.25,
                                                                depth_coefficient=0.25, hidden_dim=320),
        "Segformer": lambda: transformers.SegformerConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16],
                                                          num_attention_heads=[1, 1, 1, 1], decoder_hidden_size=16),
    }[name]()  # fmt: skip
    made.id2label = {k: f"kind {k}" for k in range(7)}
    made.label2id = {name: k for k, name in made.id2label.items()}
    return made


SMALL: dict[str, dict[str, Any]] = {
    "ResNet": {"size": {"shortest_edge": 32}, "crop_pct": 0.875},
    "ConvNext": {"size": {"shortest_edge": 32}, "crop_pct": 0.875},
    "MobileNetV2": {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
    "DeiT": {"size": {"height": 36, "width": 36}, "crop_size": {"height": 32, "width": 32}},
    "Beit": {"size": {"height": 32, "width": 32}, "do_center_crop": False},
}
"""Sizes of the processors that are no square of 32."""


@pytest.mark.parametrize(
    "name", ["ViT", "ResNet", "ConvNext", "MobileNetV2", "Swin", "EfficientNet", "DeiT", "Beit", "Segformer"]
)
@pytest.mark.filterwarnings("ignore")  # of torch's exporter
def test_folder_that_optimum_exports_goes_in(
    name: str, images: list[Image.Image], tmp_path: Path, cli: Callable[..., CliResult], no_plots: None
) -> None:
    export = pytest.importorskip("optimum.exporters.onnx", reason="optimum is not installed").main_export
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForImageClassification")(tiny(name)).eval()
    model.save_pretrained(tmp_path / "made")
    kind = {"Swin": "ViT", "ResNet": "ConvNext"}.get(name, name)
    theirs = processor(kind, **SMALL.get(name, {"size": {"height": 32, "width": 32}}))
    theirs.save_pretrained(tmp_path / "made")
    folder = tmp_path / "onnx"
    export(str(tmp_path / "made"), str(folder), task="image-classification")
    assert (folder / "preprocessor_config.json").is_file()
    for k, image in enumerate(images):
        (tmp_path / "data" / f"kind {k % 7}").mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "data" / f"kind {k % 7}" / f"{k:02}.png")

    ours = read_preprocess(None, folder)
    assert ours is not None
    pixels = np.stack([ours.apply(image) for image in images[:4]])
    with torch.no_grad():
        inputs = torch.tensor(np.stack(theirs(images[:4], return_tensors=None)["pixel_values"]))
        wanted = model(inputs).logits.numpy()
    got = Session(onnx.load(folder / "model.onnx")).run({"pixel_values": pixels})["logits"]
    assert np.abs(got - wanted).max() <= 1e-3 * max(1.0, float(np.abs(wanted).max()))

    data = ("--data", tmp_path / "data", "--preprocess", folder)
    for command in (
        ("calibrate", folder / "model.onnx", *data, "-o", tmp_path / "t.json"),
        ("quantize", folder / "model.onnx", "--table", tmp_path / "t.json", "-o", tmp_path / "q.onnx"),
        ("compare", folder / "model.onnx", tmp_path / "q.onnx", *data, "--classes", folder / "config.json",
         "-o", tmp_path / "report"),
    ):  # fmt: skip
        done = cli(*command)
        assert done.code in (0, 3), done.err
    assert "another preprocess" not in done.err
    assert "kind 3" in (tmp_path / "report" / "report.json").read_text()
