"""The trtexec command line of a model."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from engine_double import HostRuntime
from models import conv_net, image_batches, parse, quantized
from quantlab.calibration import TrtCache
from quantlab.cli.trtexec import command as trtexec_cli
from quantlab.engines.options import BuildOptions, Profile
from quantlab.engines.trtexec import TrtexecOptions, trtexec_command
from quantlab.engines.trtexec_engine import trtexec_run_command
from quantlab.errors import BuildError, ConfigError, DataError, GraphError, QuantlabError

SHAPES = ["--minShapes=image:1x3x8x8", "--optShapes=image:32x3x8x8", "--maxShapes=image:32x3x8x8"]
EIGHT = "TRT-8600-EntropyCalibration2"
TEN = "TRT-101601-EntropyCalibration2"


@pytest.fixture
def fp32(tmp_path: Path) -> Path:
    onnx.save(conv_net(), str(tmp_path / "m.onnx"))
    return tmp_path / "m.onnx"


@pytest.fixture
def qdq(tmp_path: Path) -> Path:
    onnx.save(quantized(conv_net(), image_batches(1)).model, str(tmp_path / "q.onnx"))
    return tmp_path / "q.onnx"


def cache(folder: Path, header: str = EIGHT, tensor: str = "image") -> Path:
    TrtCache(header, {tensor: np.float32(0.5), "r": np.float32(1)}).save(folder / "c.cache")
    return folder / "c.cache"


@pytest.mark.parametrize(("tensorrt", "header"), [(8, EIGHT), (8, TEN), (10, TEN)])
def test_trtexec_of_a_float_model_takes_its_cache(fp32: Path, tensorrt: int, header: str) -> None:
    file = cache(fp32.parent, header)
    found = trtexec_command(fp32, file, TrtexecOptions(tensorrt, batch=32))
    assert found == ["trtexec", f"--onnx={fp32}", "--int8", "--fp16", f"--calib={file}", *SHAPES]


def test_trtexec_takes_a_cache_with_the_tensors_that_only_tensorrts_network_has(fp32: Path) -> None:
    inner = ("(Unnamed Layer* 6) [Constant]_output", "(Unnamed Layer* 17) [Matrix Multiply]_output")
    scales = {name: np.float32(1) for name in ("image", *inner, "logits")}
    TrtCache(EIGHT, scales).save(fp32.parent / "c.cache")
    assert f"--calib={fp32.parent / 'c.cache'}" in trtexec_command(
        fp32, fp32.parent / "c.cache", TrtexecOptions(8, batch=1)
    )
    TrtCache(EIGHT, scales | {"(Named Layer* 6)": np.float32(1)}).save(fp32.parent / "c.cache")
    with pytest.raises(DataError, match=r"first: '\(Named Layer\* 6\)'"):
        trtexec_command(fp32, fp32.parent / "c.cache", TrtexecOptions(8, batch=1))


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (TrtexecOptions(8, 32), ["--int8", "--fp16"]),
        (TrtexecOptions(10, 32), ["--int8", "--fp16"]),
        (TrtexecOptions(10, 32, fp16=False), ["--int8"]),
        (TrtexecOptions(10, 32, strongly_typed=True), ["--stronglyTyped"]),
        (TrtexecOptions(11, 32), []),
        (TrtexecOptions(11, 32, strongly_typed=True), []),
    ],
)
def test_trtexec_of_a_qdq_model_has_the_flags_of_the_version(
    qdq: Path, options: TrtexecOptions, flags: list[str]
) -> None:
    assert trtexec_command(qdq, options=options) == ["trtexec", f"--onnx={qdq}", *flags, *SHAPES]


def test_trtexec_takes_only_what_is_asked_for(qdq: Path) -> None:
    options = TrtexecOptions(11, 1, save_engine=Path("e.engine"), timing_cache=Path("t.cache"), cuda_graph=True)
    assert trtexec_command(qdq, options=options)[-3:] == [
        "--saveEngine=e.engine", "--timingCacheFile=t.cache", "--useCudaGraph",
    ]  # fmt: skip


def test_trtexec_of_a_model_with_fixed_shapes_has_none(tmp_path: Path) -> None:
    onnx.save(quantized(conv_net("6"), image_batches(1)).model, str(tmp_path / "q.onnx"))
    for batch in (None, 6):
        found = trtexec_command(tmp_path / "q.onnx", options=TrtexecOptions(11, batch))
        assert found == ["trtexec", f"--onnx={tmp_path / 'q.onnx'}"]
    with pytest.raises(ConfigError, match="batch 4, but the shapes of the model are fixed"):
        trtexec_command(tmp_path / "q.onnx", options=TrtexecOptions(11, 4))


TWO = """m (float[N,3,H,W] x, float[N,2] z, float[4] fixed) => (float[N,3,H,W] y) {
    s = Constant <value = float {0.1}> ()
    o = Constant <value = int8 {0}> ()
    q = QuantizeLinear (x, s, o)
    y = DequantizeLinear (q, s, o)
}"""


def test_trtexec_shapes_of_several_inputs_are_in_one_flag(tmp_path: Path) -> None:
    onnx.save(parse(TWO), str(tmp_path / "m.onnx"))
    found = trtexec_command(tmp_path / "m.onnx", options=TrtexecOptions(11, 4, {"x": (2, 3, 16, 8)}))
    assert found[2:] == [
        "--minShapes=x:2x3x16x8,z:1x2", "--optShapes=x:2x3x16x8,z:4x2", "--maxShapes=x:2x3x16x8,z:4x2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (TrtexecOptions(11, 4), r"input 'x' has dynamic dimensions besides the batch.*--shapes x:<N>x3x<H>x<W>"),
        (TrtexecOptions(11, 4, {"x": (2, 1, 8, 8)}), r"shape \(2, 1, 8, 8\) for input 'x' does not fit"),
        (TrtexecOptions(11, 4, {"x": (2, 3, 8)}), "does not fit"),
        (TrtexecOptions(11, 4, {"x": (0, 3, 8, 8)}), "does not fit"),
        (TrtexecOptions(11, None, {"x": (2, 3, 8, 8)}), "input 'z' has a dynamic batch.*--batch 32"),
        (
            TrtexecOptions(11, 4, {"x": (2, 3, 8, 8), "z": (2, 2)}),
            "batch 4 does nothing: every dynamic input has a shape",
        ),
        (TrtexecOptions(11, 4, {"fixed": (4,)}), "shapes name 'fixed', which is no dynamic input.*x, z"),
    ],
)
def test_trtexec_shapes_that_are_missing_or_wrong_raise(tmp_path: Path, options: TrtexecOptions, match: str) -> None:
    onnx.save(parse(TWO), str(tmp_path / "m.onnx"))
    with pytest.raises(ConfigError, match=match):
        trtexec_command(tmp_path / "m.onnx", options=options)


def test_trtexec_refuses_an_input_name_that_it_would_split(tmp_path: Path) -> None:
    model = parse(TWO)
    model.graph.input[1].name = "a,b"
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(ConfigError, match="cannot read a shape for an input named 'a,b'"):
        trtexec_command(tmp_path / "m.onnx", options=TrtexecOptions(11, 4, {"x": (2, 3, 8, 8)}))


@pytest.mark.parametrize(
    ("header", "options", "match"),
    [
        (EIGHT, TrtexecOptions(11, 1), "TensorRT 11 has no calibration caches.*quantlab migrate .*m.onnx --table"),
        (TEN, TrtexecOptions(10, 1, strongly_typed=True), "a strongly typed network takes no calibration cache"),
        (EIGHT, TrtexecOptions(10, 1), "TensorRT 10 refuses a cache of TensorRT 8"),
        ("TRT-8600-MinMaxCalibration", TrtexecOptions(8, 1), "reads EntropyCalibration2 only.*quantlab migrate"),
        ("TRT-8600-EntropyCalibration", TrtexecOptions(8, 1), "reads EntropyCalibration2 only"),
    ],
)
def test_trtexec_refuses_a_cache_that_this_version_does_not_take(
    fp32: Path, header: str, options: TrtexecOptions, match: str
) -> None:
    with pytest.raises(QuantlabError, match=match):
        trtexec_command(fp32, cache(fp32.parent, header), options)


def test_trtexec_refuses_a_cache_of_another_model_or_none_at_all(fp32: Path, qdq: Path) -> None:
    eight = TrtexecOptions(8, 1)
    with pytest.raises(DataError, match=r"of another model: 1 of its 2 tensors \(first: 'elsewhere'\)"):
        trtexec_command(fp32, cache(fp32.parent, tensor="elsewhere"), eight)
    with pytest.raises(DataError, match="calibration cache .* cannot be read"):
        trtexec_command(fp32, fp32.parent / "none.cache", eight)
    with pytest.raises(GraphError, match="already has .* a calibration cache needs the FP32 model"):
        trtexec_command(qdq, cache(fp32.parent), eight)
    with pytest.raises(ConfigError, match=r"m\.onnx has no Q/DQ nodes, and no calibration cache was given"):
        trtexec_command(fp32, None, eight)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"tensorrt": 9}, "TensorRT 9 is not known"),
        ({"tensorrt": 8, "strongly_typed": True}, "TensorRT 8 has no strongly typed networks"),
        ({"batch": 0}, "batch 0, expected at least 1"),
    ],
)
def test_trtexec_options_that_cannot_be_raise(values: dict[str, int], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        TrtexecOptions(**values)  # type: ignore[arg-type]


def test_trtexec_command_prints_a_quoted_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "my models"
    folder.mkdir()
    onnx.save(parse(TWO), str(folder / "m.onnx"))
    flags = [str(folder / "m.onnx"), "--tensorrt", "11", "--batch", "4", "--shapes", "x:2x3x8x8", "--cuda-graph"]
    result = CliRunner().invoke(trtexec_cli, flags, catch_exceptions=False)
    assert result.exit_code == 0
    assert shlex.split(result.output) == trtexec_command(
        folder / "m.onnx", options=TrtexecOptions(11, 4, {"x": (2, 3, 8, 8)}, cuda_graph=True)
    )


def test_trtexec_command_of_a_float_model_takes_its_cache(fp32: Path) -> None:
    file = cache(fp32.parent)
    flags = [fp32, "--cache", file, "--tensorrt", "8", "--batch", "2", "--no-fp16", "--save-engine", "e.engine"]
    result = CliRunner().invoke(trtexec_cli, list(map(str, flags)), catch_exceptions=False)
    assert result.output.startswith(f"trtexec --onnx={fp32} --int8 --calib={file} --minShapes=")
    assert result.output.endswith(" --saveEngine=e.engine\n")


def test_trtexec_command_with_bad_input_raises_one_clear_error(fp32: Path) -> None:
    with pytest.raises(ConfigError, match="no Q/DQ nodes"):
        CliRunner().invoke(trtexec_cli, [str(fp32)], catch_exceptions=False)


def engine(tmp_path: Path, *batches: int, **record: object) -> Path:
    """An engine with a profile of 1 to each of these batches, or of the model's own where there are none."""
    sizes = [{"image": (size, 3, 8, 8)} for size in batches]
    options = BuildOptions(profiles=tuple(Profile({"image": (1, 3, 8, 8)}, size, size) for size in sizes))
    built = HostRuntime().build(conv_net() if batches else conv_net("6"), options)
    record = {"tensorrt": "10.3.0", **record}
    replace(built, record=replace(built.record, **record)).save(tmp_path / "e.engine")
    return tmp_path / "e.engine"


def test_trtexec_runs_an_engine_with_shapes_that_one_of_its_profiles_holds(tmp_path: Path) -> None:
    path = engine(tmp_path, 4, 32)
    line = ["trtexec", f"--loadEngine={path}", "--shapes=image:4x3x8x8"]
    assert trtexec_run_command(path) == line
    options = TrtexecOptions(10, 16, cuda_graph=True, export_profile=Path("p.json"))
    assert trtexec_run_command(path, options)[2:5] == ["--shapes=image:16x3x8x8", "--useProfile=1", "--useCudaGraph"]
    assert "--exportProfile=p.json" in trtexec_run_command(path, options)
    for flags in (["--batch", "16"], ["--shapes", "image:16x3x8x8"]):
        result = CliRunner().invoke(trtexec_cli, [str(path), *flags], catch_exceptions=False)
        assert shlex.split(result.output) == [*line[:2], "--shapes=image:16x3x8x8", "--useProfile=1"]


def test_trtexec_runs_an_engine_of_fixed_shapes_without_any(tmp_path: Path) -> None:
    path = engine(tmp_path)
    assert trtexec_run_command(path) == ["trtexec", f"--loadEngine={path}"]
    with pytest.raises(ConfigError, match="the shapes of the engine are fixed"):
        trtexec_run_command(path, TrtexecOptions(batch=6))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (TrtexecOptions(batch=33), "no optimization profile holds"),
        (TrtexecOptions(shapes={"imagee": (1, 3, 8, 8)}), "shapes name 'imagee'.*'image'"),
        (TrtexecOptions(save_engine=Path("e")), "built already"),
        (TrtexecOptions(8), "built by TensorRT 10.3.0, no trtexec of TensorRT 8 runs it"),
        (TrtexecOptions(11), "built by TensorRT 10.3.0, no trtexec of TensorRT 11 runs it.*--tensorrt 10"),
    ],
)
def test_trtexec_refuses_what_an_engine_cannot_do(tmp_path: Path, options: TrtexecOptions, match: str) -> None:
    with pytest.raises(QuantlabError, match=match):
        trtexec_run_command(engine(tmp_path, 32), options)


def test_trtexec_of_a_later_version_runs_a_version_compatible_engine(tmp_path: Path) -> None:
    path = engine(tmp_path, options={"version_compatible": True})
    assert trtexec_run_command(path, TrtexecOptions(11)) == ["trtexec", f"--loadEngine={path}"]


def test_trtexec_needs_to_know_what_goes_into_an_engine(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="does not say what goes in"):
        trtexec_run_command(engine(tmp_path, inputs=()))
