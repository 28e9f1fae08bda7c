"""What a TensorRT offers, asked of its module; and what the doctor makes of a machine."""

from __future__ import annotations

from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest

from quantlab.engines.doctor import Finding, Probes, describe_driver, examine
from quantlab.engines.features import Features, features_of
from quantlab.errors import DeviceError, MissingDependencyError
from quantlab.memory import HostDriver


def module(flags: str, creation: str, config: str, tensor: str, types: str = "", **names: Any) -> SimpleNamespace:
    def enum(members: str) -> SimpleNamespace:
        return SimpleNamespace(__members__=dict.fromkeys(members.split()))

    return SimpleNamespace(
        BuilderFlag=enum(flags),
        DataType=enum(f"FLOAT INT8 {types}"),
        NetworkDefinitionCreationFlag=enum(creation),
        IBuilderConfig=SimpleNamespace(**dict.fromkeys(config.split())),
        ITensor=SimpleNamespace(**dict.fromkeys(tensor.split())),
        **names,
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            module("INT8 FP16 VERSION_COMPATIBLE", "EXPLICIT_BATCH", "int8_calibrator builder_optimization_level",
                   "set_dynamic_range", IInt8EntropyCalibrator2=None),
            Features(True, True, False, True, True, True, False),
        ),
        (
            module("INT8 FP16", "EXPLICIT_BATCH", "int8_calibrator", "set_dynamic_range", IInt8EntropyCalibrator2=None),
            Features(True, True, False, True, False, False, False),
        ),
        (
            module("INT8 FP16 VERSION_COMPATIBLE", "EXPLICIT_BATCH STRONGLY_TYPED", "int8_calibrator "
                   "builder_optimization_level", "set_dynamic_range", "INT64", IInt8EntropyCalibrator2=None),
            Features(True, True, True, True, True, True, True),
        ),
        (
            module("TF32 VERSION_COMPATIBLE", "", "builder_optimization_level", "", "INT64"),
            Features(False, False, True, False, True, True, True),
        ),
        (
            module("INT8 FP16", "", "", "", IInt8EntropyCalibrator2=None),
            Features(False, True, False, False, False, False, False),
        ),
    ],
    ids=["8.6", "8.5", "10.16", "11", "calibrators that no build takes"],
)  # fmt: skip
def test_features_are_those_of_the_module(found: Any, expected: Features) -> None:
    assert features_of(found) == expected


def missing() -> str:
    raise MissingDependencyError("TensorRT cannot be imported", hint="pip install it")


def no_gpu() -> str:
    raise DeviceError("no CUDA device")


def unasked() -> str:
    raise AssertionError("asked")


def by_subject(probes: Probes) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine(probes)}


def test_doctor_of_a_whole_machine_finds_that_all_works() -> None:
    found = by_subject(Probes(lambda: "a GPU", lambda: "8.6.0", lambda: "there"))
    assert found["GPU and driver"] == Finding("GPU and driver", "a GPU", True)
    assert found["TensorRT"].state == "8.6.0"
    assert found["onnxruntime"].works
    assert all(found[path].works for path in ("build, run, bench, audit", "implicit INT8 path"))


def test_doctor_without_tensorrt_does_not_ask_for_its_calibrators() -> None:
    found = by_subject(Probes(lambda: "a GPU", missing, unasked))
    assert found["TensorRT"] == Finding("TensorRT", "TensorRT cannot be imported", False, "pip install it")
    assert found["TensorRT calibrators"].state == "unknown without TensorRT"
    path = found["build, run, bench, audit"]
    assert (path.state, path.remedy) == ("does not work here: TensorRT", "pip install it")
    assert found["calibrate, quantize, compare (CPU)"].works


def test_doctor_names_the_first_thing_that_a_path_lacks() -> None:
    found = by_subject(Probes(no_gpu, lambda: "11.4.0", missing))
    assert found["build, run, bench, audit"].state == "does not work here: GPU and driver"
    assert found["build, run, bench, audit"].remedy == ""
    without = by_subject(Probes(lambda: "a GPU", lambda: "11.4.0", missing))
    assert without["build, run, bench, audit"].works
    assert without["implicit INT8 path"].state == "does not work here: TensorRT calibrators"


@pytest.mark.parametrize("installed", [True, False])
def test_doctor_names_another_project_that_was_installed_by_mistake(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name == "quantlab" and not installed:
            raise metadata.PackageNotFoundError(name)
        return "0.5.0"

    monkeypatch.setattr(metadata, "version", version)
    found = by_subject(Probes(lambda: "a GPU", lambda: "8.6.0", lambda: "there"))
    assert ("quantlab" in found) == installed
    if installed:
        assert "0.5.0" in found["quantlab"].state
        assert found["quantlab"].remedy.startswith("pip uninstall quantlab quantlab-trt")


def test_doctor_lets_a_bug_through() -> None:
    with pytest.raises(AssertionError, match="asked"):
        examine(Probes(unasked, lambda: "8.6.0", unasked))


def test_driver_is_described_with_its_memory_in_gib() -> None:
    assert describe_driver(HostDriver(limit=3 * 2**30)) == "host double, compute capability 0.0, 3 GiB (by host)"
