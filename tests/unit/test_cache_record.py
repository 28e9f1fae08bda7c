"""A cache is used only if its record says that it fits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantlab.calibration import TrtCache
from quantlab.calibration.cache_record import CacheRecord, load_record, record_path, refusals, save_cache
from quantlab.errors import DataError

RECORD = CacheRecord("EntropyCalibration2", "model", "data", {"color": "rgb"}, 64, 8, "8.6.0", "a GPU")
CONTENT = TrtCache("TRT-8600-EntropyCalibration2", {"x": np.float32(1), "y": np.float32(2)}).to_bytes()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    save_cache(tmp_path / "c.cache", CONTENT, RECORD)
    return tmp_path / "c.cache"


def test_fitting_cache_has_no_refusals(cache: Path) -> None:
    assert refusals(cache, RECORD, ["x", "y"]) == []
    assert cache.read_bytes() == CONTENT
    assert refusals(cache, CacheRecord(), []) == []  # nothing known, nothing to compare


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("algorithm", "MinMaxCalibration"), ("model_hash", "other"), ("data_hash", "other"), ("batch_size", 32),
        ("preprocess", {"color": "bgr"}), ("batches", 9), ("tensorrt", "10.0.1"), ("gpu", "another GPU"),
    ],
)  # fmt: skip
def test_each_difference_is_a_reason(cache: Path, field: str, value: object) -> None:
    (reason,) = refusals(cache, replace(RECORD, **{field: value}), ["x"])
    assert reason.startswith(f"its {field} is")


def test_incomplete_and_changed_caches_are_refused(cache: Path) -> None:
    (reason,) = refusals(cache, RECORD, ["x", "z", "w"])
    assert reason == "it is incomplete: 2 tensors are missing (first: 'z')"
    cache.write_bytes(CONTENT.replace(b"3f800000", b"3f800001"))
    (reason,) = refusals(cache, RECORD)
    assert "was changed after its record" in reason


def test_cache_without_or_with_a_broken_record_is_refused(cache: Path) -> None:
    record_path(cache).write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        load_record(cache)
    record_path(cache).unlink()
    with pytest.raises(DataError, match=r"has no record c\.cache\.json"):
        refusals(cache, RECORD)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": "quantlab.engine"}, "format 'quantlab.engine', expected"),
        ({"format": "quantlab.calibration_cache.2"}, "format 'quantlab.calibration_cache.2'"),
        ({"format": None}, "format null"),
        ({"color": "red"}, r"unknown keys \['color'\]"),
    ],
)
def test_record_of_another_kind_is_refused(cache: Path, change: dict[str, object], match: str) -> None:
    values = json.loads(record_path(cache).read_text())
    record_path(cache).write_text(json.dumps(values | change))
    with pytest.raises(DataError, match=rf"cache record .*c\.cache\.json cannot be read: {match}"):
        refusals(cache, RECORD)


@pytest.mark.parametrize("text", ["", "[]", "null", '"text"'])
def test_record_that_is_no_json_object_is_refused(cache: Path, text: str) -> None:
    record_path(cache).write_text(text)
    with pytest.raises(DataError, match="cannot be read"):
        load_record(cache)


def test_record_that_says_less_than_is_known_is_a_reason(cache: Path) -> None:
    save_cache(cache, CONTENT, CacheRecord("EntropyCalibration2"))
    reasons = refusals(cache, RECORD)
    assert len(reasons) == 7
    assert "its gpu is unknown, this calibration's a GPU" in reasons


def test_corrupt_cache_raises_with_its_line(cache: Path) -> None:
    cache.write_bytes(CONTENT[:-3])
    with pytest.raises(DataError, match="line 3"):
        refusals(cache, RECORD)
