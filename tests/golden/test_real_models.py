"""The chain on pretrained networks and real images, where they are given (QUANTLAB_TEST_DATA)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import quantlab
from quantlab.data import ImageBatches
from quantlab.data.images import image_files
from quantlab.data.source import DataOptions
from quantlab.model import load_model
from quantlab.qdq import prepare

pytestmark = pytest.mark.models


def test_resnet20_int8_stays_within_one_point(real_data: Path) -> None:
    npz, model = real_data / "cifar10_jpeg.npz", real_data / "models" / "resnet20_cifar10.onnx"
    preset = quantlab.PRESETS["cifar10"]
    calibration = quantlab.open_data(f"{npz}:calib", ["input"], preset, DataOptions(64))
    table = quantlab.calibrate(model, calibration, quantlab.Mse())
    test = quantlab.open_data(f"{npz}:test", ["input"], preset, DataOptions(100, labels=f"{npz}:test_labels"))
    result = quantlab.compare(model, {"mse": quantlab.quantize(model, table).model}, test)
    assert result.best is not None
    assert result.fp32.top1 is not None
    assert result.best.top1 is not None
    assert result.fp32.top1 > 0.80
    assert abs(result.best.top1 - result.fp32.top1) <= 0.01
    assert result.best.worst_sqnr_db > 26


def test_efficientnet_lite0_pads_fold_and_int8_stays_close(real_data: Path) -> None:
    model = load_model(real_data / "models" / "efficientnet_lite0.onnx")
    assert not {"ConstantOfShape", "Cast", "Transpose"} & {n.op_type for n in prepare(model).graph.node}
    files, _ = image_files(real_data / "imagenet_sample")
    files = files[::5]
    labels = np.array([int(f.name[:4]) for f in files])
    preset = quantlab.PRESETS["imagenet-127"]
    batches = ImageBatches(files, preset, input_name="input", batch_size=10, labels=labels)
    table = quantlab.calibrate(model, batches, quantlab.Percentile(99.99))
    result = quantlab.compare(model, {"int8": quantlab.quantize(model, table).model}, batches)
    assert result.fp32.top1 is not None
    assert result.fp32.top1 > 0.8
    assert result.best is not None
    assert result.best.agreement is not None
    assert result.best.agreement > 0.9
    assert result.best.worst_sqnr_db > 16
