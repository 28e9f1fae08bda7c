"""What `quantlab triton` refuses: one error, and nothing written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import quantlab
from conftest import CliResult
from models import conv_net, image_batches
from quantlab.data import Preprocess
from quantlab.errors import QuantlabError
from quantlab.triton import Ensemble, Scheduling, TritonOptions, write_repository
from quantlab.triton.validate import schema
from triton_parts import ADD, EIGHT, MODEL, contents, engine, qdq, saved

Cli = Callable[..., CliResult]


SCALAR = "m (float x) => (float y) { y = Add (x, x) }"
FIXED = "m (float[2,4] x) => (float[2,4] y) { y = Add (x, x) }"
SEQUENCE = "m (float[N,4] x) => (seq(float[N,4]) y) { y = SequenceConstruct (x) }"
RANKLESS = "m (float[N,4] x) => (float y) { y = Unknown.Op (x) }"
TWO = "m (float[N,3,8,8] x, float[N,3,8,8] z) => (float[N,3,8,8] y) { y = Add (x, z) }"
NHWC = "m (float[N,8,8,3] x) => (float[N,8,8,3] y) { y = Add (x, x) }"
BYTES = "m (uint8[N,3,8,8] x) => (uint8[N,3,8,8] y) { y = Identity (x) }"


def with_ensemble(preprocess: Preprocess | None = EIGHT) -> dict[str, Any]:
    return {"batch": 8, "ensemble": Ensemble(preprocess)}


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (ADD, {}, "input 'x' has a dynamic batch"),
        (FIXED, {"batch": 4}, "batch 4, but the first dimension of 'x' is not dynamic"),
        (SCALAR, {}, "'x' is a scalar"),
        (SEQUENCE, {"batch": 4}, "'y' is a sequence, and Triton takes tensors only"),
        (ADD, {"batch": 4, "shapes": {"z": (1, 4)}}, "shapes name 'z', the model has x"),
        (ADD, {"batch": 4, "shapes": {"x": (1, 5)}}, r"shape \(1, 5\) does not fit input 'x'"),
        (ADD, {"batch": 0, "warmup": "zero"}, "of which shape is a request"),
        (ADD, {"batch": 4, "scheduling": Scheduling(preferred=(8,))}, "preferred batch size 8 is more than"),
        (FIXED, {"scheduling": Scheduling(preferred=(8,))}, "the largest batch is 0"),
        (ADD, {"batch": 4, "accelerator": "tensorrt", "scheduling": Scheduling(kind="cpu")}, "not run on the CPU"),
        (ADD, {"batch": 4, "fp16": True, "accelerator": "none"}, "without the accelerator does nothing"),
        (ADD, with_ensemble(None), "does not say how its images are preprocessed"),
        (TWO, with_ensemble(), "feeds one input with images, the network has 2"),
        (NHWC, with_ensemble(), r"makes FP32 \[3, 8, 8\] \(nchw\) of an image, input x FP32 \[8, 8, 3\] is another"),
        (BYTES, with_ensemble(), "input x UINT8"),
        (ADD, with_ensemble(), r"input x FP32 \[4\] is another"),
    ],
)
def test_what_does_not_go_together_is_one_error_and_nothing_is_written(
    tmp_path: Path, model: str, options: dict[str, Any], said: str
) -> None:
    given = saved(tmp_path, model)
    with pytest.raises(QuantlabError, match=said) as raised:
        write_repository(given, tmp_path / "r", TritonOptions(**options))
    assert raised.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["given.onnx"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TritonOptions(name="../up"), "cannot be the name of a model"),
        (lambda: TritonOptions(name=".hidden"), "cannot be the name of a model"),
        (lambda: TritonOptions(name="n" * 201), "cannot be the name of a model"),
        (lambda: TritonOptions(name="a b"), "cannot be the name of a model"),
        (lambda: TritonOptions(name=""), "cannot be the name of a model"),
        (lambda: TritonOptions(version=0), "version 0, expected at least 1"),
        (lambda: TritonOptions(batch=-1), "batch -1"),
        (lambda: TritonOptions(warmup="hot"), "warm-up 'hot' is not known"),
        (lambda: TritonOptions(scheduling=Scheduling(versions="specific:2")), "specific:2 does not serve it"),
        (lambda: Scheduling(versions="newest"), "'newest' is no version policy"),
        (lambda: Scheduling(kind="tpu"), "kind 'tpu' is not known"),
        (lambda: Scheduling(kind="cpu", gpus=(0,)), "GPUs are given for instances on the CPU"),
        (lambda: Scheduling(gpus=(-1,)), "GPU -1, expected at least 0"),
        (lambda: Scheduling(instances=0), "number of instances 0"),
        (lambda: Scheduling(dynamic=False, preferred=(4,)), "without dynamic batching does nothing"),
    ],
)
def test_option_that_means_nothing_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(QuantlabError, match=said):
        make()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scheduling": Scheduling(kind="cpu")}, "an engine does not run on the CPU"),
        ({"batch": 32}, "batch 32, but the engine takes at most 8"),
        ({"batch": 1}, "batch 1, but the engine takes at least 2"),
        ({"scheduling": Scheduling(preferred=(1,))}, "preferred batch size 1 is less than the engine takes"),
        ({"accelerator": "tensorrt"}, "an accelerator is for ONNX models"),
        ({"table": Path("t.json")}, "a table is for ONNX models"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(QuantlabError, match=said):
        write_repository(engine(tmp_path, (2, 4, 8)), tmp_path / "r", TritonOptions(**options))


def test_engine_whose_record_says_nothing_of_its_inputs_is_refused(tmp_path: Path) -> None:
    path = engine(tmp_path, (1, 2, 4))
    record = json.loads((tmp_path / "e.engine.json").read_text())
    del record["record"]["inputs"]
    (tmp_path / "e.engine.json").write_text(json.dumps(record))
    with pytest.raises(QuantlabError, match="does not say what goes in and out"):
        write_repository(path, tmp_path / "r")
    (tmp_path / "e.engine.json").unlink()
    with pytest.raises(QuantlabError, match="has no record"):
        write_repository(path, tmp_path / "r")


def test_class_list_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("cat\ndog\n")
    with pytest.raises(QuantlabError, match="has 2 classes, and no output has as many scores: logits FP32"):
        write_repository(saved(tmp_path, conv_net()), tmp_path / "r", replace(MODEL, classes=tmp_path / "c.txt"))
    for number in (2, 999_999_999):  # counting up to it would take minutes
        (tmp_path / "c.txt").write_text(json.dumps({"cat": 0, "dog": number}))
        with pytest.raises(QuantlabError, match=r"has no class 1"):
            write_repository(saved(tmp_path, conv_net()), tmp_path / "r", replace(MODEL, classes=tmp_path / "c.txt"))


def test_table_and_qdq_nodes_exclude_each_other(tmp_path: Path) -> None:
    table = quantlab.calibrate(conv_net(), image_batches(2), "minmax")
    table.save(tmp_path / "t.json")
    with pytest.raises(QuantlabError, match="a calibration table needs the FP32 model"):
        write_repository(saved(tmp_path, qdq(EIGHT)), tmp_path / "r", replace(MODEL, table=tmp_path / "t.json"))


def test_no_input_is_ever_replaced_and_no_half_of_a_repository_stays(tmp_path: Path) -> None:
    given = saved(tmp_path, conv_net())
    write_repository(given, tmp_path / "r", MODEL)
    before = contents(tmp_path)
    with pytest.raises(QuantlabError, match="is the input"):
        write_repository(tmp_path / "r/net/1/model.onnx", tmp_path / "r", replace(MODEL, ensemble=Ensemble(EIGHT)))
    preprocess = tmp_path / "r/other_preprocess/1/preprocess.json"
    preprocess.parent.mkdir(parents=True)
    preprocess.write_text("precious")
    options = replace(MODEL, name="other", ensemble=Ensemble(EIGHT, preprocess))
    with pytest.raises(QuantlabError, match="is the input"):
        write_repository(given, tmp_path / "r", options)
    assert preprocess.read_text() == "precious"
    assert {name: text for name, text in contents(tmp_path).items() if "other" not in name} == before


def test_without_tritonclient_it_is_written_and_said_that_nothing_was_validated(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    done = cli("triton", saved(tmp_path, conv_net()), "--batch", 4, "-o", tmp_path / "r")
    assert (done.code, "not compared with Triton's schema" in done.err) == (0, True)
    assert "[triton]'" in done.err
    assert (tmp_path / "r/given/config.pbtxt").is_file()


def test_configuration_that_the_schema_refuses_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.protobuf.struct_pb2 import Struct

    monkeypatch.setattr("quantlab.triton.repository.schema", lambda: (Struct, ""))
    with pytest.raises(QuantlabError, match="Triton's schema refuses the configuration"):
        write_repository(saved(tmp_path, conv_net()), tmp_path / "r", MODEL)
    assert not (tmp_path / "r").exists()


def test_schema_that_cannot_be_used_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tritonclient" / "grpc"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "model_config_pb2.py").write_text("raise RuntimeError('made by another protobuf')")
    for name in [name for name in sys.modules if name.split(".")[0] == "tritonclient"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert schema() == (None, "the schema of tritonclient cannot be used: made by another protobuf")
    for name in [name for name in sys.modules if name.split(".")[0] == "tritonclient"]:
        monkeypatch.delitem(sys.modules, name)
