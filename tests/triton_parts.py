"""Models, engines and options for the tests of quantlab.triton."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantlab
from engine_double import HostRuntime
from models import conv_net, parse
from quantlab.data import ImageBatches, Preprocess
from quantlab.engines.options import BuildOptions, Profile
from quantlab.triton import TritonOptions
from quantlab.triton.validate import schema

EIGHT = Preprocess("exact", (8, 8), scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1))
ADD = "m (float[N,4] x) => (float[N,4] y) { y = Add (x, x) }"
MODEL = TritonOptions(name="net", batch=8)


def config_of(folder: Path, name: str = "net") -> Any:
    """A configuration as Triton's schema reads it."""
    pytest.importorskip("tritonclient", reason="the extra 'triton' is not installed")
    from google.protobuf import text_format

    message_class, problem = schema()
    assert message_class is not None, problem
    return text_format.Parse((folder / name / "config.pbtxt").read_text(), message_class())


def saved(tmp_path: Path, model: onnx.ModelProto | str, weights: dict[str, np.ndarray] | None = None) -> Path:
    path = tmp_path / "given.onnx"
    onnx.save(parse(model, weights) if isinstance(model, str) else model, path)
    return path


def engine(tmp_path: Path, *batches: tuple[int, int, int], model: onnx.ModelProto | None = None) -> Path:
    profiles = tuple(Profile(*({"image": (size, 3, 8, 8)} for size in three)) for three in batches)
    HostRuntime().build(model or conv_net(), BuildOptions(profiles=profiles)).save(tmp_path / "e.engine")
    return tmp_path / "e.engine"


def qdq(preprocess: Preprocess) -> onnx.ModelProto:
    images = np.random.default_rng(0).integers(0, 256, (8, 9, 12, 3), np.uint8)
    batches = ImageBatches(images, preprocess, input_name="image", batch_size=4)
    return quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), batches, "minmax")).model


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
