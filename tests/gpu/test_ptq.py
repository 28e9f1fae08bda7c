"""From images to the engines of the model that ships, on a real GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tensorrt")

from quantlab.data.sample import unpack_sample
from quantlab.engines.engine import Engine


def test_engines_of_what_ships_are_built_and_compared(cli: Callable, timing_cache: Path, tmp_path: Path) -> None:
    unpack_sample(tmp_path / "s")
    done = cli(
        "ptq", tmp_path / "s/model.onnx", "--data", tmp_path / "s/test", "--preset", "fashion-mnist", "--limit", "128",
        "--timing-cache", timing_cache, "--builder-optimization-level", "1", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "out/engines/report.json").read_text())
    rows = {row["name"]: row for row in document["comparison"]["models"]}
    assert set(rows) == {"fp32", "trt:fp16", "trt:qdq", "ort:qdq"}
    assert not any(row["failed"] for row in rows.values())
    judged = json.loads((tmp_path / "out/report.json").read_text())["comparison"]
    (shipped,) = [row for row in judged["models"] if row["name"] == judged["best"]]
    assert rows["ort:qdq"]["sqnr_db"] == pytest.approx(shipped["sqnr_db"], abs=0.01)
    assert rows["trt:qdq"]["sqnr_db"] == pytest.approx(rows["ort:qdq"]["sqnr_db"], abs=1)
    for name in ("fp16", "model"):
        assert Engine.load(tmp_path / f"out/{name}.engine").record.tensorrt
