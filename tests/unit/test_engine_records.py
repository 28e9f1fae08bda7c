"""Engine files: plan and record, every way to break them, and where an engine may run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quantlab.engines.engine import Engine, EngineRecord
from quantlab.engines.messages import NO_INT8_SCALE, explain
from quantlab.engines.options import BuildOptions, Profile
from quantlab.errors import BuildError

OPTIONS = BuildOptions("int8", profiles=(Profile.fixed({"x": (2, 3)}),)).to_dict()
RECORD = EngineRecord("8.6.0", "NVIDIA H200", (9, 0), "hash", OPTIONS, "EntropyCalibration2", 1.5)
WARNED = explain("Missing scale and zero-point for tensor x, expect fall back to non-int8", 3)
ENGINE = Engine(b"plan" * 100, RECORD, (WARNED,))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    ENGINE.save(tmp_path / "e.engine")
    return tmp_path / "e.engine"


def record_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def edit(path: Path, change: Any) -> None:
    values = json.loads(record_of(path).read_text())
    change(values)
    record_of(path).write_text(json.dumps(values))


def test_engine_read_back_from_its_files_is_the_same(saved: Path) -> None:
    loaded = Engine.load(saved)
    assert loaded.plan == ENGINE.plan
    assert loaded.warnings == ENGINE.warnings
    assert replace(loaded.record, options={}) == replace(RECORD, options={})
    assert loaded.record.options["profiles"][0]["opt"] == {"x": [2, 3]}
    assert loaded.record.compute_capability == (9, 0)


def test_engine_record_of_an_earlier_version_loads_with_defaults_and_the_kinds_of_its_warnings(saved: Path) -> None:
    def age(values: Any) -> None:
        del values["record"]["build_seconds"]
        del values["warnings"][0]["kind"]

    edit(saved, age)
    loaded = Engine.load(saved)
    assert loaded.record.build_seconds == 0.0
    assert loaded.warnings[0].kind == NO_INT8_SCALE
    assert loaded.warnings == ENGINE.warnings


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda v: v.update(format="other"), "format 'other', expected"),
        (lambda v: v["record"].update(color="red"), r"unknown keys \['color'\]"),
        (lambda v: v["record"].pop("gpu"), "record: it has no 'gpu'"),
        (
            lambda v: v["record"].update(compute_capability=[9]),
            "record.compute_capability: it is a list of 1, expected 2",
        ),
        (lambda v: v.pop("warnings"), "warnings"),
        (lambda v: v["warnings"][0].update(color="red"), "color"),
        (lambda v: v.pop("plan_hash"), "plan_hash"),
    ],
)
def test_engine_record_that_is_not_one_of_ours_is_refused(saved: Path, change: Any, match: str) -> None:
    edit(saved, change)
    with pytest.raises(BuildError, match=rf"engine record .*e\.engine\.json cannot be read: .*{match}.*build again"):
        Engine.load(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}"])
def test_engine_record_that_is_no_json_object_is_refused(saved: Path, text: str) -> None:
    record_of(saved).write_text(text)
    with pytest.raises(BuildError, match="cannot be read"):
        Engine.load(saved)


def test_engine_record_that_is_no_text_is_refused(saved: Path) -> None:
    record_of(saved).write_bytes(b"\xff\xfe")
    with pytest.raises(BuildError, match="cannot be read"):
        Engine.load(saved)


def test_engine_plan_that_was_changed_or_cut_is_refused(saved: Path) -> None:
    saved.write_bytes(ENGINE.plan[:-1])
    with pytest.raises(BuildError, match="is truncated: 399 bytes, expected 400"):
        Engine.load(saved)
    saved.write_bytes(b"x" + ENGINE.plan[1:])
    with pytest.raises(BuildError, match="is not the one its record describes"):
        Engine.load(saved)


def test_engine_without_record_or_plan_is_refused(saved: Path) -> None:
    record_of(saved).unlink()
    with pytest.raises(BuildError, match=r"has no record e\.engine\.json"):
        Engine.load(saved)
    saved.unlink()
    with pytest.raises(BuildError, match=r"e\.engine does not exist.*quantlab build MODEL"):
        Engine.load(saved)


def test_engine_runs_where_it_was_built() -> None:
    ENGINE.check_runs_here("8.6.0", "NVIDIA H200", (9, 0))
    ENGINE.check_runs_here("8.6.0", "another name", (9, 0))


def test_engine_of_another_tensorrt_is_refused_unless_it_is_version_compatible() -> None:
    with pytest.raises(BuildError, match=r"built by TensorRT 8\.6\.0, this is 8\.6\.1.*version compatible"):
        ENGINE.check_runs_here("8.6.1", "NVIDIA H200", (9, 0))
    compatible = Engine(b"", replace(RECORD, options={"version_compatible": True}))
    compatible.check_runs_here("10.16.1", "NVIDIA H200", (9, 0))


@pytest.mark.parametrize("capability", [(8, 0), (9, 1), (8, 6)])
def test_engine_of_another_kind_of_gpu_is_refused(capability: tuple[int, int]) -> None:
    major, minor = capability
    match = rf"built for NVIDIA H200 \(compute capability 9\.0\), this is other \({major}\.{minor}\)"
    with pytest.raises(BuildError, match=match):
        ENGINE.check_runs_here("8.6.0", "other", capability)


def test_engine_is_summed_up_in_a_line() -> None:
    engine = Engine(bytes(3 * 2**19), RECORD)
    assert engine.summary == "1.5 MiB, int8, EntropyCalibration2, built in 1.5 s"
    assert replace(engine, record=replace(RECORD, int8="")).summary == "1.5 MiB, int8, built in 1.5 s"
