"""Calibration tables and TensorRT's caches as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse
from quantlab.calibration import CalibrationTable, Provenance, TrtCache, cache_from_table, load_table, table_from_cache
from quantlab.errors import DataError
from quantlab.observers import MinMax


def table() -> CalibrationTable:
    amax = {"a": np.float32(0.1), "b": np.float32(3.4e38), "zero": np.float32(0)}
    return CalibrationTable(amax, Provenance("entropy", "m", "d", {"color": "rgb"}, 1, 2, 2), ("careful",))


def test_table_survives_json_bit_for_bit(tmp_path: Path) -> None:
    table().save(tmp_path / "t.json")
    back = CalibrationTable.load(tmp_path / "t.json")
    assert back == table()
    assert load_table(tmp_path / "t.json") == table()


def test_table_scale_of_missing_tensor_raises() -> None:
    with pytest.raises(DataError, match="no tensor 'x'"):
        table().scale("x")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1])
def test_table_with_bad_amax_raises(bad: float) -> None:
    with pytest.raises(DataError, match="amax of tensor 'a'"):
        CalibrationTable({"a": np.float32(bad)})


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"provenance": {"surprise": 1}},
        {"amax": {"a": "x"}},
        {"amax": [1]},
        {"amax": {"a": -1}},
    ],
)
def test_table_file_with_wrong_content_raises(change: dict[str, object]) -> None:
    text = json.dumps(json.loads(table().to_json()) | change)
    with pytest.raises(DataError):
        CalibrationTable.from_json(text)


def test_table_file_broken_or_missing_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a quantlab calibration table"):
        CalibrationTable.from_json("{")
    with pytest.raises(DataError, match="cannot be read"):
        CalibrationTable.load(tmp_path / "none.json")


def test_table_of_another_model_is_refused_by_hash_and_by_names() -> None:
    made = quantlab.calibrate(conv_net(), image_batches(1))
    with pytest.raises(DataError, match="made for another model"):
        quantlab.quantize(conv_net(batch="7"), made)
    foreign = CalibrationTable({"image": np.float32(1), "elsewhere": np.float32(1)})
    with pytest.raises(DataError, match=r"of another model: 1 of its 2 tensors \(first: 'elsewhere'\)"):
        quantlab.quantize(conv_net(), foreign)


# --- caches


def test_cache_first_line_lines_and_zero_are_as_tensorrts() -> None:
    amax = {"x": np.float32(127), "a: b": np.float32(0), "ü": np.float32(1e-40)}
    content = cache_from_table(CalibrationTable(amax)).to_bytes()
    assert content.startswith(b"TRT-8600-EntropyCalibration2\nx: 3f800000\na: b: 0\n")
    assert content.endswith(b"\n")
    assert TrtCache.from_bytes(content).to_bytes() == content


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "line 1"),
        (b"hello\nx: 3f800000\n", "line 1: 'hello'"),
        (b"TRT-8600-EntropyCalibration2\n", "has no tensors"),
        (b"TRT-8600-EntropyCalibration2\nx: 3f800000\nbroken\n", "line 3: 'broken' is corrupt"),
        (b"TRT-8600-EntropyCalibration2\nx: 3f80000000\n", "line 2"),
        (b"TRT-8600-EntropyCalibration2\nx: 7fc00000\n", "line 2"),
        (b"TRT-8600-EntropyCalibration2\nx: bf800000\n", "line 2"),
        (b"TRT-8600-EntropyCalibration2\nx: 3f800000\nx: 3f800000\n", "line 3"),
        (b"\xff\xfe", "is not text"),
    ],
)
def test_corrupt_cache_names_the_line(content: bytes, match: str) -> None:
    with pytest.raises(DataError, match=match):
        TrtCache.from_bytes(content)


def test_cache_with_windows_line_ends_is_read() -> None:
    cache = TrtCache.from_bytes(b"TRT-8600-MinMaxCalibration\r\nx: 3f800000\r\n")
    assert table_from_cache(cache).amax == {"x": np.float32(127)}


def test_name_with_a_line_break_cannot_be_cached() -> None:
    with pytest.raises(DataError, match="cannot stand in a calibration cache"):
        TrtCache("TRT-8600-MinMaxCalibration", {"a\nb": np.float32(1)}).to_bytes()


def test_missing_cache_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        TrtCache.load(tmp_path / "none.cache")


def test_truncated_cache_is_refused_not_read_as_a_tiny_scale() -> None:
    content = cache_from_table(CalibrationTable({"x": np.float32(1), "y": np.float32(2)})).to_bytes()
    for cut in range(1, 10):
        with pytest.raises(DataError, match="truncated"):
            TrtCache.from_bytes(content[:-cut])


def test_cache_gives_pooling_outputs_their_inputs_scale() -> None:
    text = """m (float[N,2,8,8] x) => (float[N,2,2,2] y) {
        a = AveragePool <kernel_shape = [2,2], strides = [2,2]> (x)
        y = MaxPool <kernel_shape = [2,2], strides = [2,2]> (a)
    }"""
    model = parse(text)
    table = quantlab.calibrate(model, [{"x": floats(2, 2, 8, 8)}], MinMax(), tensors="all")
    assert table.amax["a"] < table.amax["x"]
    scales = quantlab.tensorrt_cache(model, table).scales
    assert scales["x"] == scales["a"] == scales["y"]
