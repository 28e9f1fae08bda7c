"""ONNX Runtime's calibration table: what its own writer and reader make of ours, and the other way."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.quantization import write_calibration_table
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable

from models import conv_net, floats
from quantlab.calibration import CalibrationTable, TrtCache, load_table
from quantlab.calibration.ep_table import ep_table_bytes, is_ep_flatbuffers, is_ep_text, save_ep_table, table_from_ep
from quantlab.errors import DataError

TINY = np.finfo(np.float32).tiny


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


def test_every_kind_of_table_file_is_loaded_by_its_content(tmp_path: Path) -> None:
    folder = theirs(tmp_path, table())
    for name in ("calibration.flatbuffers", "calibration.cache"):
        read = load_table(folder / name)
        assert (read.amax, read.provenance.source) == (table().amax, name)
    # the first lines of TensorRT's caches look like ONNX Runtime's `tensor value`
    scales = {"x": np.float32(1)}
    for header in ("0 3ff0000000000000 3feffff2e48e8a72", "1 1 1", "TRT-8600-EntropyCalibration2"):
        TrtCache(header, scales).save(tmp_path / "t.cache")
        assert load_table(tmp_path / "t.cache").amax == {"x": np.float32(127)}


def test_list_that_is_longer_than_its_file_is_refused_before_it_is_read() -> None:
    content = bytearray(ep_table_bytes(CalibrationTable({"x": np.float32(1)})))
    place = content.index((1).to_bytes(4, "little"), 4)  # the number of entries
    count = len(content) // 4 + 1
    content[place : place + 4] = count.to_bytes(4, "little")
    with pytest.raises(DataError, match=f"a list of {count} entries in {len(content)} bytes"):
        table_from_ep(bytes(content), "f")


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
