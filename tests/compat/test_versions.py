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
    "IInt8EntropyCalibrator2.__init__",
    "IBuilderConfig.int8_calibrator",
    "IBuilderConfig.set_calibration_profile",
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

    found = {(u.owner, u.name) for u in uses(Path(quantlab.__file__).parent / "trt")}
    assert len(found) > 70
    for known in [("Builder", "build_serialized_network"), ("IExecutionContext", "execute_async_v3"), ("", "Runtime")]:
        assert known in found


def test_everything_used_exists_in_10_16() -> None:
    assert probe("10", "api") == []


def test_only_what_is_guarded_is_missing_in_11_4() -> None:
    assert set(probe("11", "api")) <= GONE_IN_11


def test_calibrators_work_over_the_real_base_classes_of_10_16() -> None:
    assert probe("10", "calibrators") == []


def test_engine_files_messages_and_audit_compute_without_a_device() -> None:
    assert probe("10", "pure") == []


def test_audit_command_says_what_is_int8_and_where_that_cannot_be_told() -> None:
    shown, half, hidden = probe("10", "audit-command")
    assert shown["code"] == 0
    assert "INT8: 1 of 1 Conv, Gemm and MatMul nodes, 100% of the time" in shown["said"]
    assert half["code"] == 3
    assert "not INT8: Conv 'b' runs in fp16: no scale" in half["said"]
    assert "below the threshold: 0.500 < 0.9" in half["said"]
    assert hidden["code"] == 3
    assert "INT8: cannot be told, 1 of 1 Conv, Gemm and MatMul nodes do not show" in hidden["said"]
    assert "below the threshold: the share cannot be told" in hidden["said"]
    assert [a["json"]["int8_share"] for a in (shown, half, hidden)] == [1.0, 0.5, None]


def test_11_4_imports_everything_else_and_names_the_way_out() -> None:
    (message,) = probe("11", "without-calibrators")
    assert "10.16 is the last version with them" in message
    assert "quantlab calibrate" in message
