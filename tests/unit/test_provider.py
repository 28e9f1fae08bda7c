"""The options of ONNX Runtime's TensorRT provider."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantlab
from conftest import CliResult
from models import conv_net, image_batches, parse, quantized
from quantlab.calibration import TrtCache, load_table, save_ep_table
from quantlab.engines.provider import PROVIDER, ProviderOptions, provider
from quantlab.errors import ConfigError, DataError, GraphError, QuantlabError

Cli = Callable[..., CliResult]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """m.onnx, q.onnx, and the scales of m.onnx in all their forms."""
    monkeypatch.chdir(tmp_path)
    onnx.save(conv_net(), "m.onnx")
    onnx.save(quantized(conv_net(), image_batches(1)).model, "q.onnx")
    table = quantlab.calibrate(conv_net(), image_batches(1), tensors="all")
    table.save("t.json")
    save_ep_table(table, "t.flatbuffers")
    scales = {name: np.float32(value / 127) for name, value in table.amax.items()}
    TrtCache("TRT-101601-EntropyCalibration2", scales).save(tmp_path / "t.cache")
    return tmp_path


def test_explicit_model_needs_int8_and_no_table(folder: Path) -> None:
    assert provider("q.onnx").options == {"trt_int8_enable": "1", "trt_fp16_enable": "1"}
    assert provider("q.onnx", options=ProviderOptions(fp16=False)).options == {"trt_int8_enable": "1"}


@pytest.mark.parametrize(("table", "native"), [("t.flatbuffers", "0"), ("t.cache", "1")])
def test_implicit_model_names_its_table_and_where_the_provider_looks_for_it(
    table: str, native: str, folder: Path
) -> None:
    assert provider("m.onnx", folder / table).options == {
        "trt_int8_enable": "1",
        "trt_int8_calibration_table_name": table,
        "trt_int8_use_native_calibration_table": native,
        "trt_fp16_enable": "1",
        "trt_engine_cache_path": str(folder),
    }


def test_profile_is_that_of_the_batches(folder: Path) -> None:
    found = provider("q.onnx", options=ProviderOptions(batch=8)).options
    assert {name: text for name, text in found.items() if "profile" in name} == {
        "trt_profile_min_shapes": "image:1x3x8x8",
        "trt_profile_opt_shapes": "image:8x3x8x8",
        "trt_profile_max_shapes": "image:8x3x8x8",
    }
    fixed = {"image": (2, 3, 8, 8)}
    assert (
        provider("q.onnx", options=ProviderOptions(shapes=fixed)).options["trt_profile_max_shapes"] == "image:2x3x8x8"
    )


def test_stored_engines_of_other_scales_have_another_name(folder: Path) -> None:
    def prefix(model: str, table: str | None = None) -> str:
        found = provider(model, table, ProviderOptions(engine_cache=Path())).options
        assert (found["trt_engine_cache_enable"], found["trt_engine_cache_path"]) == ("1", ".")
        return found["trt_engine_cache_prefix"]

    first = prefix("m.onnx", "t.flatbuffers")
    assert first == prefix("m.onnx", "t.flatbuffers") and first.startswith("m_")
    table = load_table("t.json")
    other = quantlab.CalibrationTable({n: v * 2 for n, v in table.amax.items()}, table.provenance)
    save_ep_table(other, "t.flatbuffers")
    assert len({first, prefix("m.onnx", "t.flatbuffers"), prefix("m.onnx", "t.cache"), prefix("q.onnx")}) == 4


def test_printed_lines_make_a_session_as_they_are(folder: Path, cli: Cli) -> None:
    done = cli("provider", "m.onnx", "--table", "t.flatbuffers", "--batch", "4", "--engine-cache", ".")
    assert done.code == 0, done.err
    given: list[Any] = []

    class Fake:
        InferenceSession = staticmethod(lambda model, providers: given.append((model, providers)))

    text = done.out.replace("import onnxruntime\n", "", 1)
    exec(compile(ast.parse(text), "pasted", "exec"), {"onnxruntime": Fake})
    ((model, providers),) = given
    wanted = provider("m.onnx", "t.flatbuffers", ProviderOptions(batch=4, engine_cache=Path()))
    assert (model, providers[0]) == ("m.onnx", (PROVIDER, dict(wanted.options)))
    as_json = json.loads(cli("provider", "q.onnx", "--no-fp16", "--json").out)
    assert as_json == {"provider": PROVIDER, "model": "q.onnx", "options": {"trt_int8_enable": "1"}}


@pytest.mark.parametrize(
    ("model", "table", "options", "kind", "match"),
    [
        ("m.onnx", None, {}, ConfigError, "no Q/DQ nodes, and no calibration table.*--table calibration.flatbuffers"),
        ("q.onnx", "t.flatbuffers", {}, GraphError, "a calibration table needs the FP32 model"),
        ("m.onnx", "t.json", {}, ConfigError, r"t\.json is no table that the provider reads.*migrate.*flatbuffers"),
        ("m.onnx", "none.flatbuffers", {}, DataError, "none.flatbuffers cannot be read"),
        ("m.onnx", "t.flatbuffers", {"engine_cache": Path("other")}, ConfigError, "its table in the engine cache"),
        ("q.onnx", None, {"batch": 0}, ConfigError, "batch 0"),
        ("q.onnx", None, {"shapes": {"other": (1,)}}, ConfigError, "shapes name 'other'"),
        ("none.onnx", None, {}, QuantlabError, "none.onnx"),
    ],
)  # fmt: skip
def test_what_the_provider_would_ignore_or_misread_is_an_error(
    model: str, table: str | None, options: dict[str, Any], kind: type[QuantlabError], match: str, folder: Path
) -> None:
    with pytest.raises(kind, match=match):
        provider(model, table, ProviderOptions(**options))


def test_engine_cache_that_is_a_file_is_refused(folder: Path, cli: Cli) -> None:
    done = cli("provider", "q.onnx", "--engine-cache", "m.onnx")
    assert done.code == 2 and "engine cache m.onnx is a file" in done.err


@pytest.mark.parametrize("path", [".", "/"])
def test_folder_without_a_name_is_no_table_and_no_output(path: str, folder: Path, cli: Cli) -> None:
    read = cli("provider", "m.onnx", "--table", path)
    written = cli("quantize", "m.onnx", "--table", "t.json", "-o", path)
    assert (read.code, written.code) == (2, 2)
    assert "cannot be read" in read.err and "is a folder" in written.err


def test_table_of_another_model_and_names_with_a_colon_are_refused(folder: Path) -> None:
    onnx.save(parse("m (float[N,3] x) => (float[N,3] y) { y = Relu (x) }"), "o.onnx")
    with pytest.raises(DataError, match="of another model"):
        provider("o.onnx", "t.flatbuffers")
    tensorflow = parse("m (float[N,3] x) => (float[N,3] y) { y = Relu (x) }")
    tensorflow.graph.input[0].name = tensorflow.graph.node[0].input[0] = "x:0"
    onnx.save(tensorflow, "o.onnx")
    TrtCache("TRT-8600-EntropyCalibration2", {"x:0": np.float32(1), "y": np.float32(1)}).save(folder / "o.cache")
    with pytest.raises(ConfigError, match="names the tensor 'x:0', and the provider reads a cache up to the first ':'"):
        provider("o.onnx", "o.cache")


def test_every_option_is_one_of_the_provider(folder: Path) -> None:
    """Where ONNX Runtime's GPU package is installed, its library says which options it has."""
    package = find_spec("onnxruntime")
    assert package is not None and package.origin is not None
    library = Path(package.origin).parent / "capi" / "libonnxruntime_providers_tensorrt.so"
    if not library.is_file():
        pytest.skip("onnxruntime-gpu is not installed")
    known = set(re.findall(rb"(?<=\0)trt_[a-z0-9_]+(?=\0)", library.read_bytes()))
    found = provider("m.onnx", "t.cache", ProviderOptions(batch=4, engine_cache=Path())).options
    assert {name.encode() for name in found} <= known
