"""What the tests of the commands of engines share: TensorRT's part is played by the host double."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from engine_double import HostRuntime
from models import conv_net, floats, image_batches, quantized, run
from quantlab.calibration import CalibrationTable, TrtCache
from quantlab.cli import engine_runtime
from quantlab.engines import measure

Cli = Callable[..., Any]
IMAGES = floats(20, 3, 8, 8)
LABELS = run(conv_net(), {"image": IMAGES})[0].argmax(1)

IMAGES = floats(20, 3, 8, 8)
LABELS = run(conv_net(), {"image": IMAGES})[0].argmax(1)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> HostRuntime:
    """What the commands get in place of TensorRT."""
    double = HostRuntime()
    monkeypatch.setattr(engine_runtime, "runtime", lambda: double)
    monkeypatch.setattr(measure, "BUSY_WARM_UP_MS", 1.0)
    return double


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Models with a dynamic and a fixed batch of 6, 20 images with labels: the last batch of 6 is short."""
    onnx.save(conv_net(), tmp_path / "m.onnx")
    onnx.save(conv_net("6"), tmp_path / "fixed.onnx")
    onnx.save(quantized(conv_net("6"), image_batches(1)).model, tmp_path / "q.onnx")
    np.save(tmp_path / "data.npy", IMAGES)
    np.savez(tmp_path / "test.npz", images=IMAGES, labels=LABELS)
    CalibrationTable({"image": np.float32(2), "c": np.float32(3)}).save(tmp_path / "t.json")
    TrtCache("TRT-8600-EntropyCalibration2", {"image": np.float32(0.5)}).save(tmp_path / "c.cache")
    return tmp_path


@pytest.fixture
def fixed(cli: Cli, work: Path, runtime: HostRuntime) -> Path:
    """An engine that takes batches of 6 only."""
    assert cli("build", work / "fixed.onnx", "--fp16", "-o", work / "fixed.engine").code == 0
    return work / "fixed.engine"


@pytest.fixture
def dynamic(cli: Cli, work: Path, runtime: HostRuntime) -> Path:
    """An engine for batches of 1 to 8."""
    flags = [f"--{kind}-shapes=image:{n}x3x8x8" for kind, n in (("min", 1), ("opt", 4), ("max", 8))]
    assert cli("build", work / "m.onnx", "--fp16", *flags, "-o", work / "dynamic.engine").code == 0
    return work / "dynamic.engine"
