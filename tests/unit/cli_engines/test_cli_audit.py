"""`quantlab audit` and `doctor` over the host double of TensorRT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine_double import HostRuntime
from quantlab.engines.engine import Engine
from quantlab.errors import MissingDependencyError

Cli = Callable[..., Any]


@pytest.fixture
def int8(cli: Cli, work: Path, runtime: HostRuntime) -> Path:
    """An INT8 engine whose second convolution runs in FP16."""
    runtime.float_nodes = ("c",)
    runtime.messages = ("Missing scale and zero-point for tensor c, expect fall back to",)
    flags = ["--best", "--table", work / "t.json", "-o", work / "int8.engine"]
    assert cli("build", work / "fixed.onnx", *flags).code == 0
    return work / "int8.engine"


def test_audit_says_what_runs_in_int8_and_why_the_rest_does_not(cli: Cli, work: Path, int8: Path) -> None:
    done = cli("audit", int8, work / "fixed.onnx", "-o", work / "a.json")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "3 layers, 1.5000 ms"
    assert lines[1].split() == ["int8", "0.5000", "ms", "CaskConvolution", "a"]
    assert lines[4:] == [
        "kinds: 3 CaskConvolution",
        "INT8: 2 of 3 Conv, Gemm and MatMul nodes, 67% of the time",
        "  not INT8: Conv 'c' runs in fp16: tensor 'c' has no INT8 scale",
    ]
    written = json.loads((work / "a.json").read_text())
    assert written["int8_share"] == pytest.approx(2 / 3)
    assert written["weighted"] == {"a": "int8", "c": "fp16", "logits": "int8"}


@pytest.mark.parametrize(("minimum", "code", "said"), [(0.6, 0, ""), (0.9, 3, "below the threshold: 0.667 < 0.9\n")])
def test_audit_below_the_threshold_exits_3_with_its_file_written(
    minimum: float, code: int, said: str, cli: Cli, work: Path, int8: Path
) -> None:
    done = cli("audit", int8, work / "fixed.onnx", "--min-int8", minimum, "-o", work / "a.json")
    assert (done.code, done.err) == (code, said)
    assert json.loads((work / "a.json").read_text())["int8_share"] == pytest.approx(2 / 3)


def test_audit_of_what_does_not_show_exits_3_where_a_share_is_asked_for(
    cli: Cli, work: Path, int8: Path, runtime: HostRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantlab.engines.inspector import Inspection

    region = {"Name": "{ForeignNode[a...logits]}", "LayerType": "Myelin", "Inputs": [], "Outputs": []}
    monkeypatch.setattr(runtime, "inspect", lambda engine, batch: Inspection([region], {region["Name"]: 0.1}))
    done = cli("audit", int8, work / "fixed.onnx", "--min-int8", 0.9, "-o", work / "a.json")
    assert (done.code, done.err) == (3, "below the threshold: the share cannot be told\n")
    assert "INT8: cannot be told, 3 of 3 Conv, Gemm and MatMul nodes do not show" in done.out
    assert json.loads((work / "a.json").read_text())["int8_share"] is None
    assert cli("audit", int8, work / "fixed.onnx").code == 0


def test_audit_of_an_engine_without_details_is_one_error(cli: Cli, work: Path, runtime: HostRuntime) -> None:
    flags = ["--fp16", "--profiling-verbosity", "layer_names_only", "-o", work / "e.engine"]
    assert cli("build", work / "fixed.onnx", *flags).code == 0
    done = cli("audit", work / "e.engine", work / "fixed.onnx")
    assert (done.code, "built without details" in done.err) == (2, True)
    missing = cli("audit", work / "e.engine", work / "none.onnx")
    assert (missing.code, "none.onnx does not exist" in missing.err) == (2, True)


def test_audit_of_a_dynamic_engine_takes_the_shapes_given(
    cli: Cli, work: Path, dynamic: Path, runtime: HostRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    inspect = runtime.inspect
    monkeypatch.setattr(runtime, "inspect", lambda e, batch: seen.append(batch["image"].shape) or inspect(e, batch))
    assert cli("audit", dynamic, work / "m.onnx", "--shapes", "image:8x3x8x8").code == 0
    assert cli("audit", dynamic, work / "m.onnx").code == 0
    assert seen == [(8, 3, 8, 8), (4, 3, 8, 8)]
    wrong = cli("audit", dynamic, work / "m.onnx", "--shapes", "image:9x3x8x8")
    assert (wrong.code, "no optimization profile holds" in wrong.err) == (2, True)


def test_audit_with_another_model_is_told(cli: Cli, work: Path, int8: Path) -> None:
    done = cli("audit", int8, work / "m.onnx", "--json")
    assert "the engine was built from another model" in done.err
    provenance = json.loads(done.out)["provenance"]
    assert provenance["engine_hash"] == Engine.load(int8).hash
    assert provenance["built_from"] != provenance["model_hash"]
    assert "another model" not in cli("audit", int8, work / "fixed.onnx").err


# --- doctor


def test_doctor_marks_what_is_there_and_says_what_to_install_for_the_rest(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantlab.cli import doctor

    def absent() -> str:
        raise MissingDependencyError("TensorRT cannot be imported", hint="pip install tensorrt")

    monkeypatch.setattr(doctor, "_driver", lambda: "a GPU")
    monkeypatch.setattr(doctor, "_tensorrt", absent)
    done = cli("doctor")
    assert done.code == 0
    rows = {line[3:40].strip(): (line[:2].strip(), line[40:].strip()) for line in done.out.splitlines()}
    assert rows["GPU and driver"] == ("ok", "a GPU")
    assert rows["TensorRT"] == ("--", "TensorRT cannot be imported")
    assert rows["TensorRT calibrators"] == ("--", "unknown without TensorRT")
    assert rows["build, run, bench, audit"] == ("--", "does not work here: TensorRT")
    assert "pip install tensorrt" in done.out
