"""quantlab.trt against the real Python bindings of TensorRT 10.16 and 11.4, without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
GONE_IN_11 = {
    # each is reached only behind require_calibrators, require_weak_typing or FEATURES
    "tensorrt.IInt8EntropyCalibrator2",
    "tensorrt.IInt8EntropyCalibrator",
    "tensorrt.IInt8MinMaxCalibrator",
    "tensorrt.IInt8LegacyCalibrator",
    "IBuilderConfig.int8_calibrator",
    "IBuilderConfig.set_calibration_profile",
    "ITensor.set_dynamic_range",
    "ILayer.precision",
    "ILayer.set_output_type",
}


def probe(major: str, question: str) -> Any:
    folder = os.environ.get("QUANTLAB_TRT_BINDINGS", "")
    if not (Path(folder) / major / "done").is_file():
        pytest.skip("QUANTLAB_TRT_BINDINGS does not name a folder made by tests/compat/bindings.py")
    path = str(Path(folder).resolve() / major)
    root = str(HERE.parents[1])
    environment = {**os.environ, "LD_LIBRARY_PATH": path, "PYTHONPATH": os.pathsep.join([path, root])}
    result = subprocess.run(
        [sys.executable, str(HERE / "probe.py"), question], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_usage_is_found_in_the_source() -> None:
    import quantlab

    sys.path.insert(0, str(HERE))
    from usage import uses

    found = {(u.owner, u.name) for u in uses(Path(quantlab.__file__).parent)}
    assert len(found) > 70
    for known in [("Builder", "build_serialized_network"), ("IExecutionContext", "execute_async_v3"), ("", "Runtime")]:
        assert known in found


def test_everything_used_exists_in_10_16() -> None:
    assert probe("10", "api") == []


def test_only_what_is_guarded_is_missing_in_11_4() -> None:
    assert set(probe("11", "api")) == GONE_IN_11


def test_calibrators_work_over_the_real_base_classes_of_10_16() -> None:
    assert probe("10", "calibrators") == []


def test_every_source_of_ranges_fits_the_protocol_in_10_16() -> None:
    assert probe("10", "sources") == []


@pytest.mark.parametrize("major", ["10", "11"])
def test_messages_reach_whoever_collects_them(major: str) -> None:
    assert probe(major, "logger") == []


def test_features_are_those_of_the_version() -> None:
    both = {"strong_typing": True, "optimization_level": True, "version_compatible": True, "int64": True}
    assert probe("10", "features") == both | {"calibrators": True, "weak_typing": True, "dynamic_range": True}
    assert probe("11", "features") == both | {"calibrators": False, "weak_typing": False, "dynamic_range": False}


def test_11_4_imports_everything_else_and_names_the_way_out() -> None:
    (message,) = probe("11", "without-calibrators")
    assert "10.16 is the last version with them" in message
    assert "quantlab calibrate" in message
