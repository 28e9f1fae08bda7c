"""The chain on pretrained networks and real images, where they are given (QUANTLAB_TEST_DATA)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import quantlab
from quantlab.api import calibrate_all
from quantlab.calibration import TrtCache
from quantlab.data import ImageBatches, open_data
from quantlab.data.folder import image_files
from quantlab.data.source import DataOptions
from quantlab.onnx_model import load_model
from quantlab.qdq import EVERYTHING, prepare, tensorrt_cache

pytestmark = pytest.mark.models


@pytest.mark.long
def test_resnet20_int8_stays_within_one_point(real_data: Path) -> None:
    npz, model = real_data / "cifar10_jpeg.npz", real_data / "models" / "resnet20_cifar10.onnx"
    preset = quantlab.PRESETS["cifar10"]
    calibration = open_data(f"{npz}:calib", ["input"], preset, DataOptions(64))
    table = quantlab.calibrate(model, calibration, quantlab.Mse())
    # 1000 of the 2000 images: the two models differ on a few, so that a point is more than two standard errors
    test = open_data(f"{npz}:test", ["input"], preset, DataOptions(100, 1000, labels=f"{npz}:test_labels"))
    default = quantlab.quantize(model, table)
    everything = quantlab.quantize(model, table, selection=EVERYTHING).model
    result = quantlab.compare(model, {"mse": default.model, "all": everything}, test)
    assert result.best is not None
    # the first stage stays float: its input layer and six layers of 16 channels
    assert [s.node.split("/")[1] for s in default.placement.skipped if s.op == "Conv"] == ["conv1"] + 6 * ["layer1"]
    assert result.results[1].worst_sqnr_db > result.results[2].worst_sqnr_db > 26
    assert result.fp32.top1 is not None
    assert result.best.top1 is not None
    assert result.fp32.top1 > 0.80
    assert abs(result.best.top1 - result.fp32.top1) <= 0.01


@pytest.mark.long
def test_efficientnet_lite0_pads_fold_and_int8_stays_close(real_data: Path) -> None:
    model = load_model(real_data / "models" / "efficientnet_lite0.onnx")
    assert not {"ConstantOfShape", "Cast", "Transpose"} & {n.op_type for n in prepare(model).graph.node}
    files = image_files(real_data / "imagenet_sample").files
    files = files[::10]
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


OBSERVERS = {"entropy": quantlab.Entropy(), "minmax": quantlab.MinMax(), "percentile": quantlab.Percentile(99.99)}


@pytest.fixture(scope="module")
def tables(real_data: Path) -> Mapping[str, quantlab.CalibrationTable]:
    """Every algorithm from one pass over the images that TensorRT had."""
    model = real_data / "models" / "resnet20_cifar10_b64.onnx"
    data = open_data(f"{real_data / 'cifar10_jpeg.npz'}:calib", ["input"], quantlab.PRESETS["cifar10"], DataOptions(64))
    return calibrate_all(model, data, OBSERVERS, tensors="all").tables


@pytest.mark.parametrize(
    ("name", "calibrator", "algorithm", "bound"),
    [
        ("entropy2", "EntropyCalibration2", "entropy", 0.98),
        ("entropy1", "EntropyCalibration", "entropy", 0.98),
        ("minmax", "MinMaxCalibration", "minmax", 1.0),
        ("legacy", "EntropyCalibration", "percentile", 0.98),  # its own first line has no name
    ],
)
def test_resnet20_scales_are_those_of_tensorrts_cache(
    real_data: Path,
    tables: Mapping[str, quantlab.CalibrationTable],
    name: str,
    calibrator: str,
    algorithm: str,
    bound: float,
) -> None:
    """TensorRT 8.6.0 calibrated the same 512 images in batches of 64 on an H200; its convolutions round otherwise."""
    theirs = TrtCache.load(real_data / "trt_caches" / f"r20_b64_{name}_bs64_n512_tf320.cache").scales
    model = real_data / "models" / "resnet20_cifar10_b64.onnx"
    ours = tensorrt_cache(model, tables[algorithm], calibrator).scales
    common = [t for t in theirs if t in ours]
    assert len(common) >= 0.85 * len(theirs)  # the inner tensors of the Gemm have no ONNX name
    # a bin is 1/2048 of the range and a threshold lies between bins 128 and 2048: one bin is 5e-4 to 8e-3 of a scale
    ratios = {t: abs(float(ours[t]) / float(theirs[t]) - 1) for t in common}
    tolerance = 1e-6 if name == "minmax" else 2e-4
    same = [t for t in common if ratios[t] < tolerance]
    assert len(same) >= bound * len(common), {t: r for t, r in ratios.items() if t not in same}
