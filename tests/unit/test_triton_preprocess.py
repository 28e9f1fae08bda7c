"""The preprocess of an ensemble, as Triton's Python backend runs it. The oracle is quantlab's own stream of images."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models import conv_net
from quantlab.data import ImageBatches, Preprocess
from quantlab.triton import Ensemble, write_repository
from triton_parts import EIGHT, MODEL, config_of, qdq, saved


class _Tensor:
    """As that of `triton_python_backend_utils`."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[np.ndarray], Any]:
    """The model.py of a folder as Triton's Python backend runs it: images to a response."""
    backend = types.ModuleType("triton_python_backend_utils")
    for name, value in {
        "Tensor": _Tensor,
        "TritonError": str,
        "InferenceResponse": lambda output_tensors, error=None: SimpleNamespace(tensors=output_tensors, error=error),
        "get_input_tensor_by_name": lambda request, name: next(t for t in request if t.name == name),
    }.items():
        setattr(backend, name, value)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    monkeypatch.syspath_prepend(str(folder / "1"))
    spec = importlib.util.spec_from_file_location("served_model", folder / "1" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    model.initialize({"model_config": json.dumps({"input": [{"name": "images"}], "output": [{"name": "image"}]})})
    for name in [name for name in sys.modules if name.startswith("quantlab_preprocess")]:
        monkeypatch.delitem(sys.modules, name)
    return lambda images: model.execute([[_Tensor("images", images)]])[0]


@pytest.mark.parametrize(
    "preprocess",
    [
        EIGHT,
        replace(EIGHT, resize="letterbox", size=(8, 8), color="bgr"),
        replace(EIGHT, resize="short_side", size=(10, 10), crop=(8, 8), interpolation="bicubic"),
    ],
    ids=lambda p: p.resize,
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_preprocess_model_makes_what_quantlab_makes_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preprocess: Preprocess, channels: int
) -> None:
    write_repository(saved(tmp_path, conv_net()), tmp_path / "r", replace(MODEL, ensemble=Ensemble(preprocess)))
    images = np.random.default_rng(1).integers(0, 256, (3, 11, 9, channels), np.uint8)
    (want,) = ImageBatches(images, preprocess, input_name="image", batch_size=3)
    response = served(tmp_path / "r" / "net_preprocess", monkeypatch)(images)
    got = response.tensors[0].array
    assert (response.error, response.tensors[0].name, got.dtype) == (None, "image", np.float32)
    assert got.tobytes() == want["image"].tobytes()


def test_images_that_cannot_be_used_are_an_error_of_their_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_repository(saved(tmp_path, conv_net()), tmp_path / "r", replace(MODEL, ensemble=Ensemble(EIGHT)))
    ask = served(tmp_path / "r" / "net_preprocess", monkeypatch)
    assert "image array is uint8 (8, 8, 2), expected" in ask(np.zeros((1, 8, 8, 2), np.uint8)).error
    assert "there are no images" in ask(np.zeros((0, 8, 8, 3), np.uint8)).error


def test_preprocess_model_needs_numpy_and_pillow_only(tmp_path: Path) -> None:
    write_repository(saved(tmp_path, conv_net()), tmp_path / "r", replace(MODEL, ensemble=Ensemble(EIGHT)))
    script = (
        "import sys, types; sys.modules.update(dict.fromkeys(('quantlab', 'onnx', 'onnxruntime')));"
        "sys.modules['triton_python_backend_utils'] = types.ModuleType('x'); import model; print(model.Preprocess())"
    )
    folder = tmp_path / "r" / "net_preprocess" / "1"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.stdout.startswith("Preprocess("), done.stderr


def test_ensemble_connects_the_recorded_preprocess_with_the_network(tmp_path: Path) -> None:
    written = write_repository(saved(tmp_path, qdq(EIGHT)), tmp_path / "r", replace(MODEL, ensemble=Ensemble()))
    recorded = json.loads((tmp_path / "r/net_preprocess/1/preprocess.json").read_text())
    assert Preprocess.from_dict(recorded) == EIGHT
    assert (tmp_path / "r/net_ensemble/1").is_dir()
    assert "--shape=images:8,8,3" in written.models[2].perf
    config = config_of(tmp_path / "r", "net_ensemble")
    first, second = config.ensemble_scheduling.step
    assert (config.platform, config.max_batch_size, config.input[0].name) == ("ensemble", 8, "images")
    assert (first.model_name, second.model_name) == ("net_preprocess", "net")
    assert dict(first.input_map) == {"images": "images"}
    assert first.output_map["image"] == second.input_map["image"]
    assert dict(second.output_map) == {"logits": "logits"}
    made = config_of(tmp_path / "r", "net_preprocess")
    assert (made.backend, list(made.output[0].dims), list(made.input[0].dims)) == ("python", [3, 8, 8], [-1, -1, -1])


def test_other_preprocess_than_that_of_the_calibration_is_told(tmp_path: Path) -> None:
    other = replace(EIGHT, color="bgr")
    written = write_repository(saved(tmp_path, qdq(EIGHT)), tmp_path / "r", replace(MODEL, ensemble=Ensemble(other)))
    assert any("color is bgr, there rgb" in fact for fact in written.facts)
