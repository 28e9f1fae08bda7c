"""Calibrators as TensorRT calls them back, over the host double: batches, caches, errors that must not be lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

from engine_double import CALIBRATORS, GPU, TENSORRT, HostBase, HostConfig, HostEntropy2, parsed
from models import conv_net, image_batches
from quantlab.calibration import TrtCache
from quantlab.calibration.cache_record import load_record
from quantlab.engines.options import BuildOptions, Profile
from quantlab.engines.stream_calibrator import CalibratorOptions, StreamCalibrator
from quantlab.errors import ConfigError, DataError
from quantlab.memory import DeviceMemory, HostDriver
from quantlab.onnx_model import TensorSpec, input_specs, model_hash

TENSORS = ("image", *(name for node in conv_net().graph.node for name in node.output))
CACHE = TrtCache("TRT-8600-EntropyCalibration2", {name: np.float32(0.5) for name in TENSORS}).to_bytes()
FIXED = BuildOptions("int8", profiles=(Profile.fixed({"image": (6, 3, 8, 8)}),))
NETWORK = parsed(conv_net(), FIXED)


@pytest.fixture
def driver() -> HostDriver:
    return HostDriver()


@pytest.fixture
def options(driver: HostDriver, tmp_path: Path) -> Callable[..., CalibratorOptions]:
    def make(**more: Any) -> CalibratorOptions:
        values = {"cache": tmp_path / "c.cache", "open_memory": lambda: DeviceMemory(driver)}
        return CalibratorOptions(**{**values, **more})

    return make


Make = Callable[..., CalibratorOptions]


def feed(calibrator: StreamCalibrator) -> int:
    """Ask for batches to the end."""
    count = 0
    while calibrator.get_batch(["image"]) is not None:
        count += 1
    return count


def calibrated(calibrator: StreamCalibrator) -> StreamCalibrator:
    """As a build does it, up to the cache."""
    calibrator.prepare(NETWORK, HostConfig())
    if calibrator.read_calibration_cache() is None:
        feed(calibrator)
        calibrator.write_calibration_cache(CACHE)
    return calibrator


@pytest.mark.parametrize("kind", CALIBRATORS.values())
def test_calibrator_feeds_every_batch_and_frees_the_memory(
    kind: type[StreamCalibrator], driver: HostDriver, options: Make
) -> None:
    calibrator = kind(image_batches(3), options())
    assert isinstance(calibrator, HostBase)
    assert calibrator.initialised  # TensorRT's base must be called by name, or the process dies
    assert calibrator.get_batch_size() == 6
    for batch in image_batches(3):
        addresses = calibrator.get_batch(["image"])
        assert addresses is not None
        fed = driver.live[addresses[0]].view(np.float32)[: batch["image"].size]
        np.testing.assert_array_equal(fed, batch["image"].ravel())
    assert calibrator.get_batch(["image"]) is None
    calibrator.write_calibration_cache(CACHE)
    calibrator.raise_problem()
    assert calibrator.written == CACHE
    assert (driver.live, driver.pinned, driver.streams, driver.active) == ({}, 0, 0, 0)


def test_calibrator_over_an_iterator_is_refused(options: Make) -> None:
    with pytest.raises(ConfigError, match="batches are a list_iterator, which can be read only once"):
        HostEntropy2(iter(image_batches(1)), options())
    with pytest.raises(ConfigError, match="batches are a NoneType, expected a list"):
        HostEntropy2(None, options())  # type: ignore[arg-type]


def test_calibrator_of_a_build_knows_network_and_profile(options: Make) -> None:
    calibrator, config = HostEntropy2(image_batches(2), options(cache=None)), HostConfig()
    calibrator.prepare(NETWORK, config)
    assert config.int8_calibrator is calibrator
    assert config.calibration_profile == FIXED.profiles[-1]
    assert calibrator.get_batch_size() == 6
    assert calibrator.feeder.specs == (TensorSpec("image", np.dtype(np.float32), (6, 3, 8, 8)),)
    plain = HostConfig()
    HostEntropy2(image_batches(2), options(cache=None)).prepare(parsed(conv_net("6")), plain)
    assert plain.calibration_profile is None


def test_calibrator_keeps_the_model_hash_it_was_given(options: Make, tmp_path: Path) -> None:
    calibrated(HostEntropy2(image_batches(2), options(), model_hash="mine"))
    assert load_record(tmp_path / "c.cache").model_hash == "mine"


def test_cache_is_written_with_the_record_of_what_it_was_made_from(options: Make, tmp_path: Path) -> None:
    calibrator = calibrated(HostEntropy2(image_batches(2), options()))
    assert (tmp_path / "c.cache").read_bytes() == CACHE
    record = load_record(tmp_path / "c.cache")
    assert (record.algorithm, record.tensorrt, record.gpu) == ("EntropyCalibration2", TENSORRT, GPU)
    assert record.model_hash == model_hash(conv_net())
    assert (record.batch_size, record.batches, record.data_hash) == (6, 2, calibrator.feeder.data_hash)


def test_cache_that_fits_is_used_without_a_batch(options: Make, tmp_path: Path) -> None:
    calibrated(HostEntropy2(image_batches(2), options()))
    again = calibrated(HostEntropy2(image_batches(2), options()))
    assert again.used_cache
    assert again.read_calibration_cache() == CACHE  # TensorRT reads it twice
    assert (again.feeder.count, again.written) == (0, None)
    again.raise_problem()


def test_cache_of_other_data_is_refused_before_the_build(options: Make) -> None:
    calibrated(HostEntropy2(image_batches(2), options()))
    with pytest.raises(DataError, match="is not used: its data_hash is .*its batches is 2, .*delete"):
        calibrated(HostEntropy2(image_batches(3), options()))


def test_cache_of_another_calibrator_is_refused(options: Make) -> None:
    calibrated(HostEntropy2(image_batches(2), options()))
    with pytest.raises(DataError, match="its algorithm is EntropyCalibration2, this calibration's MinMaxCalibration"):
        calibrated(CALIBRATORS["minmax"](image_batches(2), options()))


@pytest.mark.parametrize(("name", "refused"), [("entropy2", True), ("minmax", True), ("entropy", False)])
def test_cache_without_every_tensor_is_refused_where_the_calibrator_sees_all(
    name: str, refused: bool, options: Make, tmp_path: Path
) -> None:
    calibrator = CALIBRATORS[name](image_batches(2), options())
    calibrator.prepare(NETWORK, HostConfig())
    feed(calibrator)
    short = TrtCache(calibrator.header, {"image": np.float32(0.5), "a": np.float32(1)})
    calibrator.write_calibration_cache(short.to_bytes())
    assert (tmp_path / "c.cache").exists()
    again = CALIBRATORS[name](image_batches(2), options())
    if not refused:
        assert calibrated(again).used_cache
        return
    with pytest.raises(DataError, match=r"it is incomplete: 7 tensors are missing \(first: 'r'\)"):
        again.prepare(NETWORK, HostConfig())


def test_cache_that_is_trusted_is_used_under_the_calibrators_own_first_line(options: Make, tmp_path: Path) -> None:
    (tmp_path / "c.cache").write_bytes(CACHE)  # without a record
    trusting = CALIBRATORS["minmax"](image_batches(2), options(trust_cache=True))
    trusting.prepare(NETWORK, HostConfig())
    found = trusting.read_calibration_cache()
    assert found == CACHE.replace(b"EntropyCalibration2", b"MinMaxCalibration")
    with pytest.raises(DataError, match=r"has no record c\.cache\.json"):
        HostEntropy2(image_batches(2), options()).prepare(NETWORK, HostConfig())


def test_cache_that_tensorrt_refuses_is_an_error_and_no_silent_calibration(options: Make) -> None:
    calibrated(HostEntropy2(image_batches(2), options()))
    again = HostEntropy2(image_batches(2), options())
    again.prepare(NETWORK, HostConfig())
    assert again.read_calibration_cache() == CACHE
    assert again.get_batch(["image"]) is None  # TensorRT asks for a batch all the same
    with pytest.raises(DataError, match="TensorRT refused the calibration cache"):
        again.raise_problem()


def test_cache_is_not_read_after_an_error_or_after_the_calibration_that_wrote_it(options: Make, tmp_path: Path) -> None:
    fresh = calibrated(HostEntropy2(image_batches(2), options()))
    assert (tmp_path / "c.cache").exists()
    assert fresh.read_calibration_cache() is None
    assert not fresh.used_cache
    (tmp_path / "c.cache.json").unlink()
    lost = HostEntropy2(image_batches(2), options())
    assert lost.read_calibration_cache() is None  # it has no record now: the reason is kept
    (tmp_path / "c.cache").write_bytes(b"")
    assert lost.read_calibration_cache() is None
    with pytest.raises(DataError, match="has no record"):
        lost.raise_problem()


def test_cache_that_is_used_is_not_written_again(options: Make, tmp_path: Path) -> None:
    calibrated(HostEntropy2(image_batches(2), options()))
    again = calibrated(HostEntropy2(image_batches(2), options()))
    again.write_calibration_cache(b"something else")
    assert (tmp_path / "c.cache").read_bytes() == CACHE


def nan(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"image": batch["image"] * np.nan}


class Broken:
    """Two good batches, then an error of the loader's own."""

    def __iter__(self) -> Any:
        yield from image_batches(2)
        raise OSError("the disk is on fire")


BAD_STREAMS = {
    "NaN": ([*image_batches(2), nan(image_batches(1)[0])], "batch 2, input 'image' contains NaN"),
    "loader": (Broken(), "the disk is on fire"),
    "too few": (image_batches(2), "the calibration stream ended after 2 batches, expected 3"),
}


@pytest.mark.parametrize("what", BAD_STREAMS)
def test_cache_is_not_written_after_an_error(what: str, options: Make, tmp_path: Path, driver: HostDriver) -> None:
    batches, match = BAD_STREAMS[what]
    calibrator = HostEntropy2(batches, options(expected_batches=3))
    calibrator.prepare(NETWORK, HostConfig())
    assert feed(calibrator) == 2
    calibrator.write_calibration_cache(CACHE)  # TensorRT took the error for the end of the data
    assert list(tmp_path.iterdir()) == []
    with pytest.raises((DataError, OSError), match=match):
        calibrator.raise_problem()
    assert not driver.live


def test_cache_is_not_written_where_tensorrt_stopped_early(options: Make, tmp_path: Path) -> None:
    calibrator = HostEntropy2(image_batches(3), options())
    calibrator.prepare(NETWORK, HostConfig())
    calibrator.get_batch(["image"])
    calibrator.write_calibration_cache(CACHE)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="TensorRT stopped after 1 batches, before the end of the data"):
        calibrator.raise_problem()


def test_cache_that_cannot_be_written_is_an_error_after_the_build(options: Make, tmp_path: Path) -> None:
    calibrator = HostEntropy2(image_batches(2), options(cache=tmp_path / "none" / "c.cache"))
    calibrator.prepare(NETWORK, HostConfig())
    feed(calibrator)
    calibrator.write_calibration_cache(CACHE)
    with pytest.raises(ConfigError, match="output folder .*none does not exist"):
        calibrator.raise_problem()


def test_error_in_a_batch_is_kept_with_its_number(options: Make) -> None:
    calibrator = HostEntropy2([image_batches(1)[0], nan(image_batches(1)[0])], options())
    assert feed(calibrator) == 1
    assert calibrator.get_batch(["image"]) is None
    assert isinstance(calibrator.error, DataError)
    assert calibrator.error.batch == 1


def test_no_error_so_far_is_none(options: Make) -> None:
    assert HostEntropy2(image_batches(1), options()).error is None


@pytest.mark.parametrize("callback", ["get_batch_size", "get_batch"])
def test_empty_stream_is_an_error_after_the_build(callback: str, options: Make) -> None:
    calibrator = HostEntropy2([], options(cache=None))
    assert calibrator.get_batch_size() == 1 if callback == "get_batch_size" else calibrator.get_batch(["image"]) is None
    with pytest.raises(DataError, match="there are no calibration batches"):
        calibrator.raise_problem()


def test_batch_size_is_the_networks_where_it_is_fixed(options: Make) -> None:
    assert HostEntropy2(image_batches(1, 2), options(), inputs=input_specs(conv_net("6"))).get_batch_size() == 6
    assert HostEntropy2(image_batches(1, 2), options(), inputs=input_specs(conv_net())).get_batch_size() == 2


TOKENS = onnx.parser.parse_model(
    """
    <ir_version: 8, opset_import: ["" : 13]>
    tokens (int64[N, 3] ids) => (float[N, 3, 4] y) <float[5, 4] table = {
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}>
    { y = Gather <axis = 0> (table, ids) }
    """
)


@pytest.mark.parametrize("inputs", [None, input_specs(TOKENS)], ids=["of the first batch", "of the ONNX model"])
def test_int64_is_handed_over_as_tensorrts_parser_reads_it(
    inputs: list[TensorSpec] | None, options: Make, driver: HostDriver
) -> None:
    ids = np.array([[4, 0, 2], [1, 3, 3]])
    calibrator = HostEntropy2([{"ids": ids}], options(), inputs=inputs)
    (address,) = calibrator.get_batch(["ids"]) or [0]
    np.testing.assert_array_equal(driver.live[address][:24].view(np.int32), ids.ravel())
    whole = HostEntropy2([{"ids": ids + 2**32}], options(), inputs=inputs)
    assert whole.get_batch(["ids"]) is None
    assert "input 'ids': 4294967300 does not fit into int32" in str(whole.error)


class HasInt64(HostEntropy2):
    int64 = True


def test_int64_stays_where_tensorrt_has_it(options: Make, driver: HostDriver) -> None:
    ids = np.array([[4, 0, 2**40]])
    (address,) = HasInt64([{"ids": ids}], options(), inputs=input_specs(TOKENS)).get_batch(["ids"]) or [0]
    np.testing.assert_array_equal(driver.live[address][:24].view(np.int64), ids.ravel())


def test_float64_is_refused_before_tensorrt_reads_it_as_something_else(options: Make) -> None:
    calibrator = HostEntropy2([{"x": np.zeros((2, 3))}], options())
    assert calibrator.get_batch(["x"]) is None
    assert "TensorRT has no float64" in str(calibrator.error)


def test_calibrator_in_a_with_statement_raises_what_went_wrong(options: Make, driver: HostDriver) -> None:
    with pytest.raises(DataError, match="contains NaN"), HostEntropy2([nan(image_batches(1)[0])], options()) as one:
        one.get_batch(["image"])
    assert not driver.live
    with HostEntropy2(image_batches(1), options()):
        pass  # it was never asked for anything
    with pytest.raises(RuntimeError, match="inside"), HostEntropy2(image_batches(2), options()) as one:
        one.get_batch(["image"])
        raise RuntimeError("inside")
    assert not driver.live


def test_batches_that_were_left_out_are_a_warning(options: Make) -> None:
    short = {"image": image_batches(1, 4)[0]["image"]}
    calibrator = HostEntropy2([*image_batches(2), short], options())
    assert calibrator.warnings == ()
    assert feed(calibrator) == 2
    calibrator.raise_problem()
    (notice,) = calibrator.warnings
    assert notice.kind == "short_batch"
