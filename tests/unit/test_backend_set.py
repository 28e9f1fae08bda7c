"""Backends by name, built and opened; TensorRT's part is played by the host double of a runtime."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx.parser
import pytest

import quantlab
from engine_double import FEATURES, HostRuntime
from models import conv_net, image_batches, run
from quantlab.comparison.backend import Backend, ort_backend
from quantlab.comparison.named_backends import BackendSet, BackendSpec, default_specs, parse_backend
from quantlab.data import Batch
from quantlab.errors import DeviceError, MissingDependencyError

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("ort:fp32", BackendSpec("ort", "fp32")),
        ("ort:qdq:mse", BackendSpec("ort", "qdq", "mse")),
        ("trt:fp16", BackendSpec("trt", "fp16")),
        ("trt:int8:entropy2", BackendSpec("trt", "int8", "entropy2")),
        ("trt:qdq:percentile-99.5", BackendSpec("trt", "qdq", "percentile-99.5")),
        ("trt:tuned", BackendSpec("trt", "tuned")),
        ("trt:tuned:mse", BackendSpec("trt", "tuned", "mse")),
    ],
)
def test_backend_name_is_parsed_and_written_back(text: str, spec: BackendSpec) -> None:
    assert parse_backend(text) == spec
    assert spec.name == text


@pytest.mark.parametrize("text", ["", "ort", "ort:qdq", "ort:int8:mse", "trt:fp32:mse", "tensorrt:fp32", "trt:int8"])
def test_unknown_backend_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(quantlab.QuantlabError, match="there is no backend") as caught:
        parse_backend(text)
    assert "trt:int8:ALGORITHM" in str(caught.value)


def test_unknown_algorithm_is_refused() -> None:
    with pytest.raises(quantlab.QuantlabError, match="there is no algorithm 'entropy2'"):
        parse_backend("ort:qdq:entropy2")  # TensorRT's name, of the implicit path


def test_one_calibration_serves_all_qdq_backends() -> None:
    passes = []

    class Stream:
        def __iter__(self) -> object:
            passes.append(1)
            return iter(image_batches())

    with BackendSet(conv_net(), Stream()) as opened:
        opened.open([parse_backend(f"ort:qdq:{a}") for a in ("minmax", "mse")], image_batches(1)[0], asked_for=True)
        assert [b.name for b in opened.backends] == ["ort:qdq:minmax", "ort:qdq:mse"]
        assert len(passes) == 1
        assert all(b.facts["calibration_s"] > 0 for b in opened.backends)
        result = quantlab.compare(conv_net(), {b.name: b for b in opened.backends}, image_batches(2))
    direct = quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), image_batches(), quantlab.MinMax()))
    batch = image_batches(1)[0]
    np.testing.assert_array_equal(run(opened.quantized["minmax"].model, batch)[0], run(direct.model, batch)[0])
    assert result.results[1].facts["calibration_s"] > 0


def test_backend_that_needs_calibration_data_without_any_is_refused() -> None:
    with BackendSet(conv_net(), None) as opened, pytest.raises(quantlab.QuantlabError, match="needs calibration data"):
        opened.open([parse_backend("ort:qdq:mse")], image_batches(1)[0], asked_for=True)


def opened_set(runtime: Callable[[], HostRuntime], names: list[str], **how: Any) -> BackendSet:
    """A set of backends that were opened and closed again."""
    with BackendSet(conv_net(), image_batches(2), open_runtime=runtime) as opened:
        opened.open([parse_backend(name) for name in names], image_batches(1)[0], **how)
    return opened


def test_engines_get_the_scales_of_their_path_and_their_twin() -> None:
    runtime = HostRuntime()
    names = ["ort:qdq:mse", "trt:fp16", "trt:int8:entropy", "trt:int8:mse", "trt:qdq:mse", "trt:qdq:minmax"]
    with BackendSet(conv_net(), image_batches(2), open_runtime=lambda: runtime) as opened:
        opened.open([parse_backend(n) for n in names], image_batches(1)[0], asked_for=True)
        assert [b.name for b in opened.backends] == names
        result = quantlab.compare(conv_net(), {b.name: b for b in opened.backends}, image_batches(2))
        assert runtime.driver.live
    assert not runtime.driver.live  # the engines are freed
    assert [(options.precision, source.description) for options, source in runtime.builds] == [
        ("fp16", ""), ("best", "EntropyCalibration2"), ("best", "TableCalibrator"),
        ("best", "explicit Q/DQ"), ("best", "explicit Q/DQ"),
    ]  # fmt: skip
    table = runtime.builds[2][1].table  # type: ignore[attr-defined]
    expected = quantlab.calibrate(conv_net(), image_batches(2), "mse", tensors="all")
    assert (table.provenance.algorithm, dict(table.amax)) == ("mse", dict(expected.amax))
    assert {b.name: b.twin for b in opened.backends if b.twin} == {"trt:qdq:mse": "ort:qdq:mse"}
    timed = {b.name for b in opened.backends if "calibration_s" in b.facts}
    assert timed == {"ort:qdq:mse", "trt:int8:mse", "trt:qdq:mse", "trt:qdq:minmax"}  # TensorRT's own is in its build
    by_name = {r.name: r for r in result.results}
    assert by_name["trt:qdq:mse"].runtime_sqnr_db == math.inf  # the double computes what ONNX Runtime computes
    assert by_name["trt:qdq:mse"].errors == by_name["ort:qdq:mse"].errors
    assert by_name["trt:qdq:minmax"].runtime_sqnr_db is None  # nobody asked for its twin


def test_network_of_tokens_runs_where_tensorrt_has_no_int64() -> None:
    generator = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        tokens (int64[N, 6] ids) => (float[N, 6, 8] y, int64[N, 6] best)
        {
          x = Gather <axis = 0> (table, ids)
          y = MatMul (x, w)
          best = ArgMax <axis = 2, keepdims = 0> (y)
        }
        """
    )
    for name, shape in {"table": (50, 16), "w": (16, 8)}.items():
        values = generator.standard_normal(shape, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    batches = [{"ids": generator.integers(0, 50, (4, 6))} for _ in range(2)]
    names = ["trt:fp16", "trt:int8:entropy2", "trt:qdq:minmax"]
    with BackendSet(model, batches, open_runtime=HostRuntime) as opened:
        opened.open([parse_backend(n) for n in names], batches[0], asked_for=True)
        result = quantlab.compare(model, {b.name: b for b in opened.backends}, batches)
    assert [(r.name, r.failed) for r in result.results if r.failed] == []
    assert {r.name: r.worst_sqnr_db for r in result.results}["trt:fp16"] == math.inf


def test_engine_that_computes_something_else_than_its_model_is_told() -> None:
    def wrong(batch: Batch) -> dict[str, Any]:
        return {name: y[..., ::-1] for name, y in twin.run(batch).items()}

    model, batches = conv_net(), image_batches(2)
    table = quantlab.calibrate(model, batches, "minmax")
    twin = ort_backend("ort:qdq:minmax", quantlab.quantize(model, table).model)
    same, other = Backend("same", twin.run, twin=twin.name), Backend("other", wrong, twin=twin.name)
    backends = {backend.name: backend for backend in (twin, same, other)}
    told = [w for w in quantlab.compare(model, backends, batches).warnings if "does not compute" in w]
    assert len(told) == 1
    assert told[0].startswith("'other' does not compute what its model does: ")


def no_gpu() -> HostRuntime:
    raise DeviceError("there is no GPU", hint="use a machine that has one")


def test_tensorrt_that_cannot_run_is_skipped_only_where_it_was_not_asked_for() -> None:
    with BackendSet(conv_net(), image_batches(2), open_runtime=no_gpu) as opened:
        opened.open(default_specs(), image_batches(1)[0], asked_for=False)
        assert [b.name for b in opened.backends] == [s.name for s in default_specs() if s.runtime == "ort"]
        assert opened.skipped == ["backends on TensorRT were left out: there is no GPU"]
        with pytest.raises(DeviceError, match="there is no GPU"):
            opened.open([parse_backend("trt:fp16")], image_batches(1)[0], asked_for=True)


def test_engine_that_cannot_be_built_is_left_out_alone() -> None:
    runtime = HostRuntime(features=replace(FEATURES, calibrators=False))
    names = ["trt:fp16", "trt:int8:entropy", "trt:int8:mse", "trt:qdq:mse", "trt:fp16"]
    opened = opened_set(lambda: runtime, names, asked_for=False)
    assert [b.name for b in opened.backends] == ["trt:fp16", "trt:qdq:mse"]
    assert opened.skipped == [
        f"'trt:int8:{name}' was left out: TensorRT 11.4.0 has no calibrators" for name in ("entropy", "mse")
    ]
    with pytest.raises(MissingDependencyError, match="has no calibrators"):
        opened_set(lambda: runtime, names, asked_for=True)
    assert opened_set(lambda: HostRuntime(fails="out of memory"), ["trt:fp16"], asked_for=False).backends == []


def test_notices_of_every_calibration_are_kept() -> None:
    data = [*image_batches(2), {"image": image_batches(1)[0]["image"][:1]}]
    with BackendSet(conv_net("6"), data, open_runtime=HostRuntime) as opened:
        opened.open([parse_backend(n) for n in ("ort:qdq:minmax", "trt:int8:mse")], data[0], asked_for=True)
    kinds = [n.kind for n in opened.notices]
    assert kinds.count("short_batch") == 2
    assert "saturated" in kinds  # by mse
    text = "the last 1 samples do not fill a batch of 6 and were left out"
    assert [n for n in opened.notices if n.kind == "short_batch"] == [text, text]


def test_model_of_a_backend_is_known_by_its_name() -> None:
    opened = opened_set(HostRuntime, ["ort:qdq:mse"], asked_for=True)
    assert opened.quantized_by("ort:qdq:mse") is opened.quantized["mse"] is opened.quantized_by("trt:qdq:mse")
    for other in ("ort:qdq:minmax", "trt:int8:mse", "trt:fp16", "mine"):
        assert opened.quantized_by(other) is None
