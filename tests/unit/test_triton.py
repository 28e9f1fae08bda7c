"""Model repositories for Triton: what is written, for which models, and what is refused.

The package `tritonclient` reads the configurations where it is installed; the tests of what they say need it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

import quantlab
from conftest import CliResult
from engine_double import HostRuntime
from models import conv_net, floats, image_batches, parse
from quantlab.data import ImageBatches, Preprocess
from quantlab.engines.engine import Engine
from quantlab.engines.options import BuildOptions, Profile
from quantlab.errors import QuantlabError
from quantlab.triton import Ensemble, Scheduling, TritonOptions, write_repository
from quantlab.triton.text import Word, message_text
from quantlab.triton.validate import schema

Cli = Callable[..., CliResult]
EIGHT = Preprocess("exact", (8, 8), scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1))
ADD = "m (float[N,4] x) => (float[N,4] y) { y = Add (x, x) }"
MODEL = TritonOptions(name="net", batch=8)


def config_of(folder: Path, name: str = "net") -> Any:
    """A configuration as Triton's schema reads it."""
    pytest.importorskip("tritonclient", reason="the extra 'triton' is not installed")
    from google.protobuf import text_format

    message_class, problem = schema()
    assert message_class is not None, problem
    return text_format.Parse((folder / name / "config.pbtxt").read_text(), message_class())


def saved(tmp_path: Path, model: onnx.ModelProto | str, weights: dict[str, np.ndarray] | None = None) -> Path:
    path = tmp_path / "given.onnx"
    onnx.save(parse(model, weights) if isinstance(model, str) else model, path)
    return path


def engine(tmp_path: Path, *batches: tuple[int, int, int], model: onnx.ModelProto | None = None) -> Path:
    profiles = tuple(Profile(*({"image": (size, 3, 8, 8)} for size in three)) for three in batches)
    HostRuntime().build(model or conv_net(), BuildOptions(profiles=profiles)).save(tmp_path / "e.engine")
    return tmp_path / "e.engine"


def qdq(preprocess: Preprocess) -> onnx.ModelProto:
    images = np.random.default_rng(0).integers(0, 256, (8, 9, 12, 3), np.uint8)
    batches = ImageBatches(images, preprocess, input_name="image", batch_size=4)
    return quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), batches, "minmax")).model


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


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


class _Tensor:
    """As that of `triton_python_backend_utils`."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[np.ndarray], Any]:
    """The model.py of a folder as Triton's Python backend runs it: images to a response."""
    backend = types.ModuleType("triton_python_backend_utils")
    for name, value in {
        "Tensor": _Tensor,
        "TritonError": str,
        "InferenceResponse": lambda output_tensors, error=None: SimpleNamespace(tensors=output_tensors, error=error),
        "get_input_tensor_by_name": lambda request, name: next(t for t in request if t.name == name),
    }.items():
        setattr(backend, name, value)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    monkeypatch.syspath_prepend(str(folder / "1"))
    spec = importlib.util.spec_from_file_location("served_model", folder / "1" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    model.initialize({"model_config": json.dumps({"input": [{"name": "images"}], "output": [{"name": "image"}]})})
    for name in [name for name in sys.modules if name.startswith("quantlab_preprocess")]:
        monkeypatch.delitem(sys.modules, name)
    return lambda images: model.execute([[_Tensor("images", images)]])[0]


@pytest.mark.parametrize(
    "preprocess",
    [
        EIGHT,
        replace(EIGHT, resize="letterbox", size=(8, 8), color="bgr"),
        replace(EIGHT, resize="short_side", size=(10, 10), crop=(8, 8), interpolation="bicubic"),
    ],
    ids=lambda p: p.resize,
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_preprocess_model_makes_what_quantlab_makes_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preprocess: Preprocess, channels: int
) -> None:
    write_repository(saved(tmp_path, conv_net()), tmp_path / "r", replace(MODEL, ensemble=Ensemble(preprocess)))
    images = np.random.default_rng(1).integers(0, 256, (3, 11, 9, channels), np.uint8)
    (want,) = ImageBatches(images, preprocess, input_name="image", batch_size=3)
    response = served(tmp_path / "r" / "net_preprocess", monkeypatch)(images)
    got = response.tensors[0].array
    assert (response.error, response.tensors[0].name, got.dtype) == (None, "image", np.float32)
    assert got.tobytes() == want["image"].tobytes()


def test_images_that_cannot_be_used_are_an_error_of_their_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_repository(saved(tmp_path, conv_net()), tmp_path / "r", replace(MODEL, ensemble=Ensemble(EIGHT)))
    ask = served(tmp_path / "r" / "net_preprocess", monkeypatch)
    assert "image array is uint8 (8, 8, 2), expected" in ask(np.zeros((1, 8, 8, 2), np.uint8)).error
    assert "there are no images" in ask(np.zeros((0, 8, 8, 3), np.uint8)).error


def test_preprocess_model_needs_numpy_and_pillow_only(tmp_path: Path) -> None:
    write_repository(saved(tmp_path, conv_net()), tmp_path / "r", replace(MODEL, ensemble=Ensemble(EIGHT)))
    script = (
        "import sys, types; sys.modules.update(dict.fromkeys(('quantlab', 'onnx', 'onnxruntime')));"
        "sys.modules['triton_python_backend_utils'] = types.ModuleType('x'); import model; print(model.Preprocess())"
    )
    folder = tmp_path / "r" / "net_preprocess" / "1"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.stdout.startswith("Preprocess("), done.stderr


def test_ensemble_connects_the_recorded_preprocess_with_the_network(tmp_path: Path) -> None:
    written = write_repository(saved(tmp_path, qdq(EIGHT)), tmp_path / "r", replace(MODEL, ensemble=Ensemble()))
    recorded = json.loads((tmp_path / "r/net_preprocess/1/preprocess.json").read_text())
    assert Preprocess.from_dict(recorded) == EIGHT
    assert (tmp_path / "r/net_ensemble/1").is_dir()
    assert "--shape=images:8,8,3" in written.models[2].perf
    config = config_of(tmp_path / "r", "net_ensemble")
    first, second = config.ensemble_scheduling.step
    assert (config.platform, config.max_batch_size, config.input[0].name) == ("ensemble", 8, "images")
    assert (first.model_name, second.model_name) == ("net_preprocess", "net")
    assert dict(first.input_map) == {"images": "images"}
    assert first.output_map["image"] == second.input_map["image"]
    assert dict(second.output_map) == {"logits": "logits"}
    made = config_of(tmp_path / "r", "net_preprocess")
    assert (made.backend, list(made.output[0].dims), list(made.input[0].dims)) == ("python", [3, 8, 8], [-1, -1, -1])


def test_other_preprocess_than_that_of_the_calibration_is_told(tmp_path: Path) -> None:
    other = replace(EIGHT, color="bgr")
    written = write_repository(saved(tmp_path, qdq(EIGHT)), tmp_path / "r", replace(MODEL, ensemble=Ensemble(other)))
    assert any("color is bgr, there rgb" in fact for fact in written.facts)


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


def test_command_prints_what_serves_and_measures(cli: Cli, tmp_path: Path) -> None:
    given = saved(tmp_path, qdq(EIGHT))
    done = cli("triton", given, "--batch", 8, "--ensemble", "--served-at", "/models", "-o", tmp_path / "r")
    assert done.code == 0, done.err
    programs = [line.split()[0] for line in done.out.splitlines()[-4:]]
    assert programs == ["tritonserver", "perf_analyzer", "perf_analyzer", "model-analyzer"]
    assert "input image FP32 [3, 8, 8]" in done.out
    refused = cli("triton", given, "--batch", 8, "--preset", "imagenet", "-o", tmp_path / "s")
    assert (refused.code, "--preset does nothing here: there is no --ensemble" in refused.err) == (2, True)
