"""The page on DALI, followed from top to bottom with a pipeline over the sample."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("nvidia.dali", reason="the extra 'dali' is not installed")


import quantlab
from conftest import CliResult
from dali_pipelines import MARKS
from quantlab.data.sample import PARTS, read_sample, sample_folder

pytestmark = MARKS
PAGE = Path(__file__).parents[2] / ".docs/pages/how-to/dali.md"
Cli = Callable[..., CliResult]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who follows the page, with some images of the sample."""
    for part in PARTS:
        found = read_sample(part)
        for file, image in zip(found.files[:64], found.images[:64], strict=True):
            (tmp_path / "sample" / part / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "sample" / part / file)
    (tmp_path / "sample" / "model.onnx").write_bytes((sample_folder() / "model.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def blocks(language: str) -> Iterator[str]:
    return iter(re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE))


def test_page_runs_as_it_is_written(reader: Path, cli: Cli) -> None:
    data, python = blocks("py")
    (reader / "dali_data.py").write_text(data)
    (commands,) = blocks("sh")
    for line in commands.replace("\\\n", " ").splitlines():
        code, out, err = cli(*shlex.split(line)[1:])
        assert code == 0, (line, err)
    assert "top-1" in out
    names: dict[str, Any] = {}
    exec(compile(python, str(PAGE), "exec"), names)
    assert (
        json.loads(Path("table.json").read_text())["provenance"]["preprocess"] == names["table"].provenance.preprocess
    )
    assert names["comparison"].results[1].top1 > 0.8


def test_pages_pipeline_gives_the_presets_numbers(reader: Path) -> None:
    data, _ = blocks("py")
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(data, str(PAGE), "exec"), names)
    got = np.concatenate([b["image"] for b in names["load_data"]()])
    folder = reader / "sample" / "calibration"
    want = np.concatenate(
        [quantlab.PRESETS["fashion-mnist"].apply(Image.open(f))[None] for f in sorted(folder.rglob("*.png"))]
    )
    # both round a handful of times; the numerator may cancel, so the bound is of the pixel's size, 255 / 90
    assert np.abs(got - want).max() <= 4 * 2.0**-24 * 255 / 90
