"""TensorRT's own calibration through our calibrators: the caches, the engines, the failures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

trt = pytest.importorskip("tensorrt")

import quantlab
from quantlab.calibration import TrtCache
from quantlab.data import ArrayBatches, IterableBatches
from quantlab.engines.int8 import ForeignCalibrator
from quantlab.engines.options import BuildOptions
from quantlab.errors import ConfigError, DataError
from quantlab.memory import open_memory
from quantlab.trt.build import build
from quantlab.trt.calibrators import (
    CALIBRATORS,
    CalibratorOptions,
    EntropyCalibrator2,
    LegacyCalibrator,
    TableCalibrator,
)
from quantlab.trt.run import Runner

REFERENCE = {"entropy2": "entropy2", "minmax": "minmax", "entropy": "entropy1", "legacy": "legacy"}


def fast(timing_cache: Path, precision: str = "int8") -> BuildOptions:
    return BuildOptions(precision, timing_cache=timing_cache, optimization_level=0)


def share_in_the_same_bin(a: TrtCache, b: TrtCache) -> float:
    """Of the tensors. The others are near ties of the KL curve, which the convolutions that a build chose decide."""
    assert list(a.scales) == list(b.scales)
    differences = [abs(float(a.scales[t]) - float(s)) / (float(s) or 1.0) for t, s in b.scales.items()]
    assert max(differences) < 0.1  # the ties that were seen are 3 % apart at most
    return sum(difference <= 1e-6 for difference in differences) / len(differences)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_cache_equals_tensorrts_recorded_one(
    name: str, resnet20: Path, calibration: ArrayBatches, real_data: Path, timing_cache: Path, tmp_path: Path
) -> None:
    calibrator = CALIBRATORS[name](calibration, CalibratorOptions(tmp_path / "c.cache"))
    build(resnet20, fast(timing_cache), calibrator)
    got = TrtCache.load(tmp_path / "c.cache")
    want = TrtCache.load(real_data / "trt_caches" / f"r20_b64_{REFERENCE[name]}_bs64_n512_tf320.cache")
    assert got.header == want.header
    share = share_in_the_same_bin(got, want)
    worst = max(abs(float(got.scales[t]) / float(s) - 1) for t, s in want.scales.items() if s)
    print(f"{name}: {len(want.scales)} tensors, {share:.1%} in the same bin, largest relative difference {worst:.2e}")
    assert share >= 0.98
    assert name != "minmax" or worst < 1e-6
    assert calibrator.feeder.samples == 512


def test_a_fitting_cache_is_used_and_others_are_refused(
    resnet20: Path, calibration: ArrayBatches, timing_cache: Path, tmp_path: Path
) -> None:
    options = CalibratorOptions(tmp_path / "c.cache")
    build(resnet20, fast(timing_cache), EntropyCalibrator2(calibration, options))
    again = EntropyCalibrator2(calibration, options)
    build(resnet20, fast(timing_cache), again)
    assert again.used_cache
    assert again.feeder.count == 0
    fewer = ArrayBatches({"input": next(iter(calibration))["input"]}, batch_size=64)
    with pytest.raises(DataError, match="data_hash.*batches"):
        build(resnet20, fast(timing_cache), EntropyCalibrator2(fewer, options))
    with pytest.raises(DataError, match="its algorithm is EntropyCalibration2"):
        build(resnet20, fast(timing_cache), CALIBRATORS["minmax"](calibration, options))
    trusted = CALIBRATORS["minmax"](fewer, CalibratorOptions(tmp_path / "c.cache", trust_cache=True))
    build(resnet20, fast(timing_cache), trusted)
    assert trusted.used_cache
    cut = TrtCache.load(tmp_path / "c.cache")
    TrtCache(cut.header, dict(list(cut.scales.items())[:-1])).save(tmp_path / "c.cache")
    with pytest.raises(DataError, match="was changed after.*incomplete: 1 tensors"):
        build(resnet20, fast(timing_cache), EntropyCalibrator2(calibration, options))


@pytest.mark.usefixtures("no_leak")
def test_middle_batch_that_raises_discards_the_build_and_the_next_one_works(
    resnet20: Path, calibration: ArrayBatches, timing_cache: Path, tmp_path: Path
) -> None:
    def broken() -> Iterator[dict[str, np.ndarray]]:
        for number, batch in enumerate(calibration):
            if number == 3:
                raise OSError("the disk is on fire")
            yield batch

    options = CalibratorOptions(tmp_path / "c.cache")
    with pytest.raises(OSError, match="disk is on fire") as caught:
        build(resnet20, fast(timing_cache), EntropyCalibrator2(IterableBatches(broken), options))
    assert "batch 3" in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert not (tmp_path / "c.cache").exists()
    build(resnet20, fast(timing_cache), EntropyCalibrator2(calibration, options))
    assert (tmp_path / "c.cache").exists()


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda x: x[:, :2], r"batch 2, input 'input': got float32 \(64, 2, 32, 32\)"),
        (lambda x: x.astype(np.float64), "batch 2, input 'input': got float64"),
        (lambda x: x * np.nan, "batch 2, input 'input' contains NaN"),
    ],
)
def test_bad_middle_batch_is_an_error_after_the_build(
    resnet20: Path, calibration: ArrayBatches, timing_cache: Path, spoil: object, match: str
) -> None:
    batches = [{"input": spoil(b["input"]) if k == 2 else b["input"]} for k, b in enumerate(calibration)]
    with pytest.raises(DataError, match=match):
        build(resnet20, fast(timing_cache), EntropyCalibrator2(batches))


def test_short_stream_is_an_error(resnet20: Path, calibration: ArrayBatches, timing_cache: Path) -> None:
    calibrator = EntropyCalibrator2(list(calibration)[:3], CalibratorOptions(expected_batches=8))
    with pytest.raises(DataError, match="ended after 3 batches, expected 8"):
        build(resnet20, fast(timing_cache), calibrator)


def test_table_from_any_algorithm_builds_without_a_batch(
    resnet20: Path, calibration: ArrayBatches, timing_cache: Path
) -> None:
    table = quantlab.calibrate(resnet20, calibration, quantlab.Percentile(99.99), tensors="all")
    calibrator = TableCalibrator(table)
    engine = build(resnet20, fast(timing_cache, "best"), calibrator)
    assert not calibrator.asked_for_batches
    with Runner(engine) as run:
        assert run(next(iter(calibration)))["logits"].shape == (64, 10)


def test_device_arrays_are_passed_on_without_a_copy(
    resnet20: Path, calibration: ArrayBatches, timing_cache: Path
) -> None:
    class OnDevice:
        def __init__(self, address: int, x: np.ndarray) -> None:
            self.__cuda_array_interface__ = {
                "shape": x.shape, "typestr": x.dtype.str, "data": (address, False), "version": 3,
            }  # fmt: skip
            self.shape = x.shape

    with open_memory() as memory:
        batches = [
            {"input": OnDevice(memory.upload(f"batch{k}", b["input"]), b["input"])}
            for k, b in enumerate(calibration)
            if k < 2
        ]
        on_device = EntropyCalibrator2(batches, inputs=None, options=CalibratorOptions(expected_batches=2))
        build(resnet20, fast(timing_cache), on_device)
    on_host = EntropyCalibrator2(list(calibration)[:2])
    build(resnet20, fast(timing_cache), on_host)
    assert on_device.written is not None
    assert on_host.written is not None
    there, here = TrtCache.from_bytes(on_device.written), TrtCache.from_bytes(on_host.written)
    assert here.scales["input"] == there.scales["input"]
    assert share_in_the_same_bin(here, there) >= 0.98


def test_bare_tensorrt_script(resnet20: Path, calibration: ArrayBatches) -> None:
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(resnet20.read_bytes())
    config = builder.create_builder_config()
    config.builder_optimization_level = 0
    config.set_flag(trt.BuilderFlag.INT8)
    with EntropyCalibrator2(calibration) as calibrator:
        config.int8_calibrator = calibrator
        plan = builder.build_serialized_network(network, config)
    assert plan is not None
    assert calibrator.feeder.count == 8
    assert calibrator.written is not None


def test_polygraphy_script(resnet20: Path, calibration: ArrayBatches) -> None:
    trt_backend = pytest.importorskip("polygraphy.backend.trt")
    with EntropyCalibrator2(calibration) as calibrator:
        config = trt_backend.CreateConfig(int8=True, calibrator=calibrator, builder_optimization_level=0)
        engine = trt_backend.engine_from_network(trt_backend.network_from_onnx_path(str(resnet20)), config)
    assert engine is not None
    assert calibrator.feeder.count == 8


def test_calibrator_that_is_not_ours_builds_in_its_wrapper(
    resnet20: Path, calibration: ArrayBatches, timing_cache: Path
) -> None:
    class Bare(trt.IInt8EntropyCalibrator2):
        def __init__(self, address: int) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.left = [address]

        def get_batch_size(self) -> int:
            return 64

        def get_batch(self, names: list[str]) -> list[int] | None:
            return [self.left.pop()] if self.left else None

        def read_calibration_cache(self) -> None:
            return None

        def write_calibration_cache(self, cache: object) -> None:
            pass

    freed: list[int] = []
    with open_memory() as memory:
        bare = Bare(memory.upload("input", next(iter(calibration))["input"]))
        with pytest.raises(ConfigError, match="a Bare was given as the source of INT8 ranges"):
            build(resnet20, fast(timing_cache), bare)
        engine = build(resnet20, fast(timing_cache), ForeignCalibrator(bare, lambda: freed.append(1)))
    assert (engine.record.int8, bare.left, freed) == ("Bare", [], [1])


def test_users_subclass_and_isinstance() -> None:
    class Mine(LegacyCalibrator):
        def get_quantile(self) -> float:
            return 0.99

    mine = Mine([])
    assert isinstance(mine, trt.IInt8LegacyCalibrator)
    assert mine.get_quantile() == 0.99
