"""Caches that are written for another TensorRT, merged, read as tables and looked into: each says what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, image_batches
from quantlab.calibration import TrtCache, cache_from_table, load_table
from quantlab.calibration.cache_header import CALIBRATORS, CacheHeader, check_version, header_notices, read_header
from quantlab.calibration.cache_record import load_record
from quantlab.errors import ConfigError

pytestmark = pytest.mark.usefixtures("no_plots")
LEGACY = "0 3fefff2e48e8a71e 3fe0000000000000"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(conv_net(), str(tmp_path / "m.onnx"))
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        table = quantlab.calibrate(conv_net(), image_batches(2, seed=number), "minmax", tensors="all")
        cache_from_table(table, calibrator="MinMaxCalibration").save(f"{number}.cache")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("TRT-8600-EntropyCalibration2", CacheHeader("EntropyCalibration2", "8.6.0")),
        ("TRT-8501-MinMaxCalibration", CacheHeader("MinMaxCalibration", "8.5.1")),
        ("TRT-101601-EntropyCalibration", CacheHeader("EntropyCalibration", "10.16.1")),
        ("TRT-110000-EntropyCalibration2", CacheHeader("EntropyCalibration2", "")),
        ("TRT-86-EntropyCalibration2", CacheHeader("EntropyCalibration2", "")),
        (LEGACY, CacheHeader("LegacyCalibration", "")),
        ("nonsense", None),
    ],
)
def test_first_line_is_read(line: str, expected: CacheHeader | None) -> None:
    assert read_header(line) == expected


@pytest.mark.parametrize("version", ["11.0.0", "12.1.3", "10.17.0", "8.60.0", "1.0.0", "8.6.100"])
def test_version_that_reads_no_cache_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match="has no calibrators|there is no TensorRT"):
        check_version(version)


@pytest.mark.parametrize("header", [f"TRT-8600-{name}" for name in CALIBRATORS])
def test_cache_for_another_version_keeps_calibrator_scales_and_says_what_was_done(
    cli: Callable[..., object], work: Path, header: str
) -> None:
    given = TrtCache(header, TrtCache.load("1.cache").scales)
    given.save("old.cache")
    result = cli("migrate", "m.onnx", "--table", "old.cache", "--tensorrt", "10.16.1", "-o", "new.cache")
    assert result.code == 0
    new = TrtCache.load("new.cache")
    assert (new.header, new.scales) == (header.replace("8600", "101601"), given.scales)
    record = load_record(Path("new.cache"))
    assert f"of {header} scales from old.cache" in record.note
    assert record.model_hash == quantlab.onnx_model.model_hash(conv_net())
    assert load_table("new.cache").provenance.model_hash == record.model_hash


def test_legacy_cache_keeps_its_first_line(cli: Callable[..., object], work: Path) -> None:
    TrtCache(LEGACY, TrtCache.load("1.cache").scales).save("old.cache")
    assert cli("migrate", "m.onnx", "--table", "old.cache", "--tensorrt", "8.6.1", "-o", "new.cache").code == 0
    assert TrtCache.load("new.cache") == TrtCache.load("old.cache")


def test_calibrator_that_is_asked_for_is_written_with_a_warning(cli: Callable[..., object], work: Path) -> None:
    migrate = ("migrate", "m.onnx", "--table", "1.cache", "-o", "new.cache")
    result = cli(*migrate, "--calibrator", "EntropyCalibration2")
    assert (result.code, TrtCache.load("new.cache").header) == (0, "TRT-8600-EntropyCalibration2")
    assert "scales are those of MinMaxCalibration, and the cache says that they are of EntropyCal" in result.err
    for version in ("11.0.0", "8.99.0"):
        assert cli(*migrate, "--tensorrt", version).code == 2
    TrtCache("TRT-8600-MagicCalibration", TrtCache.load("1.cache").scales).save("magic.cache")
    result = cli("migrate", "m.onnx", "--table", "magic.cache", "-o", "new2.cache")
    assert (result.code, Path("new2.cache").exists()) == (2, False)
    assert "TensorRT has no calibrator 'MagicCalibration'" in result.err


def test_min_max_caches_are_merged_to_a_cache_and_to_a_table(cli: Callable[..., object], work: Path) -> None:
    parts = [TrtCache.load(f"{number}.cache") for number in (1, 2)]
    largest = {name: max(part.scales[name] for part in parts) for name in parts[0].scales}
    assert cli("merge", "1.cache", "2.cache", "-o", "whole.cache").code == 0
    assert TrtCache.load("whole.cache") == TrtCache("TRT-8600-MinMaxCalibration", largest)
    assert "largest scale of all parts" in load_record(Path("whole.cache")).note
    assert cli("merge", "1.cache", "2.cache", "-o", "whole.json").code == 0
    table = load_table("whole.json")
    assert {n: np.float32(a / np.float32(127)) for n, a in table.amax.items()} == largest


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("TRT-8600-EntropyCalibration2", "cannot be merged: its amax depends on all values"),
        ("TRT-101601-MinMaxCalibration", "the parts are of TRT-8600-MinMaxCalibration and of TRT-101601"),
        ("TRT-8600-MinMaxCalibration", "two shards are of the same data"),
    ],
)
def test_caches_that_cannot_be_merged_are_refused(
    cli: Callable[..., object], work: Path, header: str, message: str
) -> None:
    TrtCache(header, TrtCache.load("1.cache").scales).save("other.cache")
    result = cli("merge", "1.cache", "other.cache", "-o", "whole.cache")
    assert (result.code, Path("whole.cache").exists()) == (2, False)
    assert message in result.err


def test_merged_tables_are_no_cache(cli: Callable[..., object], work: Path) -> None:
    for number in (1, 2):
        quantlab.calibrate(conv_net(), image_batches(2, seed=number), "minmax").save(f"{number}.json")
    result = cli("merge", "1.json", "2.json", "-o", "whole.cache")
    assert result.code == 2 and "the parts are none" in result.err


def test_cache_becomes_a_table_and_quantize_warns_of_what_is_not_known(cli: Callable[..., object], work: Path) -> None:
    assert cli("migrate", "m.onnx", "--table", "1.cache", "-o", "t.json").code == 0
    assert dict(load_table("t.json").amax) == dict(load_table("1.cache").amax)
    result = cli("quantize", "m.onnx", "--table", "1.cache", "-o", "q.onnx")
    assert result.code == 0 and "what the cache (TRT-8600-MinMaxCalibration) was made from is not known" in result.err
    TrtCache("TRT-110000-MagicCalibration", TrtCache.load("1.cache").scales).save("odd.cache")
    result = cli("quantize", "m.onnx", "--table", "odd.cache", "-o", "q.onnx")
    assert "names no TensorRT that has calibrators" in result.err
    assert "calibrator 'MagicCalibration', which TensorRT does not have" in result.err
    assert header_notices("entropy") == []


def test_record_of_another_cache_is_told_and_not_used(cli: Callable[..., object], work: Path) -> None:
    cli("migrate", "m.onnx", "--table", "1.cache", "-o", "new.cache")
    Path("new.cache").write_bytes(Path("2.cache").read_bytes())
    table = load_table("new.cache")
    assert table.provenance.model_hash == ""
    assert [w for w in table.warnings if "changed after its record was written" in w]
    Path("new.cache.json").write_text("{")
    assert [w for w in load_table("new.cache").warnings if "cannot be read" in w and "is not used" in w]


def test_inspect_knows_every_file_that_is_written(cli: Callable[..., object], work: Path) -> None:
    np.save("x.npy", image_batches(1)[0]["image"])
    data = ("--data", "x.npy")
    assert cli("calibrate", "m.onnx", *data, "-o", "t.json").code == 0
    assert cli("calibrate", "m.onnx", *data, "--order-independent", "-o", "p.npz").code == 0
    assert cli("calibrate", "m.onnx", *data, "-o", "t.cache").code == 0
    assert cli("quantize", "m.onnx", "--table", "t.json", "-o", "q.onnx").code == 0
    assert cli("compare", "m.onnx", "q.onnx", *data, "-o", "report").code == 0
    assert cli("sensitivity", "m.onnx", "--table", "t.json", *data, "--method", "estimate", "-o", "s.json").code == 0
    Path("bench.json").write_text(json.dumps([{"name": "a", "p50_ms": 1.0, "ratio": {"ratio": 1.0}}]))
    Path("pre.json").write_text(cli("presets", "imagenet").out)
    kinds = {
        "t.json": "calibration table", "p.npz": "part of the data", "t.cache": "calibration table", "m.onnx": "model",
        "t.cache.json": "record of a TensorRT calibration cache", "report/report.json": "report of quantlab compare",
        "s.json": "table of quantlab sensitivity", "bench.json": "results of quantlab bench", "pre.json": "preprocess",
    }  # fmt: skip
    for name, kind in kinds.items():
        shown = cli("inspect", name, "--json")
        assert kind in json.loads(shown.out)["kind"], name
        assert cli("inspect", name).code == 0
    made_from = json.loads(cli("inspect", "q.onnx", "--json").out)["made_from"]
    assert made_from["model_hash"] == load_table("t.json").provenance.model_hash
    assert "made from:" in cli("inspect", "q.onnx").out
    for odd in ('{"format": "other"}', '{"format": ["other"]}', '{"format": {}}', "[]"):
        Path("odd.json").write_text(odd)
        assert cli("inspect", "odd.json").code == 2
