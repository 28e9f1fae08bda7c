"""What the commands do, from a request to a file: the rules about options, and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantlab
from models import CONCAT, conv_net, floats, image_batches, parse
from quantlab.api import calibration_job, migration_job
from quantlab.api.calibration_job import CalibrationRequest, calibrate_to_file
from quantlab.api.migration_job import MigrationRequest, WrittenMigration, WrittenScales, migrate_to_file
from quantlab.api.quantization_job import QuantizationRequest, WrittenModel, quantize_to_file
from quantlab.calibration import CalibrationShard, CalibrationTable, TrtCache, load_table
from quantlab.errors import ConfigError, DataError, GraphError
from quantlab.onnx_model import has_qdq
from quantlab.qdq import WeightStyle, tensorrt_cache
from quantlab.qdq.outputs import OUTPUTS, Scales, output_kind

BATCHES = image_batches(2)


@pytest.fixture(scope="module")
def table() -> CalibrationTable:
    return quantlab.calibrate(conv_net(), BATCHES, "minmax", tensors="all")


@pytest.fixture(scope="module")
def qdq(table: CalibrationTable) -> onnx.ModelProto:
    return quantlab.quantize(conv_net(), table).model


def test_every_suffix_is_a_kind_of_file_and_every_other_one_is_refused() -> None:
    for suffix, kind in OUTPUTS.items():
        assert output_kind(Path(f"a.b{suffix}"), list(OUTPUTS)) is kind
        assert kind.suffix == suffix
    with pytest.raises(ConfigError, match="output t.chache has suffix '.chache', which says nothing") as caught:
        output_kind(Path("t.chache"), (".json", ".cache"))
    assert caught.value.hint == "NAME.json for a calibration table; NAME.cache for a TensorRT calibration cache"
    with pytest.raises(ConfigError, match=r"output q\.onnx has suffix '\.onnx'"):
        output_kind(Path("q.onnx"), calibration_job.SUFFIXES)
    for job in (calibration_job, migration_job):
        assert set(job.SUFFIXES) <= set(OUTPUTS)


@pytest.mark.parametrize(("suffix", "tensors"), [(".json", 4), (".cache", 9), (".flatbuffers", 9), (".npz", 4)])
def test_calibration_is_written_as_its_suffix_says(suffix: str, tensors: int, tmp_path: Path) -> None:
    path, seen = tmp_path / f"out{suffix}", []
    request = CalibrationRequest(OUTPUTS[suffix], "minmax", order_independent=suffix == ".npz")
    written = calibrate_to_file(conv_net(), BATCHES, path, request, seen.append)
    assert (written.tensors, written.samples, seen) == (tensors, 12, [6, 12])
    if suffix == ".npz":
        assert len(CalibrationShard.load(path).histograms) == tensors
        return
    amax = load_table(path).amax
    assert len(amax) == tensors
    # a cache holds scales: amax / 127 and back rounds once each
    assert amax["r"] == pytest.approx(quantlab.calibrate(conv_net(), BATCHES, "minmax").amax["r"], rel=2**-23)


def test_cache_is_written_for_the_calibrator_and_the_tensorrt_that_will_read_it(tmp_path: Path) -> None:
    for algorithm, calibrator in (("minmax", "MinMaxCalibration"), ("mse", "EntropyCalibration2")):
        request = CalibrationRequest(OUTPUTS[".cache"], algorithm, tensorrt="10.3.0")
        calibrate_to_file(conv_net(), BATCHES, tmp_path / "c.cache", request)
        assert TrtCache.load(tmp_path / "c.cache").header == f"TRT-100300-{calibrator}"


def test_order_independent_cache_has_a_notice_that_it_is_not_tensorrts(tmp_path: Path) -> None:
    text = "order-independent scales are not those that TensorRT's calibrator would find"
    for suffix, expected in ((".cache", True), (".json", False)):
        request = CalibrationRequest(OUTPUTS[suffix], "minmax", order_independent=True)
        written = calibrate_to_file(conv_net(), BATCHES, tmp_path / f"o{suffix}", request)
        assert (text in written.warnings) == expected


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kind": OUTPUTS[".npz"]}, "depend on the order of the batches: parts of the data cannot be merged"),
        ({"kind": OUTPUTS[".json"], "algorithm": "best"}, "there is no algorithm 'best'"),
        ({"kind": OUTPUTS[".json"], "algorithm": "auto", "order_independent": True}, "auto has no order-independent"),
        ({"kind": OUTPUTS[".cache"], "algorithm": "auto"}, "auto chooses for the tensors of a Q/DQ model only"),
        ({"kind": OUTPUTS[".json"], "algorithm": "auto", "tensors": "all"}, "auto chooses for the tensors of a Q/DQ"),
        ({"kind": OUTPUTS[".cache"], "tensorrt": "10"}, "TensorRT '10' is no version"),
    ],
)
def test_calibration_that_makes_no_sense_is_refused_before_the_work(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        CalibrationRequest(**options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "no scales were given"),
        ({"correct_bias": True}, "--correct-bias needs --data and an FP32 model"),
        ({"batches": BATCHES}, "--data serves --correct-bias and --closest only"),
        ({"requantize": True, "correct_bias": True, "batches": BATCHES}, "--correct-bias needs --data and an FP32"),
        (
            {"requantize": True, "weights": WeightStyle(per_channel=False)},
            "--requantize writes weights with a scale per channel",
        ),
        (
            {"requantize": True, "weights": WeightStyle(stored="float")},
            "--requantize writes weights with a scale per channel",
        ),
    ],
)
def test_quantization_that_makes_no_sense_is_refused(
    options: dict[str, Any], reason: str, table: CalibrationTable
) -> None:
    given = options if reason == "no scales were given" or "requantize" in options else options | {"table": table}
    with pytest.raises(ConfigError, match=reason):
        QuantizationRequest(**given)


def test_quantization_is_written_with_its_placement(table: CalibrationTable, tmp_path: Path) -> None:
    request = QuantizationRequest(table, placement_file=tmp_path / "p.txt")
    written = quantize_to_file(conv_net(), tmp_path / "q.onnx", request)
    expected = quantlab.quantize(conv_net(), table)
    assert onnx.load(tmp_path / "q.onnx") == expected.model
    assert (tmp_path / "p.txt").read_text() == "\n".join(expected.placement.describe()) + "\n"
    worst = [error.sqnr_db.min() for error in written.weight_errors]
    assert worst == sorted(worst)
    assert len(worst) == 3


def test_cost_of_a_shared_scale_is_listed(tmp_path: Path) -> None:
    weights = {"w": floats(4, 4, 1, 1), "v": floats(4, 4, 1, 1, seed=1), "u": floats(4, 8, 1, 1, seed=2)}
    amax = {"x": 1.0, "a": 1.0, "b": 4.0, "c": 4.0}
    request = QuantizationRequest(CalibrationTable({name: np.float32(v) for name, v in amax.items()}))
    written = quantize_to_file(parse(CONCAT, weights), tmp_path / "q.onnx", request)
    assert written.cost_db == {"a": pytest.approx(20 * np.log10(4))}


def test_biases_are_corrected_where_that_is_asked_for(table: CalibrationTable, tmp_path: Path) -> None:
    seen: list[int] = []
    request = QuantizationRequest(table, correct_bias=True, batches=BATCHES)
    written = quantize_to_file(conv_net(), tmp_path / "q.onnx", request, seen.append)
    expected = quantlab.correct_bias(conv_net(), quantlab.quantize(conv_net(), table), BATCHES)
    assert onnx.load(tmp_path / "q.onnx") == expected.model
    assert (written.warnings, seen) == (expected.warnings, [6, 12])


def test_requantization_takes_the_models_scales_or_a_table(
    qdq: onnx.ModelProto, table: CalibrationTable, tmp_path: Path
) -> None:
    doubled = CalibrationTable({name: np.float32(2 * amax) for name, amax in table.amax.items()})
    for given, factor in ((None, 1), (doubled, 2)):
        written = quantize_to_file(qdq, tmp_path / "q.onnx", QuantizationRequest(given, requantize=True))
        assert isinstance(written, WrittenModel)
        found = quantlab.qdq.import_scales(tmp_path / "q.onnx").amax
        assert found["image"] == pytest.approx(factor * float(table.amax["image"]), rel=1e-6)
        assert (written.weight_errors, dict(written.cost_db)) == ((), {})
    with pytest.raises(GraphError, match="no Q/DQ"):
        quantize_to_file(conv_net(), tmp_path / "none.onnx", QuantizationRequest(requantize=True))
    assert not (tmp_path / "none.onnx").exists()


@pytest.mark.parametrize(
    ("suffix", "given", "reason"),
    [
        (".onnx", {}, "no scales were given"),
        (".cache", {"batches": BATCHES}, "--data is for Q/DQ models: a cache computes no outputs"),
    ],
)
def test_migration_that_makes_no_sense_is_refused(suffix: str, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        MigrationRequest(OUTPUTS[suffix], **given)


def test_migration_to_a_model_is_compared_where_there_are_data(table: CalibrationTable, tmp_path: Path) -> None:
    path = tmp_path / "q.onnx"
    alone = migrate_to_file(conv_net(), path, MigrationRequest(OUTPUTS[".onnx"], table))
    assert isinstance(alone, WrittenMigration)
    assert (dict(alone.errors), alone.samples) == ({}, 0)
    compared = migrate_to_file(conv_net(), path, MigrationRequest(OUTPUTS[".onnx"], table, batches=BATCHES))
    assert isinstance(compared, WrittenMigration)
    expected = quantlab.compare(conv_net(), {"q": path}, BATCHES).results[1].errors
    assert (dict(compared.errors), compared.samples) == (dict(expected), 12)
    assert has_qdq(onnx.load(path))


def test_migration_to_scales_says_what_was_written(
    qdq: onnx.ModelProto, table: CalibrationTable, tmp_path: Path
) -> None:
    request = MigrationRequest(OUTPUTS[".cache"], table, "MinMaxCalibration", "10.16.1")
    written = migrate_to_file(conv_net(), tmp_path / "c.cache", request)
    assert written == WrittenScales(9, "TRT-101601-MinMaxCalibration")
    assert TrtCache.load(tmp_path / "c.cache").header == "TRT-101601-MinMaxCalibration"
    of_model = migrate_to_file(qdq, tmp_path / "c.flatbuffers", MigrationRequest(OUTPUTS[".flatbuffers"]))
    assert of_model == WrittenScales(4, "")
    with pytest.raises(DataError, match="the model has no Q/DQ and no table was given"):
        migrate_to_file(conv_net(), tmp_path / "n.cache", MigrationRequest(OUTPUTS[".cache"]))


def test_scales_are_written_as_tensorrts_cache_of_the_model(table: CalibrationTable) -> None:
    cache = Scales(conv_net(), table, tensorrt="8.5.3").cache()
    assert cache == tensorrt_cache(conv_net(), table, "MinMaxCalibration").for_tensorrt("8.5.3")
