"""Data as a user names them: what the data options of all commands mean together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import floats
from quantlab.cli.options import named_paths
from quantlab.data import PRESETS, ArrayBatches, Preprocess
from quantlab.data.request import DataRequest, read_preprocess
from quantlab.errors import ConfigError, DataError


@pytest.fixture
def arrays(tmp_path: Path) -> str:
    np.save(tmp_path / "x.npy", floats(70, 3, 4, 4))
    return str(tmp_path / "x.npy")


@pytest.mark.parametrize(("asked", "fixed", "size"), [(None, None, 32), (8, None, 8), (None, 4, 4), (4, 4, 4)])
def test_batch_size_is_the_models_or_the_users_or_32(
    asked: int | None, fixed: int | None, size: int, arrays: str
) -> None:
    batches = DataRequest(arrays, batch_size=asked).open(["x"], fixed)
    assert isinstance(batches, ArrayBatches)
    assert batches.batch_size == size
    assert [len(batch["x"]) for batch in batches][:2] == [size, size]


def test_batch_size_that_the_model_does_not_take_is_refused(arrays: str) -> None:
    with pytest.raises(ConfigError, match="--batch-size 8 but the model has a fixed batch of 4"):
        DataRequest(arrays, batch_size=8).open(["x"], 4)


def test_batch_size_of_a_script_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("def load_data():\n    return []\n")
    with pytest.raises(ConfigError, match="--batch-size with a script, which makes its batches itself"):
        DataRequest(f"{tmp_path / 'data.py'}:load_data", batch_size=8).open(["x"], None)


def test_limit_and_labels_reach_the_data(arrays: str, tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("\n".join(str(k % 3) for k in range(70)))
    batches = DataRequest(arrays, limit=5, labels=str(tmp_path / "l.txt")).open(["x"], None)
    ((batch, labels),) = batches.labeled()
    assert len(batch["x"]) == 5
    np.testing.assert_array_equal(labels, [0, 1, 2, 0, 1])


def test_bad_images_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b\.png is not an image file"):
        list(DataRequest(str(tmp_path), preset="none").open(["x"], None))
    batches = DataRequest(str(tmp_path), preset="none", skip_bad=True).open(["x"], None)
    assert sum(len(batch["x"]) for batch in batches) == 1


def test_preprocess_is_a_preset_or_a_file_or_none(tmp_path: Path) -> None:
    assert read_preprocess(None, None) is None
    assert read_preprocess("imagenet", None) is PRESETS["imagenet"]
    mine = Preprocess(scale=1 / 255, color="bgr")
    (tmp_path / "p.json").write_text(json.dumps(mine.to_dict()))
    assert read_preprocess(None, tmp_path / "p.json") == mine


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not json", "preprocess file .*p.json is not JSON: Expecting value"),
        ("[]", "preprocess file .*p.json is not a JSON object"),
        ('{"colour": "rgb"}', "colour"),
    ],
)
def test_file_that_holds_no_preprocess_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        read_preprocess(None, tmp_path / "p.json")


def test_preprocess_that_is_named_twice_or_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--preset and --preprocess were both given"):
        read_preprocess("none", tmp_path / "p.json")
    with pytest.raises(ConfigError, match="there is no preset 'imagnet'") as caught:
        read_preprocess("imagnet", None)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean 'imagenet'?")
    assert all(name in caught.value.hint for name in PRESETS)
    with pytest.raises(DataError, match="preprocess file .* cannot be read"):
        read_preprocess(None, tmp_path / "none.json")


def test_files_have_the_name_that_was_given_or_their_stem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named_paths(["a/m.onnx", "mse=b/m.onnx"]) == {"m": Path("a/m.onnx"), "mse": Path("b/m.onnx")}
    monkeypatch.chdir(tmp_path)
    Path("x=y.onnx").write_text("")
    assert named_paths(["x=y.onnx"]) == {"x=y": Path("x=y.onnx")}  # a file of that name
    with pytest.raises(ConfigError, match="two of the files have the same name"):
        named_paths(["a/m.onnx", "b/m.onnx"])
