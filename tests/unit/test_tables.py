"""Calibration tables and TensorRT's caches as files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import quantlab
from models import conv_net, floats, image_batches, parse
from quantlab.calibration import CalibrationTable, Provenance, TrtCache, cache_from_table, load_table, table_from_cache
from quantlab.errors import ConfigError, DataError, Notice
from quantlab.observers import MinMax
from quantlab.qdq import tensorrt_cache


def table() -> CalibrationTable:
    amax = {"a": np.float32(0.1), "b": np.float32(3.4e38), "zero": np.float32(0)}
    warnings = (Notice("careful"), Notice("tensor 'zero' is all zero in the calibration data", "all_zero", "zero"))
    return CalibrationTable(amax, Provenance("entropy", "m", "d", {"color": "rgb"}, 1, 2, 2), warnings)


def kinds(made: CalibrationTable) -> list[tuple[str, str]]:
    return [(warning.kind, warning.tensor) for warning in made.warnings]


def test_table_survives_json_bit_for_bit(tmp_path: Path) -> None:
    table().save(tmp_path / "t.json")
    back = CalibrationTable.load(tmp_path / "t.json")
    assert back == table() == load_table(tmp_path / "t.json")
    assert {n: a.tobytes() for n, a in back.amax.items()} == {n: a.tobytes() for n, a in table().amax.items()}
    assert kinds(back) == kinds(table()) == [("", ""), ("all_zero", "zero")]


def test_table_of_a_user_may_have_plain_texts_for_warnings() -> None:
    made = CalibrationTable({"a": np.float32(1)}, warnings=("careful",))  # type: ignore[arg-type]
    assert kinds(CalibrationTable.from_json(made.to_json())) == [("", "")]
    assert made.warnings == ("careful",)


def test_table_file_of_an_earlier_or_later_version_keeps_its_warnings() -> None:
    content = json.loads(table().to_json())
    earlier = {key: value for key, value in content.items() if key != "warning_kinds"}
    read = CalibrationTable.from_json(json.dumps(earlier))
    assert (read.warnings, kinds(read)) == (table().warnings, [("", ""), ("", "")])
    later = content | {"warning_kinds": [["not_known_yet", ""], ["all_zero", "zero"]]}
    read = CalibrationTable.from_json(json.dumps(later))
    assert (read.warnings, kinds(read)) == (table().warnings, [("", ""), ("all_zero", "zero")])


def test_table_scale_of_missing_tensor_raises() -> None:
    with pytest.raises(DataError, match="no tensor 'x'"):
        table().scale("x")


def test_table_scale_is_amax_over_127_and_never_zero() -> None:
    assert table().scale("a") == np.float32(np.float32(0.1) / np.float32(127))
    assert table().scale("zero") == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1])
def test_table_with_bad_amax_raises(bad: float) -> None:
    with pytest.raises(DataError, match=f"amax of tensor 'a' is {bad}.*, expected finite and >= 0"):
        CalibrationTable({"a": np.float32(bad)})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": "other"}, r"f is not a quantlab calibration table \(version 1\): format 'other' version 1"),
        ({"version": 2}, "format 'quantlab.calibration_table' version 2"),
        ({"provenance": {"surprise": 1}}, r"provenance: unknown keys \['surprise'\]"),
        ({"provenance": 3}, "f is not a quantlab calibration table.*provenance: it is 3, expected an object"),
        ({"amax": {"a": "x"}}, "f is not a quantlab calibration table.*amax.a: it is 'x', expected a finite number"),
        ({"amax": [1]}, "f is not a quantlab calibration table.*amax: it is a list, expected an object"),
        ({"amax": {"a": -1}}, "amax of tensor 'a' is -1.0, expected finite and >= 0"),
        ({"warning_kinds": [["", ""]]}, "f is not a quantlab calibration table.*shorter"),
    ],
)
def test_table_file_with_wrong_content_raises(change: dict[str, object], match: str) -> None:
    text = json.dumps(json.loads(table().to_json()) | change)
    with pytest.raises(DataError, match=match):
        CalibrationTable.from_json(text, "f")


@pytest.mark.parametrize("key", ["format", "version", "provenance", "amax"])
def test_table_file_without_a_key_raises(key: str) -> None:
    content = json.loads(table().to_json())
    del content[key]
    with pytest.raises(DataError, match=f"not a quantlab calibration table.*'{key}'"):
        CalibrationTable.from_json(json.dumps(content))


def test_kind_of_a_table_file_is_known_by_its_content_and_its_suffix(tmp_path: Path) -> None:
    table().save(tmp_path / "t.txt")
    assert load_table(tmp_path / "t.txt") == table()
    (tmp_path / "indented.txt").write_text("\n  " + table().to_json())
    assert load_table(tmp_path / "indented.txt") == table()
    for name, match in (
        ("t.json", "is not a quantlab calibration table"),
        ("t.cache", "is not the first line of a Tens"),
    ):
        (tmp_path / name).write_text("hello\n")
        with pytest.raises(DataError, match=match):
            load_table(tmp_path / name)


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


@pytest.mark.parametrize(
    ("version", "digits"), [("8.6.0", "8600"), ("8.6.1", "8601"), ("9.3.0", "9300"), ("10.16.1", "101601")]
)
def test_cache_for_another_tensorrt_has_its_digits_and_the_same_calibrator(version: str, digits: str) -> None:
    cache = TrtCache("TRT-8600-MinMaxCalibration", {"x": np.float32(1)})
    moved = cache.for_tensorrt(version)
    assert (moved.header, moved.scales) == (f"TRT-{digits}-MinMaxCalibration", cache.scales)


@pytest.mark.parametrize("version", ["", "8", "8.6", "10.x.1", "10.16.1.11"])
def test_cache_for_something_that_is_no_version_raises(version: str) -> None:
    with pytest.raises(ConfigError, match=f"TensorRT '{version}' is no version"):
        TrtCache("TRT-8600-MinMaxCalibration", {"x": np.float32(1)}).for_tensorrt(version)


def test_saved_cache_is_read_back(tmp_path: Path) -> None:
    cache = cache_from_table(table(), calibrator="MinMaxCalibration", tensorrt="101601")
    cache.save(tmp_path / "t.cache")
    assert (tmp_path / "t.cache").read_bytes().startswith(b"TRT-101601-MinMaxCalibration\n")
    assert TrtCache.load(tmp_path / "t.cache") == cache
    read = load_table(tmp_path / "t.cache")
    assert (read.amax, read.provenance.source) == (table_from_cache(cache).amax, "t.cache")
    known = Provenance(algorithm="TRT-101601-MinMaxCalibration", source="t.cache")
    assert read.provenance == known  # and nothing else
    assert (known.batches, known.samples, known.batch_size, known.model_hash, known.preprocess) == (0, 0, 0, "", None)


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
    scales = tensorrt_cache(model, table).scales
    assert scales["x"] == scales["a"] == scales["y"]


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="needs names of open files")
def test_table_is_read_from_a_pipe(tmp_path: Path) -> None:
    """`--table <(command)`: what is in it comes once."""
    table = CalibrationTable({"x": np.float32(1)})
    for text in (table.to_json(), "TRT-8600-EntropyCalibration2\nx: 3c010204\n"):
        reader, writer = os.pipe()
        os.write(writer, text.encode())
        os.close(writer)
        try:
            assert list(load_table(Path(f"/dev/fd/{reader}")).amax) == ["x"]
        finally:
            os.close(reader)
