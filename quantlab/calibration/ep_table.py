"""Calibration tables of ONNX Runtime's TensorRT execution provider.

`onnxruntime.quantization.write_calibration_table` writes `calibration.flatbuffers`, which the provider reads, and
`calibration.cache`, the same as text (`tensor value`, nothing to do with TensorRT's cache). In both a value is the
dynamic range of a tensor, its amax, as the decimal digits of the float32 widened to float64; the provider parses it
with `std::stof` and sets (-amax, +amax). The provider looks for the file in `trt_engine_cache_path`.

The binary layout is two tables of the FlatBuffers format, `TrtTable {dict: [KeyValue]}` and
`KeyValue {key: string, value: string}`; what is written here is byte for byte what ONNX Runtime writes. The classes
that ONNX Runtime generates are not used: they would load ONNX Runtime for reading a file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import flatbuffers
import numpy as np
from flatbuffers.table import Table

from quantlab.calibration.table import CalibrationTable, Provenance
from quantlab.errors import DataError
from quantlab.files import write_bytes
from quantlab.numerics import SMALLEST_SCALE

_DICT, _KEY, _VALUE = 0, 0, 1  # the fields of TrtTable and KeyValue
_NUMBER = re.compile(r"[+-]?([0-9]{1,400}(\.[0-9]{0,400})?|\.[0-9]{1,400})([eE][+-]?[0-9]{1,4})?")
_HINT = "give calibration.flatbuffers or calibration.cache as ONNX Runtime's write_calibration_table wrote it"


def ep_table_bytes(table: CalibrationTable) -> bytes:
    """The content of `calibration.flatbuffers`, in the calls that ONNX Runtime's generated writer makes."""
    builder = flatbuffers.Builder(1024)
    entries = []
    for name in sorted(table.amax):
        key, value = builder.CreateString(name), builder.CreateString(_digits(table.amax[name]))
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(_KEY, key, 0)
        builder.PrependUOffsetTRelativeSlot(_VALUE, value, 0)
        entries.append(builder.EndObject())
    builder.StartVector(4, len(entries), 4)
    for entry in entries:
        builder.PrependUOffsetTRelative(entry)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(_DICT, vector, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def save_ep_table(table: CalibrationTable, path: str | Path) -> None:
    """Write `calibration.flatbuffers` atomically.

    Args:
        table: What to write.
        path: The file.
    """
    write_bytes(Path(path), ep_table_bytes(table))


def table_from_ep(data: bytes, source: str) -> CalibrationTable:
    """The table in the content of `calibration.flatbuffers` or ONNX Runtime's `calibration.cache`, in order of name.

    ONNX Runtime writes max(highest, lowest), which is the amax only where it calibrated with a symmetric range
    (`extra_options={"symmetric": True}` for its min-max); where it did not, nothing in the file shows it.

    Args:
        data: The content of the file.
        source: Its name, for provenance and error texts.

    Returns:
        The table, without anything else of provenance.

    Raises:
        DataError: It is truncated, or something else.
    """
    pairs = _read_flatbuffers(data, source) if is_ep_flatbuffers(data) else _read_text(data, source)
    amax: dict[str, np.float32] = {}
    for name, value in pairs:
        if name in amax:
            raise DataError(f"{source}: tensor '{name}' is there twice", hint=_HINT)
        amax[name] = _parsed(name, value, source)
    if not amax:
        raise DataError(f"{source} has no tensors", hint="calibrate again")
    return CalibrationTable({name: amax[name] for name in sorted(amax)}, Provenance(source=source))


def is_ep_flatbuffers(data: bytes) -> bool:
    """Whether `data` is binary, which of all files that hold scales only `calibration.flatbuffers` is."""
    return b"\0" in data


def is_ep_text(data: bytes) -> bool:
    """Whether the first line is `tensor value`, as in ONNX Runtime's `calibration.cache`."""
    try:
        name, _, value = data.split(b"\n", 1)[0].rstrip(b"\r").decode("utf-8").rpartition(" ")
    except ValueError:
        return False
    return bool(name) and _NUMBER.fullmatch(value) is not None


def _digits(amax: np.float32) -> str:
    """As ONNX Runtime prints a float32. `std::stof` throws on a denormal: the smallest normal number stands for it."""
    value = abs(float(np.float32(amax)))
    return str(max(value, float(SMALLEST_SCALE)) if value else value)


def _parsed(name: str, value: str, source: str) -> np.float32:
    number = float(value) if _NUMBER.fullmatch(value) else float("nan")
    if not 0 <= number <= float(np.finfo(np.float32).max):
        negative = number < 0
        raise DataError(
            f"{source}: the dynamic range of tensor '{name}' is '{value[:40]}', expected a finite number >= 0",
            hint='calibrate with extra_options={"symmetric": True}' if negative else _HINT,
        )
    result: np.float32 = np.float32(number)
    if number and not result:
        raise DataError(
            f"{source}: the dynamic range of tensor '{name}' is '{value[:40]}', less than a float32 holds", hint=_HINT
        )
    return result


def _read_text(data: bytes, source: str) -> list[tuple[str, str]]:
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is no calibration table of ONNX Runtime", hint=_HINT) from error
    if lines[-1]:
        raise DataError(f"{source}, line {len(lines)}: {lines[-1][:80]!r} has no line end: truncated", hint=_HINT)
    pairs = []
    for number, line in enumerate((row.rstrip("\r") for row in lines[:-1]), start=1):
        name, _, value = line.rpartition(" ")
        if not name:
            raise DataError(f"{source}, line {number}: {line[:80]!r}, expected 'tensor value'", hint=_HINT)
        pairs.append((name, value))
    return pairs


def _read_flatbuffers(data: bytes, source: str) -> list[tuple[str, str]]:
    try:
        if len(data) % 4:
            raise ValueError("its length is no multiple of 4")
        start = Table(data, 0)
        root = Table(data, start.Indirect(0))
        place = _place(root, _DICT)
        first, count = root.Vector(place), root.VectorLen(place)
        if count > len(data) // 4:
            raise ValueError(f"a list of {count} entries in {len(data)} bytes")
        return list(_pairs(data, [Table(data, start.Indirect(first + 4 * k)) for k in reversed(range(count))]))
    except (ValueError, TypeError, struct.error) as error:  # the library's, for what leads out of the file
        raise DataError(
            f"{source} cannot be read, it is truncated or no calibration table of ONNX Runtime: {error}", hint=_HINT
        ) from error


def _pairs(data: bytes, entries: list[Table]) -> Iterator[tuple[str, str]]:
    """The texts of all entries; ValueError where together they are longer than the file: they lie in each other."""
    left = len(data)
    for entry in entries:
        key, value = _string(entry, _KEY), _string(entry, _VALUE)
        left -= len(key) + len(value)
        if left < 0:
            raise ValueError("its texts lie in each other")
        yield key, value


def _place(table: Table, field: int) -> int:
    """Where a table has a field, from its position on."""
    place: int = table.Offset(4 + 2 * field)
    if place == 0:
        raise ValueError(f"the table at byte {table.Pos} has no field {field}")
    return place


def _string(table: Table, field: int) -> str:
    at: int = table.Pos + _place(table, field)
    text: bytes = table.String(at)
    end = table.Indirect(at) + 4 + len(text)
    if table.Bytes[end : end + 1] != b"\0":
        raise ValueError(f"the text at byte {at} has no end")
    return text.decode("utf-8")
