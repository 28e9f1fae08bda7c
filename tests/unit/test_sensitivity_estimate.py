"""The first-order estimate: exact where it can be, and in the order of the truth on real networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import quantlab
from models import floats, parse
from placement_parts import named
from quantlab.api import sensitivity
from quantlab.data import Batches, BatchSize, open_data
from quantlab.data.sample import PRESET, sample_folder
from quantlab.data.source import DataOptions
from quantlab.onnx_model import input_specs
from quantlab.tune import SensitivityTable
from quantlab.tune.sensitivity_feed import GAIN_SAMPLES, LOCAL_SAMPLES, EvenSamples, FedBatch


def fed(x: np.ndarray, number: int = 0) -> FedBatch:
    return FedBatch(number, {"x": x}, None, len(x))


def test_samples_are_taken_evenly_from_a_stream_of_any_length() -> None:
    """every one, or every 2^k-th: never more than LOCAL_SAMPLES, and more than half of that"""
    size = BatchSize("x", None)
    for total in (1, 255, 256, 257, 1000, 5000):
        samples = EvenSamples()
        for start in range(0, total, 77):
            samples.take(fed(np.arange(start, min(start + 77, total), dtype=np.float32)[:, None]))
        rows = np.concatenate([piece.batch["x"] for piece in samples.pieces(size)])[:, 0]
        steps = set(np.diff(rows))
        assert len(steps) <= 1
        assert min(total, LOCAL_SAMPLES // 2) <= len(rows) <= LOCAL_SAMPLES
        few = samples.pieces(size, GAIN_SAMPLES)
        assert min(total, GAIN_SAMPLES // 2) <= sum(piece.size for piece in few) <= GAIN_SAMPLES
        assert few[0].batch["x"][0] == 0


def test_samples_come_in_the_batches_that_the_network_takes() -> None:
    samples = EvenSamples()
    samples.take(fed(floats(5, 2)))
    (only,) = samples.pieces(BatchSize("x", 16))
    assert (only.size, len(only.batch["x"])) == (5, 16)
    samples.take(fed(floats(4, 3)))
    assert [p.batch["x"].shape for p in samples.pieces(BatchSize("x", None))] == [(5, 2), (4, 3)]


def test_estimate_of_a_linear_network_is_the_truth_but_for_chance() -> None:
    """y = x w v: the noise of the last layer is its local error; that of x passes by what it is multiplied with"""
    text = "m (float[N,64] x) => (float[N,8] y) { h = MatMul (x, w)  y = MatMul (h, v) }"
    model = named(text, {"w": floats(64, 64, scale=0.125), "v": floats(64, 8, seed=1)})
    batches = [{"x": floats(32, 64, seed=k)} for k in range(8)]
    found = sensitivity(model, quantlab.calibrate(model, batches, quantlab.MinMax()), batches)
    for row in found.rows:
        assert row.alone is not None
        assert row.estimate is not None
        # chance: 64 samples of 8 outputs, so 512 squares of normal values: a deviation of sqrt(2 / 512) = 6 %
        assert row.estimate == pytest.approx(row.alone.noise, rel=4 * 0.0625)


def test_tensor_without_error_is_estimated_as_exact() -> None:
    model = parse("m (float[N,2] x) => (float[N,2] y) { y = MatMul (x, w) }", {"w": np.eye(2, dtype=np.float32)})
    table = quantlab.CalibrationTable({"x": np.float32(127)})
    found = sensitivity(model, table, [{"x": np.array([[1, -3], [100, 5]], np.float32)}])
    assert {row.estimate for row in found.rows} == {0.0}
    assert {row.alone.noise for row in found.rows if row.alone} == {0.0}
    assert SensitivityTable.from_json(found.to_json()) == found


def test_estimate_ranks_the_layers_of_the_sample_as_the_truth_does() -> None:
    folder = sample_folder()
    model = folder / "model.onnx"
    (name,) = (spec.name for spec in input_specs(quantlab.onnx_model.load_model(model)))
    preset = quantlab.PRESETS[PRESET]

    def images(part: str, limit: int) -> Batches:
        path = folder / f"{part}.npz"
        return open_data(f"{path}:images", [name], preset, DataOptions(64, limit, f"{path}:labels"))

    calibration = images("calibration", 128)
    table = quantlab.calibrate(model, calibration, quantlab.Mse())
    found = sensitivity(model, table, images("test", 64))
    assert found.provenance.fp32_metric is not None
    assert found.provenance.fp32_metric > 0.9
    layers, tensors = found.rank_correlation("layer"), found.rank_correlation("tensor")
    assert layers is not None
    assert tensors is not None
    assert layers >= 0.8
    assert tensors >= 0.8


@pytest.mark.long
@pytest.mark.models
def test_estimate_ranks_the_layers_of_resnet20_as_the_truth_does(real_data: Path) -> None:
    npz, model = real_data / "cifar10_jpeg.npz", real_data / "models" / "resnet20_cifar10.onnx"
    preset = quantlab.PRESETS["cifar10"]
    calibration = open_data(f"{npz}:calib", ["input"], preset, DataOptions(64))
    table = quantlab.calibrate(model, calibration, quantlab.Mse())
    test = open_data(f"{npz}:test", ["input"], preset, DataOptions(50, 100, labels=f"{npz}:test_labels"))
    found = sensitivity(model, table, test)
    layers, tensors = found.rank_correlation("layer"), found.rank_correlation("tensor")
    assert layers is not None
    assert tensors is not None
    assert layers >= 0.8
    assert tensors >= 0.8
    (everything,) = found.of_kind("all")
    assert everything.noise > max(row.noise for row in found.rows if row.kind != "all")
