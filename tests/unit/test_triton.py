"""Model repositories for Triton: what is written, for which models.

The package `tritonclient` reads the configurations where it is installed; the tests of what they say need it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

import quantlab
from conftest import CliResult
from models import conv_net, floats, image_batches, parse
from quantlab.engines.engine import Engine
from quantlab.triton import Ensemble, Scheduling, TritonOptions, write_repository
from quantlab.triton.text import Word, message_text
from triton_parts import ADD, EIGHT, MODEL, config_of, contents, engine, qdq, saved

Cli = Callable[..., CliResult]


def test_model_is_copied_and_described_by_its_own_shapes_and_types(tmp_path: Path) -> None:
    given = saved(tmp_path, conv_net())
    scheduling = Scheduling(preferred=(8, 4), max_queue_delay_us=100, instances=2, kind="gpu", gpus=(0, 1))
    written = write_repository(given, tmp_path / "repo", replace(MODEL, scheduling=scheduling))
    assert (tmp_path / "repo/net/1/model.onnx").read_bytes() == given.read_bytes()
    assert [row[0] for row in (written.server, written.models[0].perf, written.analyzer)] == [
        "tritonserver", "perf_analyzer", "model-analyzer"
    ]  # fmt: skip
    config = config_of(tmp_path / "repo")
    assert (config.name, config.backend, config.max_batch_size) == ("net", "onnxruntime", 8)
    assert (config.input[0].name, list(config.input[0].dims)) == ("image", [3, 8, 8])
    assert (config.output[0].name, list(config.output[0].dims)) == ("logits", [5])
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 100
    group = config.instance_group[0]
    assert (group.count, group.kind == group.KIND_GPU, list(group.gpus)) == (2, True, [0, 1])
    assert config.version_policy.latest.num_versions == 1
    assert [w.batch_size for w in config.model_warmup] == [1, 8]
    assert list(config.model_warmup[0].inputs["image"].dims) == [3, 8, 8]
    assert not config.HasField("optimization")


@pytest.mark.parametrize(
    "kind", ["bool", "uint8", "int32", "int64", "float16", "float", "double", "string", "bfloat16"]
)
def test_every_type_of_onnx_that_triton_has_is_served(tmp_path: Path, kind: str) -> None:
    given = saved(tmp_path, f"m ({kind}[2,4] x) => ({kind}[2,4] y) {{ y = Identity (x) }}")
    write_repository(given, tmp_path / "repo", TritonOptions(name="net"))
    config = config_of(tmp_path / "repo")
    names = {"float": "FP32", "double": "FP64", "float16": "FP16", "bfloat16": "BF16"}
    kinds = config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number
    found = {kinds[tensor.data_type].name for tensor in (*config.input, *config.output)}
    assert found == {f"TYPE_{names.get(kind, kind.upper())}"}
    assert (config.max_batch_size, list(config.input[0].dims)) == (0, [2, 4])


def test_what_has_one_value_per_sample_is_reshaped(tmp_path: Path) -> None:
    given = saved(tmp_path, "m (float[N] x) => (float[N] y) { y = Add (x, x) }")
    write_repository(given, tmp_path / "repo", MODEL)
    config = config_of(tmp_path / "repo")
    for tensor in (*config.input, *config.output):
        assert (list(tensor.dims), tensor.HasField("reshape"), list(tensor.reshape.shape)) == ([1], True, [])


@pytest.mark.parametrize(
    ("model", "batch", "size", "dims", "said"),
    [
        (ADD, 8, 8, [4], ""),
        (ADD, 0, 0, [-1, 4], "other dynamic dimensions"),
        ("m (float[2,4] x) => (float[2,4] y) { y = Add (x, x) }", None, 0, [2, 4], ""),
        ("m (float[N,4] x, float[2,4] s) => (float[N,4] y) { y = Gemm <transB = 1> (x, w, b) }", None, 0, [-1, 4],
         "'s', float32 (2, 4), has no dynamic batch"),
        ("m (float[N,4] x) => (int64[2,K] y) { y = NonZero (x) }", None, 0, [-1, 4], "'y', int64 (2, K), has no"),
        ("m (float[N,4] x) => (float[K,4] y) { y = Add (x, x) }", 8, 8, [4], "output 'y' begins with 'K'"),
        (
            "m (float[N,4] x, float[M,4] z) => (float[N,4] y, float[M,4] t) { y = Add (x, x) t = Add (z, z) }",
            8, 8, [4], "input 'z' begins with 'M', input 'x' with 'N'",
        ),
    ],
)  # fmt: skip
def test_batch_is_the_dynamic_first_dimension_of_all_tensors_and_nothing_else(
    tmp_path: Path, model: str, batch: int | None, size: int, dims: list[int], said: str
) -> None:
    weights = {"w": floats(4, 4), "b": floats(4)} if "Gemm" in model else {}
    written = write_repository(saved(tmp_path, model, weights), tmp_path / "r", replace(MODEL, batch=batch))
    assert written.network.batch == size
    assert list(written.network.inputs[0].dims) == dims
    assert (said in " ".join(written.facts), bool(written.facts)) == (True, bool(said))
    assert bool(written.models[0].perf) == (-1 not in dims)


def test_other_dynamic_dimensions_are_warmed_up_and_measured_in_the_shapes_given(tmp_path: Path) -> None:
    given = saved(tmp_path, "m (float[N,H,4] x) => (float[N,H,4] y) { y = Add (x, x) }")
    written = write_repository(given, tmp_path / "r", replace(MODEL, shapes={"x": (1, 6, 4)}, warmup="random"))
    assert "--shape=x:6,4" in written.models[0].perf
    config = config_of(tmp_path / "r")
    assert [(list(w.inputs["x"].dims), w.inputs["x"].random_data) for w in config.model_warmup] == [([6, 4], True)] * 2


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, {"precision_mode": "INT8"}),
        ({"accelerator": "none"}, None),
        ({"scheduling": Scheduling(kind="cpu")}, None),
    ],
)
def test_qdq_model_runs_in_int8_on_a_gpu(
    tmp_path: Path, options: dict[str, Any], parameters: dict[str, str] | None
) -> None:
    write_repository(saved(tmp_path, qdq(EIGHT)), tmp_path / "r", replace(MODEL, **options))
    found = config_of(tmp_path / "r").optimization.execution_accelerators.gpu_execution_accelerator
    assert [dict(one.parameters) for one in found] == ([] if parameters is None else [parameters])


def test_table_of_a_float_model_is_where_the_provider_looks_for_it(tmp_path: Path) -> None:
    table = quantlab.calibrate(conv_net(), image_batches(2), "minmax")
    table.save(tmp_path / "t.json")
    options = replace(MODEL, table=tmp_path / "t.json", served_at="/models/")
    written = write_repository(saved(tmp_path, conv_net()), tmp_path / "r", options)
    stored = quantlab.calibration.table_from_ep((tmp_path / "r/net/1/calibration.flatbuffers").read_bytes(), "")
    assert {name: float(amax) for name, amax in stored.amax.items()} == {
        name: float(amax) for name, amax in table.amax.items()
    }
    assert written.server[1] == "--model-repository=/models"
    (found,) = config_of(tmp_path / "r").optimization.execution_accelerators.gpu_execution_accelerator
    assert dict(found.parameters) == {
        "precision_mode": "INT8", "int8_calibration_table_name": "calibration.flatbuffers",
        "int8_use_native_calibration_table": "0", "trt_engine_cache_path": "/models/net/1",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["w.bin", "model.onnx.data", "model.onnx_data", "model.plan"])
def test_weights_beside_a_model_come_along_under_their_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "given").mkdir()
    onnx.save(conv_net(), tmp_path / "given/m.onnx", save_as_external_data=True, location=name, size_threshold=0)
    write_repository(tmp_path / "given/m.onnx", tmp_path / "r", replace(MODEL, version=3))
    loaded = onnx.load(tmp_path / "r/net/3/model.onnx")
    assert loaded.graph.initializer[0].raw_data == conv_net().graph.initializer[0].raw_data
    assert set(contents(tmp_path / "r")) == {"net/config.pbtxt", "net/3/model.onnx", f"net/3/{name}"}
    assert 'default_model_filename: "model.onnx"' in (tmp_path / "r/net/config.pbtxt").read_text()


def test_engine_is_served_in_the_batches_and_shapes_of_its_profiles(tmp_path: Path) -> None:
    path = engine(tmp_path, (1, 2, 4), (2, 8, 16))
    written = write_repository(path, tmp_path / "r", TritonOptions(name="net"))
    assert (tmp_path / "r/net/1/model.plan").read_bytes() == Engine.load(path).plan
    assert "TensorRT 8.6.0 on host double" in written.facts[0]
    assert len(written.facts) == 1
    config = config_of(tmp_path / "r")
    assert (config.backend, config.max_batch_size) == ("tensorrt", 16)
    assert list(config.dynamic_batching.preferred_batch_size) == [2, 8]
    assert list(config.instance_group[0].profile) == ["0", "1"]
    assert config.instance_group[0].kind == config.instance_group[0].KIND_GPU


def test_engine_of_a_fixed_batch_keeps_it_as_a_dimension(tmp_path: Path) -> None:
    written = write_repository(engine(tmp_path, model=conv_net("4")), tmp_path / "r", TritonOptions())
    assert (written.network.batch, written.network.inputs[0].dims) == (0, (4, 3, 8, 8))


def test_engine_with_a_least_batch_says_so_and_is_warmed_up_with_it(tmp_path: Path) -> None:
    written = write_repository(engine(tmp_path, (4, 8, 8)), tmp_path / "r", TritonOptions(name="net"))
    assert "no batch below 4" in written.facts[1]
    assert [w.batch_size for w in config_of(tmp_path / "r").model_warmup] == [4, 8]


def test_batches_that_no_profile_takes_are_told(tmp_path: Path) -> None:
    written = write_repository(engine(tmp_path, (1, 2, 4), (8, 8, 16)), tmp_path / "r", TritonOptions())
    assert "takes a batch of 5" in written.facts[1]


def test_labels_belong_to_the_output_with_as_many_scores(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("".join(f"name {n}\n" for n in range(5)))
    options = replace(MODEL, classes=tmp_path / "c.txt", ensemble=Ensemble(EIGHT))
    write_repository(saved(tmp_path, conv_net()), tmp_path / "r", options)
    for name in ("net", "net_ensemble"):
        assert (tmp_path / "r" / name / "labels.txt").read_text().splitlines()[4] == "name 4"
        assert config_of(tmp_path / "r", name).output[0].label_filename == "labels.txt"


def test_names_of_tensors_survive_the_text(tmp_path: Path) -> None:
    name = 'a "quoted" \\ name\n\tö 図'
    proto = parse(ADD)
    proto.graph.input[0].name = name
    proto.graph.node[0].input[:] = [name, name]
    write_repository(saved(tmp_path, proto), tmp_path / "r", MODEL)
    assert config_of(tmp_path / "r").input[0].name == name


def test_text_of_a_message_has_every_kind_of_value() -> None:
    message = {"a": 1, "b": True, "c": Word("KIND_CPU"), "d": 'x"', "e": [1, -2], "f": [], "g": {}, "h": [{"k": "v"}]}
    assert message_text(message) == ('a: 1\nb: true\nc: KIND_CPU\nd: "x\\042"\ne: [1, -2]\ng { }\nh {\n  k: "v"\n}\n')


def test_later_version_that_stays_is_told(tmp_path: Path) -> None:
    given = saved(tmp_path, conv_net())
    write_repository(given, tmp_path / "r", replace(MODEL, version=2))
    written = write_repository(given, tmp_path / "r", MODEL)
    assert "has version 2: with latest:1 it is served, not 1" in written.facts[-1]
    policy = Scheduling(versions="specific:1")
    assert not write_repository(given, tmp_path / "r", replace(MODEL, scheduling=policy)).facts
    assert set(contents(tmp_path / "r")) == {"net/config.pbtxt", "net/1/model.onnx", "net/2/model.onnx"}


def test_other_versions_that_the_configuration_does_not_fit_are_told(tmp_path: Path) -> None:
    write_repository(saved(tmp_path, conv_net()), tmp_path / "r", MODEL)
    path = engine(tmp_path, (1, 2, 4))
    for versions, said in (
        ("all", "version 1 in .* is served too and has no model.plan: the configuration is that of version 2"),
        ("latest:2", "version 1 in .* is served too and has no model.plan"),
        ("specific:2,7", "has no version 7, which specific:2,7 serves"),
        ("latest:1", "the engine runs with TensorRT"),
    ):
        options = TritonOptions(name="net", version=2, scheduling=Scheduling(versions=versions))
        assert re.search(said, write_repository(path, tmp_path / "r", options).facts[-1]), versions


def test_command_prints_what_serves_and_measures(cli: Cli, tmp_path: Path) -> None:
    given = saved(tmp_path, qdq(EIGHT))
    done = cli("triton", given, "--batch", 8, "--ensemble", "--served-at", "/models", "-o", tmp_path / "r")
    assert done.code == 0, done.err
    programs = [line.split()[0] for line in done.out.splitlines()[-4:]]
    assert programs == ["tritonserver", "perf_analyzer", "perf_analyzer", "model-analyzer"]
    assert "input image FP32 [3, 8, 8]" in done.out
    refused = cli("triton", given, "--batch", 8, "--preset", "imagenet", "-o", tmp_path / "s")
    assert (refused.code, "--preset does nothing here: there is no --ensemble" in refused.err) == (2, True)
