"""Presets that fit a model, ranked by what FP32 gets right with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from models import conv_net, floats, parse, run
from quantlab.api.presets import try_presets
from quantlab.comparison.preset_ranking import ranking_notices
from quantlab.data import PRESETS, ImageBatches, Preprocess
from quantlab.data.fitting import fitting_presets
from quantlab.errors import ConfigError, DataError
from quantlab.onnx_model import TensorSpec

TRUE = Preprocess("exact", (8, 8), scale=1 / 255, mean=(0.9, 0.1, 0.5), std=(0.1, 0.3, 0.2))
WRONG = Preprocess("exact", (8, 8), color="bgr", mean=(128.0,), std=(0.01,))


def pictures(count: int = 200) -> np.ndarray:
    generator = np.random.default_rng(0)
    colours, noise = generator.integers(40, 216, (count, 1, 1, 3)), generator.integers(-40, 40, (count, 8, 8, 3))
    return (colours + noise).astype(np.uint8)


def images(labelled: bool = True) -> ImageBatches:
    """Labelled with what `conv_net` makes of them under TRUE."""
    stream = ImageBatches(pictures(), TRUE, input_name="image", batch_size=50)
    labels = np.concatenate([run(conv_net(), dict(batch))[0].argmax(1) for batch in stream])
    return ImageBatches(pictures(), WRONG, input_name="image", batch_size=50, labels=labels if labelled else None)


def spec(*shape: int | str, dtype: type = np.float32) -> TensorSpec:
    return TensorSpec("x", np.dtype(dtype), shape)


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        (spec("N", 3, 224, 224), "imagenet", (256, (224, 224), "nchw", False)),
        (spec("N", 224, 224, 3), "imagenet", (256, (224, 224), "nhwc", True)),
        (spec(1, 3, 448, 448), "imagenet", (512, (448, 448), "nchw", True)),
        (spec(1, 3, "h", "w"), "imagenet", (256, (224, 224), "nchw", False)),
        (spec(1, 3, 299, 299), "torchvision-inception-v3", (342, (299, 299), "nchw", False)),
        (spec(1, 3, 320, 320), "yolo", (320, None, "nchw", True)),
    ],
)
def test_presets_take_size_and_layout_of_the_model(given: TensorSpec, name: str, expected: tuple[object, ...]) -> None:
    found = {fitted.name: fitted for fitted in fitting_presets(given)}[name]
    p = found.preprocess
    assert (p.size[0], p.crop, p.layout, found.adapted) == expected
    shape = p.apply(Image.new("RGB", (700, 600))).shape
    wanted = [d for d in given.shape[1:] if isinstance(d, int)]
    assert [d for d, w in zip(shape, given.shape[1:], strict=True) if isinstance(w, int)] == wanted


def test_no_two_of_the_presets_that_are_tried_are_the_same() -> None:
    for given in (spec(1, 3, 224, 224), spec(1, 3, 32, 32), spec(1, 1, 28, 28), spec(1, 3, 300, 300)):
        tried = fitting_presets(given)
        assert len({fitted.preprocess for fitted in tried}) == len(tried)
        names = [name for fitted in tried for name in (fitted.name, *fitted.same)]
        assert len(set(names)) == len(names)
    gray = {fitted.name for fitted in fitting_presets(spec(1, 1, 28, 28))}
    assert gray == {"fashion-mnist", "mnist"}
    assert "imagenet" not in {fitted.name for fitted in fitting_presets(spec(1, 3, 32, 32))}  # 32 says nothing of 224


def test_presets_crop_no_more_than_they_resize_to() -> None:
    for name, preset in PRESETS.items():
        if preset.crop is not None:
            assert preset.size is not None and preset.size[0] >= preset.crop[0], name


@pytest.mark.parametrize("given", [spec("N", 128), spec("N", 3, 8, 8, dtype=np.int64), spec("N", 7, 8, 8)])
def test_input_that_takes_no_images_is_refused(given: TensorSpec) -> None:
    with pytest.raises(ConfigError, match="takes no images|no preset fits"):
        fitting_presets(given)


def test_preprocess_that_the_labels_were_made_with_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    presets = {"far": WRONG, "true": TRUE, "none": Preprocess()}
    monkeypatch.setattr("quantlab.api.presets.fitting_presets", lambda s: fitting_presets(s, presets))
    scores = try_presets(conv_net(), images(), WRONG)
    assert (scores[0].name, scores[0].top1) == ("true", 1.0)
    (notice,) = ranking_notices(scores, WRONG)
    assert notice.startswith(f"'far' is {100 * (1 - next(s for s in scores if s.name == 'far').top1):.1f} points of")
    assert "below 'true' on 200 images" in notice
    assert ranking_notices(scores, TRUE) == ranking_notices(scores, None) == []


def test_preset_that_fails_is_last_and_one_without_labels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    presets = {"large": Preprocess(crop=(8, 9)), "true": TRUE}
    monkeypatch.setattr("quantlab.api.presets.fitting_presets", lambda s: fitting_presets(s, presets))
    scores = try_presets(conv_net(), images(), Preprocess("exact", (8, 8), crop=(9, 9)))
    assert [bool(score.failed) for score in scores] == [False, False, True]
    assert "crop" in scores[-1].failed
    with pytest.raises(ConfigError, match="needs labels"):
        try_presets(conv_net(), images(labelled=False))
    plain = parse("m (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu (x) }")
    with pytest.raises(ConfigError, match="no output of class scores"):
        try_presets(plain, images())
    twice = "m (float[N,3,8,8] image) => (float[M,192] y) { f = Flatten (image) y = Concat <axis = 0> (f, f) }"
    with pytest.raises(DataError, match="no row per image"):
        try_presets(parse(twice), images())


def test_check_data_tries_presets(cli: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(conv_net(), "m.onnx")
    np.savez("d.npz", x=pictures(), y=images().labels)
    Path("true.json").write_text(json.dumps(TRUE.to_dict()))
    Path("wrong.json").write_text(json.dumps(WRONG.to_dict()))
    monkeypatch.setattr("quantlab.api.presets.fitting_presets", lambda s: fitting_presets(s, {"true": TRUE}))
    check = ("check-data", "m.onnx", "--data", "d.npz:x", "--try-presets")
    result = cli(*check, "--labels", "d.npz:y", "--preprocess", "wrong.json")
    assert result.code == 0 and "best: --preset true" in result.out
    assert "warning: 'given' is" in result.err and "below 'true' on 200 images" in result.err
    rows = json.loads(cli(*check, "--labels", "d.npz:y", "--json").out)
    assert (rows[0]["preset"], rows[0]["top1"], rows[0]["samples"]) == ("true", 1.0, 200)
    assert "needs labels" in cli(*check).err
    np.save("floats.npy", floats(4, 3, 8, 8))
    result = cli("check-data", "m.onnx", "--data", "floats.npy", "--labels", "d.npz:y")
    assert result.code == 2 and "--labels does nothing here" in result.err
