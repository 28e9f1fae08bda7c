"""The source of a build's INT8 ranges: what fits together, what was asked for, what goes wrong during a build."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from engine_double import FEATURES, TENSORRT, HostConfig, HostEntropy2, HostRuntime, parsed
from models import conv_net, image_batches, quantized
from quantlab.calibration import CalibrationTable, Provenance, TrtCache
from quantlab.data import Batches
from quantlab.engines.choose_int8 import (
    CALIBRATORS,
    Int8Request,
    build_source,
    calibration_batch,
    requested_source,
)
from quantlab.engines.int8 import DynamicRanges, ForeignCalibrator, Int8Source, ModelRanges, build_with
from quantlab.engines.options import BuildOptions, Profile
from quantlab.engines.stream_calibrator import StreamCalibrator
from quantlab.engines.table_calibrator import TableScalesCalibrator
from quantlab.errors import ConfigError, DataError, MissingDependencyError

TABLE = CalibrationTable({"image": np.float32(2)}, Provenance(algorithm="mse"))
SOURCE = DynamicRanges(TABLE)
STRONG = replace(FEATURES, weak_typing=False)


@pytest.fixture(scope="module")
def qdq() -> onnx.ModelProto:
    return quantized(conv_net(), image_batches(1)).model


@pytest.mark.parametrize("source", [SOURCE, ModelRanges(True), ForeignCalibrator(object()), HostEntropy2([])])
def test_every_source_fits_the_protocol(source: object) -> None:
    assert isinstance(source, Int8Source)


@pytest.mark.parametrize("precision", ["int8", "best"])
def test_source_that_is_given_for_a_float_model_is_taken(precision: str) -> None:
    assert build_source(conv_net(), BuildOptions(precision), SOURCE, FEATURES) is SOURCE


def test_source_that_is_left_out_is_the_model(qdq: onnx.ModelProto) -> None:
    explicit = build_source(qdq, BuildOptions("int8"), None, FEATURES)
    assert (explicit, explicit.description) == (ModelRanges(True), "explicit Q/DQ")
    floating = build_source(conv_net(), BuildOptions("fp16"), None, FEATURES)
    assert (floating, floating.description) == (ModelRanges(False), "")
    assert build_source(conv_net(), BuildOptions("fp16"), ModelRanges(True), FEATURES) == ModelRanges(False)


def test_calibrator_for_a_model_with_qdq_is_refused(qdq: onnx.ModelProto) -> None:
    with pytest.raises(ConfigError, match="the model has Q/DQ nodes and a calibrator was given"):
        build_source(qdq, BuildOptions("int8"), SOURCE, FEATURES)


def test_model_with_qdq_needs_a_precision_that_allows_int8(qdq: onnx.ModelProto) -> None:
    with pytest.raises(ConfigError, match="has Q/DQ nodes, precision 'fp16' does not allow INT8.*'int8' or 'best'"):
        build_source(qdq, BuildOptions("fp16"), None, FEATURES)
    assert build_source(qdq, BuildOptions("fp16"), None, STRONG) == ModelRanges(True)
    assert build_source(qdq, BuildOptions("fp16", strongly_typed=True), None, FEATURES) == ModelRanges(True)


@pytest.mark.parametrize("precision", ["int8", "best"])
def test_float_model_in_int8_needs_scales(precision: str) -> None:
    with pytest.raises(ConfigError, match=f"precision '{precision}' without scales: .* in float.*quantlab quantize"):
        build_source(conv_net(), BuildOptions(precision), None, FEATURES)
    options = BuildOptions(precision, strongly_typed=True)
    assert build_source(conv_net(), options, None, FEATURES) == ModelRanges(False)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_scales_for_a_precision_without_int8_are_refused(precision: str) -> None:
    with pytest.raises(ConfigError, match=f"a calibrator was given, precision '{precision}' does not allow INT8"):
        build_source(conv_net(), BuildOptions(precision), SOURCE, FEATURES)


def test_calibrator_that_is_not_ours_is_refused_with_the_way_to_wrap_it() -> None:
    class Calibrator:
        def get_batch(self, names: object) -> None: ...

    foreign: Any = Calibrator()
    with pytest.raises(ConfigError, match=r"a Calibrator was given .*int8\.ForeignCalibrator\(calibrator\)"):
        build_source(conv_net(), BuildOptions("int8"), foreign, FEATURES)
    wrapped = ForeignCalibrator(foreign)
    assert build_source(conv_net(), BuildOptions("int8"), wrapped, FEATURES) is wrapped
    assert wrapped.description == "Calibrator"


def test_foreign_calibrator_is_handed_over_as_it_is_and_freed_where_asked() -> None:
    freed: list[int] = []
    calibrator, config = object(), HostConfig()
    profile = Profile.fixed({"image": (6, 3, 8, 8)})
    network = parsed(conv_net(), BuildOptions("int8", profiles=(profile,)))
    source = ForeignCalibrator(calibrator, lambda: freed.append(1))
    assert build_with(source, network, config, lambda: b"plan") == b"plan"
    assert (config.int8_calibrator, config.calibration_profile, freed) == (calibrator, profile, [1])
    ForeignCalibrator(calibrator).close()


# --- during a build


class Source:
    """Notes what is called."""

    description = "a source"

    def __init__(self, error: BaseException | None = None, problem: BaseException | None = None) -> None:
        self.error, self.problem = error, problem
        self.calls: list[str] = []

    def prepare(self, network: Any, config: Any) -> None:
        self.calls.append("prepare")

    def close(self) -> None:
        self.calls.append("close")

    def raise_problem(self) -> None:
        self.calls.append("raise_problem")
        if self.problem is not None:
            raise self.problem


NETWORK = parsed(conv_net())


def test_build_prepares_its_source_closes_it_and_asks_for_problems() -> None:
    source = Source()

    def serialize() -> bytes:
        source.calls.append("build")
        return b"plan"

    assert build_with(source, NETWORK, HostConfig(), serialize) == b"plan"
    assert source.calls == ["prepare", "build", "close", "raise_problem"]


def test_build_with_a_problem_throws_the_plan_away() -> None:
    with pytest.raises(DataError, match="batch 3"):
        build_with(Source(problem=DataError("x", batch=3)), NETWORK, HostConfig(), lambda: b"plan")


def test_build_that_failed_for_a_reason_of_tensorrts_own_keeps_it() -> None:
    source = Source(problem=DataError("TensorRT stopped after 1 batches"))
    assert build_with(source, NETWORK, HostConfig(), lambda: None) is None
    assert source.calls == ["prepare", "close"]


def test_build_that_failed_for_an_error_of_the_source_raises_that() -> None:
    error = OSError("the disk is on fire")
    with pytest.raises(OSError, match="on fire"):
        build_with(Source(error, error), NETWORK, HostConfig(), lambda: None)


def test_build_that_raises_closes_its_source() -> None:
    source = Source()

    def serialize() -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_with(source, NETWORK, HostConfig(), serialize)
    assert source.calls == ["prepare", "close"]


# --- what was asked for


def data(batches: Batches | None = None) -> Any:
    return lambda: batches or image_batches(2)


def unread() -> Batches:
    raise AssertionError("the data were opened")


@pytest.fixture
def table_file(tmp_path: Path) -> Path:
    TABLE.save(tmp_path / "t.json")
    return tmp_path / "t.json"


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (partial(Int8Request, unread, table=Path("t")), "--table and --data were both given"),
        (partial(Int8Request, dynamic_ranges=True), "--dynamic-ranges without --table"),
        (partial(Int8Request, unread, dynamic_ranges=True), "--dynamic-ranges without --table"),
        (partial(Int8Request, cache=Path("c"), trust_cache=True, dynamic_ranges=True), "--dynamic-ranges without"),
        (partial(Int8Request, cache=Path("c")), "--cache without --data: whether it fits cannot be told"),
        (partial(Int8Request, unread, "magic"), "there is no calibrator 'magic'.*entropy2, minmax, entropy, legacy"),
    ],
)
def test_request_that_contradicts_itself_is_refused_before_anything_is_read(request_: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        request_()


def test_request_for_nothing_is_no_source() -> None:
    assert requested_source(HostRuntime(), conv_net(), Int8Request()) is None


@pytest.mark.parametrize("name", CALIBRATORS)
def test_request_with_data_is_a_calibrator_over_them(name: str, tmp_path: Path) -> None:
    request = Int8Request(data(), name, tmp_path / "c.cache", trust_cache=True)
    source = requested_source(HostRuntime(), conv_net(), request)
    assert isinstance(source, StreamCalibrator)
    assert source.description.split()[0] == {
        "entropy2": "EntropyCalibration2", "minmax": "MinMaxCalibration", "entropy": "EntropyCalibration",
        "legacy": "LegacyCalibration",
    }[name]  # fmt: skip
    assert (source.options.cache, source.options.trust_cache) == (tmp_path / "c.cache", True)


def test_request_with_a_table_is_its_scales_by_cache_or_by_ranges(table_file: Path) -> None:
    by_cache = requested_source(HostRuntime(), conv_net(), Int8Request(table=table_file))
    assert isinstance(by_cache, TableScalesCalibrator)
    assert by_cache.table.amax == TABLE.amax
    by_range = requested_source(HostRuntime(), conv_net(), Int8Request(table=table_file, dynamic_ranges=True))
    assert isinstance(by_range, DynamicRanges)
    assert by_range.table.amax == TABLE.amax


def test_request_with_a_trusted_cache_and_no_data_is_its_scales(tmp_path: Path) -> None:
    TrtCache("TRT-8600-EntropyCalibration2", {"image": np.float32(0.5)}).save(tmp_path / "c.cache")
    request = Int8Request(cache=tmp_path / "c.cache", trust_cache=True)
    source = requested_source(HostRuntime(), conv_net(), request)
    assert isinstance(source, TableScalesCalibrator)
    assert source.table.amax == {"image": 63.5}


def test_request_with_a_table_of_another_model_is_refused(tmp_path: Path) -> None:
    CalibrationTable({"elsewhere": np.float32(1)}).save(tmp_path / "t.json")
    with pytest.raises(DataError, match="of another model"):
        requested_source(HostRuntime(), conv_net(), Int8Request(table=tmp_path / "t.json"))


def test_request_for_a_calibrator_that_tensorrt_has_no_more_is_refused(table_file: Path) -> None:
    runtime = HostRuntime(features=replace(FEATURES, calibrators=False))
    with pytest.raises(MissingDependencyError, match="has no calibrators"):
        requested_source(runtime, conv_net(), Int8Request(data()))
    assert requested_source(runtime, conv_net(), Int8Request(table=table_file, dynamic_ranges=True)) is not None


@pytest.mark.parametrize(
    ("batch", "profiles", "expected"),
    [
        ("6", (), 6),
        ("N", (), None),
        ("N", (Profile.fixed({"image": (4, 3, 8, 8)}), Profile.fixed({"image": (9, 3, 8, 8)})), 9),
        ("6", (Profile.fixed({"image": (6, 3, 8, 8)}),), 6),
    ],
)
def test_calibration_batch_is_the_models_or_that_of_the_last_profile(
    batch: str, profiles: tuple[Profile, ...], expected: int | None
) -> None:
    assert calibration_batch(conv_net(batch), BuildOptions("int8", profiles=profiles)) == expected


def test_build_over_the_double_says_where_its_ranges_came_from(tmp_path: Path) -> None:
    runtime = HostRuntime()
    cache = tmp_path / "c.cache"
    source = requested_source(runtime, conv_net(), Int8Request(data(), cache=cache))
    engine = runtime.build(conv_net(), BuildOptions("int8", profiles=(Profile.fixed({"image": (6, 3, 8, 8)}),)), source)
    assert engine.record.int8 == "EntropyCalibration2"
    assert engine.record.tensorrt == TENSORRT
    assert TrtCache.load(cache).header == "TRT-8600-EntropyCalibration2"
    assert not runtime.driver.live


def test_build_with_a_bad_middle_batch_raises_it_and_writes_no_cache(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, np.ndarray]]:
        yield from image_batches(2)
        yield {"image": image_batches(1)[0]["image"] * np.nan}

    runtime = HostRuntime()
    source = requested_source(runtime, conv_net(), Int8Request(data(list(broken())), cache=tmp_path / "c.cache"))
    with pytest.raises(DataError, match="batch 2, input 'image' contains NaN"):
        runtime.build(conv_net(), BuildOptions("int8", profiles=(Profile.fixed({"image": (6, 3, 8, 8)}),)), source)
    assert list(tmp_path.iterdir()) == []
    assert not runtime.driver.live
