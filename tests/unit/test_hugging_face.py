"""The preprocess in the folder of a Hugging Face model; tests/ways/test_transformers.py asks transformers itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import quantlab
from conftest import CliResult
from models import conv_net
from quantlab.calibration.made_from import preprocess_notices
from quantlab.data.preprocess import Preprocess
from quantlab.data.request import read_preprocess
from quantlab.errors import ConfigError

VIT: dict[str, Any] = {
    "do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.4, 0.3],
    "image_processor_type": "ViTImageProcessor", "image_std": [0.2, 0.3, 0.4], "resample": 3,
    "rescale_factor": 0.00392156862745098, "size": {"height": 8, "width": 8},
}  # fmt: skip


def written(folder: Path, values: dict[str, Any], config: dict[str, Any] | None = None) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("kind", ["ViTImageProcessor", "ViTImageProcessorFast", "ViTFeatureExtractor"])
def test_folder_and_file_are_read(kind: str, tmp_path: Path) -> None:
    written(tmp_path, VIT | {"image_processor_type": kind})
    wanted = Preprocess(
        "exact", (8, 8), "bicubic", scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), rounding="down"
    )
    assert read_preprocess(None, tmp_path) == wanted
    assert read_preprocess(None, tmp_path / "preprocessor_config.json") == wanted
    assert Preprocess.from_dict(wanted.to_dict()) == wanted


def test_rounding_down_takes_the_pixel_before_the_middle() -> None:
    pixels = np.arange(7 * 10, dtype=np.uint8).reshape(7, 10)
    image = Image.fromarray(np.stack([pixels] * 3, -1))
    up = Preprocess(crop=(4, 5), layout="nhwc", dtype="uint8").apply(image)
    down = Preprocess(crop=(4, 5), layout="nhwc", dtype="uint8", rounding="down").apply(image)
    assert (up[0, 0, 0], down[0, 0, 0]) == (pixels[2, 3], pixels[1, 2])
    wide = Preprocess("short_side", (4, 4), rounding="down").apply(image)
    assert wide.shape == (3, 4, 5)  # 5.71
    with pytest.raises(ConfigError, match="preprocess rounding is 'up'.*nearest, down"):
        Preprocess(rounding="up")


def test_rounding_is_told_where_it_differs_and_not_written_where_it_is_the_default() -> None:
    old, new = Preprocess(crop=(4, 4)).to_dict(), Preprocess(crop=(4, 4), rounding="down").to_dict()
    assert "rounding" not in old
    (notice,) = preprocess_notices(old, new)
    assert "rounding is down, there nearest" in notice
    assert preprocess_notices(old, old) == preprocess_notices(new, new) == []


CONVNEXT = VIT | {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.875}


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (VIT | {"resample": 4}, "resample 4 is a filter"),
        ({k: v for k, v in CONVNEXT.items() if k != "resample"}, "resample is 'None', expected a number"),
        ({k: v for k, v in CONVNEXT.items() if k != "crop_pct"}, "crop_pct is 'None', expected a number"),
        (CONVNEXT | {"crop_pct": 0}, r"crop_pct 0 is no share of an image of 224 pixels, expected \(0, 1\]"),
        (CONVNEXT | {"crop_pct": 1e-320}, "crop_pct 1e-320 is no share"),
        (VIT | {"rescale_factor": 0}, "rescale_factor is 0: every pixel would be the same"),
        (CONVNEXT | {"size": {"height": 9, "width": 9}}, "is no shortest_edge, which its class needs"),
        (CONVNEXT | {"do_center_crop": True, "crop_size": 200}, r"crops twice, to \(224, 224\) and \(200, 200\)"),
        (VIT | {"image_processor_type": "LevitImageProcessor"}, "LevitImageProcessor is a class .*known: ViT, DeiT"),
        (VIT | {"image_processor_type": 7}, "7 is a class whose steps"),
        ({k: v for k, v in VIT.items() if k != "image_processor_type"}, "names no image_processor_type.*None"),
        (VIT | {"do_pad": True}, "do_pad 'True' is a step that quantlab does not know"),
        (VIT | {"do_flip_channel_order": True}, "do_flip_channel_order 'True' is a step"),
        (VIT | {"data_format": "channels_last"}, "data_format is 'channels_last'"),
        (VIT | {"size": {"shortest_edge": 8, "longest_edge": 9}}, "size is .*expected height and width"),
        (VIT | {"size": {"height": 8.5, "width": 8}}, "size is .*expected whole numbers of pixels"),
        (VIT | {"size": None}, "size is 'None'"),
        (VIT | {"do_resize": "yes"}, "do_resize is 'yes', expected true or false"),
        (VIT | {"image_mean": None}, "image_mean is 'None', expected numbers"),
        (VIT | {"image_mean": ["a"]}, "image_mean is .*expected numbers"),
        (VIT | {"image_std": [1.0, 1.0]}, "std has 2 values for 3 channel"),
        (VIT | {"rescale_factor": "1/255"}, "rescale_factor is '1/255', expected a number"),
        (VIT | {"do_center_crop": True}, "crop_size is 'None'"),
        (VIT | {"image_processor_type": "BeitImageProcessor"}, "do_center_crop is not there, and versions .* differ"),
    ],
)  # fmt: skip
def test_what_a_preprocess_cannot_say_is_refused_by_its_name(
    values: dict[str, Any], match: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=match):
        read_preprocess(None, written(tmp_path, values))


def test_folder_without_the_file_and_a_broken_configuration_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"folder .* has no preprocessor_config\.json"):
        read_preprocess(None, tmp_path)
    bare = {k: v for k, v in VIT.items() if k != "image_processor_type"}
    assert read_preprocess(None, written(tmp_path, bare, {"model_type": "swin"})) is not None
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is not JSON"):
        read_preprocess(None, tmp_path)


def test_folder_of_a_model_goes_in_with_its_preprocess_and_its_class_names(
    tmp_path: Path, cli: Callable[..., CliResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "vit"
    folder.mkdir()
    names = {str(k): f"kind {k}" for k in range(5)}
    written(folder, VIT, {"model_type": "vit", "id2label": names})
    onnx.save(conv_net(), folder / "model.onnx")
    for k in range(5):
        (tmp_path / "data" / f"kind {k}").mkdir(parents=True)
        pixels = np.random.default_rng(k).integers(0, 256, (12, 20, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"kind {k}" / "a.png")
    data = ["--data", "data", "--preprocess", "vit"]
    assert cli("calibrate", "vit/model.onnx", *data, "-o", "vit/table.json").code == 0
    assert (
        quantlab.CalibrationTable.load("vit/table.json").provenance.preprocess
        == read_preprocess(None, folder).to_dict()
    )  # type: ignore[union-attr]
    assert cli("quantize", "vit/model.onnx", "--table", "vit/table.json", "-o", "q.onnx").code == 0
    done = cli("compare", "vit/model.onnx", "q.onnx", *data, "--classes", "vit/config.json", "-o", "report", "--json")
    assert done.code == 0, done.err
    assert "kind 3" in (tmp_path / "report" / "report.json").read_text()
    assert "another preprocess" not in done.err
