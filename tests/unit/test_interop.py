"""Files and command lines of other tools: ONNX Runtime's TensorRT provider, Polygraphy's data scripts, trtexec."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnxruntime.quantization import write_calibration_table
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable

import quantlab
from models import conv_net, floats, image_batches, parse, quantized
from quantlab.calibration import CalibrationTable, TrtCache
from quantlab.calibration.ep_table import ep_table_bytes, is_ep_flatbuffers, is_ep_text, save_ep_table, table_from_ep
from quantlab.cli.trtexec import command as trtexec_cli
from quantlab.data.script import ScriptBatches, script_batches, split_script
from quantlab.errors import ConfigError, DataError, GraphError, QuantlabError
from quantlab.trtexec import TrtexecOptions, trtexec_command

TINY = np.finfo(np.float32).tiny

# --- ONNX Runtime's calibration table


def table() -> CalibrationTable:
    """Names and values that are easy to get wrong, and not in alphabetical order."""
    values = np.abs(floats(40, seed=3, scale=5))
    amax = {f"/layer.{k}/Conv_output_0:{k}": np.float32(v) for k, v in enumerate(values)}
    special = {"z": 0, "a b": 0.1, "größe": np.finfo(np.float32).max, "tiny": TINY, "x" * 301: 1e-7, "one": 1}
    return CalibrationTable({name: np.float32(v) for name, v in (special | amax).items()})


def theirs(folder: Path, content: CalibrationTable) -> Path:
    """The folder with the three files that ONNX Runtime writes for these ranges."""
    data = {n: TensorData(lowest=np.array(-a), highest=np.array(a)) for n, a in content.amax.items()}
    write_calibration_table(data, dir=str(folder))
    return folder


def read_by_onnxruntime(content: bytes) -> dict[str, str]:
    """Key and value as the generated reader gives them, which is the provider's way."""
    root = TrtTable.GetRootAs(content, 0)
    entries = [root.Dict(k) for k in range(root.DictLength())]
    return {entry.Key().decode(): entry.Value().decode() for entry in entries}


def test_ep_table_equals_what_onnxruntime_writes(tmp_path: Path) -> None:
    for content in (table(), CalibrationTable({"only": np.float32(2)}), CalibrationTable({})):
        assert ep_table_bytes(content) == (theirs(tmp_path, content) / "calibration.flatbuffers").read_bytes()


def test_ep_table_is_read_by_onnxruntime_with_its_own_digits() -> None:
    wanted = {name: str(float(amax)) for name, amax in table().amax.items()}
    assert read_by_onnxruntime(ep_table_bytes(table())) == wanted


@pytest.mark.skipif(os.name != "posix", reason="asks the C library")
def test_ep_table_values_parse_to_the_same_float32_in_c() -> None:
    # std::stof is strtof, and throws where that sets errno, for a denormal result too
    c = ctypes.CDLL(None, use_errno=True)
    c.strtof.restype, c.strtof.argtypes = ctypes.c_float, [ctypes.c_char_p, ctypes.c_void_p]
    content = table()
    for name, value in read_by_onnxruntime(ep_table_bytes(content)).items():
        ctypes.set_errno(0)
        assert np.float32(c.strtof(value.encode(), None)) == content.amax[name]
        assert ctypes.get_errno() == 0


def test_ep_table_writes_a_denormal_as_the_smallest_number_that_the_provider_takes() -> None:
    content = CalibrationTable({"x": np.float32(1e-40)})
    assert read_by_onnxruntime(ep_table_bytes(content)) == {"x": str(float(TINY))}


@pytest.mark.parametrize("name", ["calibration.flatbuffers", "calibration.cache"])
def test_files_of_onnxruntime_give_the_same_table(tmp_path: Path, name: str) -> None:
    file = theirs(tmp_path, table()) / name
    read = table_from_ep(file.read_bytes(), str(file))
    assert read.amax == table().amax
    assert list(read.amax) == sorted(table().amax)
    assert read.provenance.source == str(file)


def test_saved_ep_table_is_read_back(tmp_path: Path) -> None:
    save_ep_table(table(), tmp_path / "t.flatbuffers")
    assert table_from_ep((tmp_path / "t.flatbuffers").read_bytes(), "t").amax == table().amax


def test_ep_files_are_told_from_the_other_tables(tmp_path: Path) -> None:
    folder = theirs(tmp_path, table())
    assert is_ep_flatbuffers((folder / "calibration.flatbuffers").read_bytes())
    text = (folder / "calibration.cache").read_bytes()
    assert is_ep_text(text) and is_ep_text(text.replace(b"\n", b"\r\n")) and not is_ep_flatbuffers(text)
    for other in (b"TRT-8600-EntropyCalibration2\nx: 3f800000\n", b"{}", b"", b" 1\n", b"\xff 1\n"):
        assert not is_ep_text(other) and not is_ep_flatbuffers(other)


def test_truncated_ep_table_raises_at_every_length() -> None:
    content = ep_table_bytes(table())
    for size in (*range(1, 200), *range(len(content) - 200, len(content))):
        with pytest.raises(DataError, match=r"^t\.flatbuffers.*(truncated|no calibration table|line)"):
            table_from_ep(content[:size], "t.flatbuffers")


def test_other_binary_files_are_refused_as_ep_tables() -> None:
    generator = np.random.default_rng(0)
    model = conv_net().SerializeToString()
    for content in (bytes(64), model, *(b"\0" + generator.bytes(4 * k + 3) for k in range(200))):
        with pytest.raises(
            DataError, match="f cannot be read, it is truncated or no calibration table of ONNX Runtime"
        ):
            table_from_ep(content, "f")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "f has no tensors"),
        (b"x 1.0\ny 2", "f, line 2: 'y 2' has no line end: truncated"),
        (b"x 1.0\nnonsense\n", "f, line 2: 'nonsense', expected 'tensor value'"),
        (b"x 1.0\nx 1.0\n", "f: tensor 'x' is there twice"),
        (b"x one\n", "f: the dynamic range of tensor 'x' is 'one', expected a finite number"),
        (b"x nan\n", "range of tensor 'x' is 'nan'"),
        (b"x 1e39\n", "range of tensor 'x' is '1e39'"),
        (b"x -1.5\n", "range of tensor 'x' is '-1.5'.*symmetric"),
        (b"TRT-8600-EntropyCalibration2\nx: 3f800000\n", "f, line 1: 'TRT-8600-EntropyCalibration2', expected"),
        (b"\xff\xfe", "f is no calibration table of ONNX Runtime"),
    ],
)
def test_broken_ep_text_raises(content: bytes, match: str) -> None:
    with pytest.raises(DataError, match=match):
        table_from_ep(content, "f")


# --- data scripts


def script(folder: Path, body: str, name: str = "data.py") -> Path:
    (folder / name).write_text(body)
    return folder / name


GOOD = """
import numpy as np

def load_data():
    for k in range(3):
        yield {"image": np.full((2, 3, 8, 8), k, np.float32), "label": k}

def listed():
    return [{"image": np.ones((1, 3, 8, 8), np.float32)}]
"""


def test_script_batches_start_anew_each_time_and_hold_the_inputs_only(tmp_path: Path) -> None:
    batches = script_batches(script(tmp_path, GOOD), "load_data", ["image"])
    for _ in range(2):
        assert [float(b["image"].mean()) for b in batches] == [0, 1, 2]
    assert [list(b) for b in batches] == [["image"]] * 3
    assert batches.count is None
    assert [labels for _, labels in batches.labeled()] == [None] * 3


def test_script_function_may_return_a_list(tmp_path: Path) -> None:
    batches = script_batches(str(script(tmp_path, GOOD)), "listed", ["image"])
    assert len(list(batches)) == len(list(batches)) == 1


def test_script_gives_the_table_of_the_same_batches(tmp_path: Path) -> None:
    path = script(tmp_path, GOOD)
    made = quantlab.calibrate(conv_net(), script_batches(path, "load_data", ["image"]), quantlab.MinMax())
    listed = [{"image": np.full((2, 3, 8, 8), k, np.float32)} for k in range(3)]
    wanted = quantlab.calibrate(conv_net(), listed, quantlab.MinMax())
    assert made.amax == wanted.amax
    assert made.provenance.data_hash == wanted.provenance.data_hash


def test_script_is_recorded_by_name_and_hash(tmp_path: Path) -> None:
    path = script(tmp_path, GOOD)
    assert script_batches(path, "listed", ["image"]).preprocess.to_dict() == {
        "script": "data.py", "function": "listed", "sha256": hashlib.sha256(GOOD.encode()).hexdigest(),
    }  # fmt: skip


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1]), (2, [2]), (5, [2, 2, 1]), (99, [2, 2, 2])])
def test_script_limit_counts_samples(tmp_path: Path, limit: int, sizes: list[int]) -> None:
    batches = script_batches(script(tmp_path, GOOD), "load_data", ["image"], limit)
    for _ in range(2):
        assert [len(b["image"]) for b in batches] == sizes


def test_script_leaves_nothing_behind(tmp_path: Path) -> None:
    script(tmp_path, "SIZE = 4\n", "sizes_beside_the_script.py")
    body = """
from __future__ import annotations
from dataclasses import dataclass
from sizes_beside_the_script import SIZE

@dataclass
class Item:
    size: int

def load_data():
    return [{"x": [[Item(SIZE).size]]}]
"""
    modules, path = set(sys.modules), list(sys.path)
    (batch,) = script_batches(script(tmp_path, body), "load_data", ["x"])
    assert batch["x"].tolist() == [[4]]
    assert sys.path == path
    assert set(sys.modules) - modules == {"sizes_beside_the_script"}
    del sys.modules["sizes_beside_the_script"]
    assert not list(tmp_path.glob("__pycache__/data*"))


def test_script_that_changed_is_read_again(tmp_path: Path) -> None:
    for value in (1, 2):  # within one second and of the same size: what stale bytecode would hide
        path = script(tmp_path, f"def load_data():\n    return [dict(x=[{value}])]\n")
        assert next(iter(script_batches(path, "load_data", ["x"])))["x"].tolist() == [value]


class Tensor:
    """As torch's: not an array, but with a way to one."""

    def __init__(self, values: np.ndarray) -> None:
        self._values, self._detached = values, False

    def detach(self) -> Tensor:
        self._detached = True
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        assert self._detached
        return self._values


class OnlyArray:
    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.ones(2, np.float32)


class OnlyNumpy:
    def numpy(self) -> np.ndarray:
        return np.ones(2, np.float32)


def batches_of(function: Callable[[], object], names: tuple[str, ...] = ("x",)) -> ScriptBatches:
    """The stream for a function of this file in place of one in a script."""
    source = split_script(__file__)
    assert source is not None
    made = script_batches(source[0], "batches_of", names)
    made._function = function
    return made


@pytest.mark.parametrize("value", [Tensor(np.ones(2, np.float32)), OnlyArray(), OnlyNumpy(), np.ones(2, np.float32)])
def test_script_tensors_become_arrays(value: object) -> None:
    (batch,) = batches_of(lambda: [{"x": value}])
    assert isinstance(batch["x"], np.ndarray)
    assert batch["x"].dtype == np.float32
    assert batch["x"].tolist() == [1, 1]


def test_script_may_fill_one_buffer_again_and_again() -> None:
    def reuse() -> object:
        buffer = np.zeros(2)
        for k in range(3):
            buffer[:] = k
            yield {"x": buffer}

    assert [b["x"][0] for b in list(batches_of(reuse))] == [0, 1, 2]


@pytest.mark.parametrize(
    ("made", "match"),
    [
        ([np.ones(2)], r"batch 0 of batches_of\(\) is a ndarray, expected a dict"),
        ({"x": np.ones(2)}, r"batch 0 of batches_of\(\) is a str, expected a dict"),
        ([{"x": 1}, {"y": 1}], r"batch 1 of batches_of\(\) has no input x; it has y"),
        ([{"x": [[1], [1, 2]]}], "input 'x' cannot become an array"),
        ([{"x": object()}], "input 'x' is a object, expected an array of numbers"),
        (7, r"batches_of\(\) raised TypeError: 'int' object is not iterable"),
    ],
)
def test_script_that_yields_something_else_raises(made: object, match: str) -> None:
    with pytest.raises(DataError, match=match):
        list(batches_of(lambda: made))


def test_script_generator_that_is_made_once_is_refused_the_second_time() -> None:
    once = ({"x": np.ones(1)} for _ in range(2))
    batches = batches_of(lambda: once)
    assert len(list(batches)) == 2
    with pytest.raises(DataError, match="returned the same generator again"):
        list(batches)


def test_missing_script_and_function_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.py does not exist or is no file"):
        script_batches(tmp_path / "none.py", "load_data", ["x"])
    path = script(tmp_path, "load_data = 3\n")
    for name in ("load_data", "other"):
        with pytest.raises(ConfigError, match=rf"data\.py has no function {name}\(\)"):
            script_batches(path, name, ["x"])


def test_unreadable_script_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = script(tmp_path, GOOD)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        script_batches(path, "load_data", ["image"])


@pytest.mark.parametrize(
    ("body", "cause", "match"),
    [
        ("x = 1\nimport no_such_module\n", ImportError, r"data\.py, line 2: the script raised ModuleNotFoundError"),
        ("def load_data(:\n", SyntaxError, r"data\.py, line 1: the script raised SyntaxError"),
        ("raise SystemExit(3)\n", SystemExit, r"data\.py, line 1: the script raised SystemExit: 3"),
        ("def load_data():\n    return {}['x']\n", KeyError, r"line 2: load_data\(\) raised KeyError: 'x'"),
        ("def load_data(n):\n    pass\n", TypeError, r"data\.py: load_data\(\) raised TypeError: .*missing 1"),
        (
            "def load_data():\n    yield {'x': [1.0]}\n    inner()\n\ndef inner():\n    1 / 0\n",
            ZeroDivisionError,
            r"line 6: batch 1 of load_data\(\) raised ZeroDivisionError",
        ),
    ],
)
def test_script_that_fails_raises_with_its_own_error_as_the_cause(
    tmp_path: Path, body: str, cause: type[BaseException], match: str
) -> None:
    path = list(sys.path)
    with pytest.raises(DataError, match=match) as caught:
        list(script_batches(script(tmp_path, body), "load_data", ["x"]))
    assert isinstance(caught.value.__cause__, cause)
    assert sys.path == path


@pytest.mark.parametrize(
    "body",
    [
        "from quantlab.errors import DataError\nraise DataError('own words')\n",
        "from quantlab.errors import DataError\ndef load_data():\n    raise DataError('own words')\n",
        "from quantlab.errors import DataError\ndef load_data():\n    raise DataError('own words')\n    yield\n",
    ],
)
def test_error_of_quantlab_inside_a_script_passes_as_it_is(tmp_path: Path, body: str) -> None:
    with pytest.raises(DataError, match="^own words$"):
        list(script_batches(script(tmp_path, body), "load_data", ["x"]))


def test_script_source_is_split_into_file_and_function() -> None:
    assert split_script("a/b.py") == (Path("a/b.py"), "load_data")
    assert split_script("a/b.py:mine") == (Path("a/b.py"), "mine")
    assert split_script("C:/b.py:mine") == (Path("C:/b.py"), "mine")
    for other in ("images", "a.npz:key", "b.py:", "b.py:1x", "b.pyc", ".py"):
        assert split_script(other) is None


# --- trtexec

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
