"""Calibration tables of ONNX Runtime's TensorRT execution provider.

`onnxruntime.quantization.write_calibration_table` writes `calibration.flatbuffers`, which the provider reads, and
`calibration.cache`, the same as text (`tensor value`, nothing to do with TensorRT's cache). In both a value is the
dynamic range of a tensor, its amax, as the decimal digits of the float32 widened to float64; the provider parses it
with `std::stof` and sets (-amax, +amax). The provider looks for the file in `trt_engine_cache_path`.

The binary layout is two tables of the FlatBuffers format, `TrtTable {dict: [KeyValue]}` and
`KeyValue {key: string, value: string}`; what is written here is byte for byte what ONNX Runtime writes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quantlab import files
from quantlab.calibration.table import CalibrationTable, Provenance
from quantlab.errors import DataError
from quantlab.numerics.scales import SMALLEST_SCALE

_HINT = "give calibration.flatbuffers or calibration.cache as ONNX Runtime's write_calibration_table wrote it"


def ep_table_bytes(table: CalibrationTable) -> bytes:
    """The content of `calibration.flatbuffers`."""
    builder = _Builder()
    entries = [
        builder.table(builder.string(name), builder.string(_digits(table.amax[name]))) for name in sorted(table.amax)
    ]
    return builder.finish(builder.table(builder.vector(entries)))


def save_ep_table(table: CalibrationTable, path: str | Path) -> None:
    """Write `calibration.flatbuffers` atomically."""
    files.write_bytes(Path(path), ep_table_bytes(table))


def table_from_ep(data: bytes, source: str) -> CalibrationTable:
    """The table in the content of `calibration.flatbuffers` or ONNX Runtime's `calibration.cache`, in order of name.

    ONNX Runtime writes max(highest, lowest), which is the amax only where it calibrated with a symmetric range
    (`extra_options={"symmetric": True}` for its min-max); where it did not, nothing in the file tells. DataError names
    `source` if it is truncated or something else.
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
        name, _, value = data.split(b"\n", 1)[0].decode("utf-8").rpartition(" ")
        float(value)
    except ValueError:
        return False
    return bool(name)


def _digits(amax: np.float32) -> str:
    """As ONNX Runtime prints a float32. `std::stof` throws on a denormal: the smallest normal number stands for it."""
    value = abs(float(np.float32(amax)))
    return str(max(value, float(SMALLEST_SCALE)) if value else value)


def _parsed(name: str, value: str, source: str) -> np.float32:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not 0 <= number <= float(np.finfo(np.float32).max):
        negative = number < 0
        raise DataError(
            f"{source}: the dynamic range of tensor '{name}' is '{value[:40]}', expected a finite number >= 0",
            hint='calibrate with extra_options={"symmetric": True}' if negative else _HINT,
        )
    result: np.float32 = np.float32(number)
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
    reader = _Reader(data)
    try:
        if len(data) % 4:
            raise ValueError("its length is no multiple of 4")
        return [
            (reader.string(reader.field(entry, 0)), reader.string(reader.field(entry, 1)))
            for entry in reader.vector(reader.field(reader.follow(0), 0))
        ]
    except (ValueError, struct.error) as error:
        raise DataError(
            f"{source} cannot be read, it is truncated or no calibration table of ONNX Runtime: {error}", hint=_HINT
        ) from error


class _Builder:
    """Writes a FlatBuffers buffer from its end to its start, as the format wants it: positions count from the end."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._layouts: dict[bytes, int] = {}

    def string(self, text: str) -> int:
        """Length, UTF-8, NUL; the length aligned to 4."""
        raw = text.encode("utf-8") + b"\0"
        self._align(len(raw))
        self._add(raw)
        return self._add(struct.pack("<I", len(raw) - 1))

    def vector(self, targets: Sequence[int]) -> int:
        """Count and references; the last target is element 0, because each is put before the ones written."""
        for target in targets:
            self._refer(target)
        return self._add(struct.pack("<I", len(targets)))

    def table(self, *fields: int) -> int:
        """References to the fields, behind the distance to a layout, which tables of one kind share."""
        for target in fields:
            self._refer(target)
        count = len(fields)
        places = (4 * (count - k) for k in range(count))
        layout = struct.pack(f"<{2 + count}H", 4 + 2 * count, 4 + 4 * count, *places)
        position = self._size + 4
        known = self._layouts.get(layout)
        self._add(struct.pack("<i", len(layout) if known is None else known - position))
        if known is None:
            self._layouts[layout] = self._add(layout)
        return position

    def finish(self, root: int) -> bytes:
        """The buffer, which begins with the reference to `root`."""
        self._align(4)
        self._refer(root)
        return b"".join(reversed(self._parts))

    def _refer(self, target: int) -> None:
        self._add(struct.pack("<I", self._size + 4 - target))

    def _align(self, following: int) -> None:
        self._add(bytes(-(self._size + following) % 4))

    def _add(self, raw: bytes) -> int:
        self._parts.append(raw)
        self._size += len(raw)
        return self._size


class _Reader:
    """Reads a FlatBuffers buffer; ValueError or struct.error wherever a reference leads out of it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def follow(self, at: int) -> int:
        """The position that the reference at `at` points to."""
        return at + self._number("<I", at)

    def field(self, table: int, index: int) -> int:
        """The position that a field of a table refers to."""
        layout = table - self._number("<i", table)
        entry = 4 + 2 * index
        place = self._number("<H", layout + entry) if entry < self._number("<H", layout) else 0
        if place == 0:
            raise ValueError(f"the table at byte {table} has no field {index}")
        return self.follow(table + place)

    def vector(self, at: int) -> list[int]:
        """The positions of the elements, in the order in which they were written."""
        count = self._number("<I", at)
        if count > len(self._data) // 4:
            raise ValueError(f"a list of {count} entries in {len(self._data)} bytes")
        return [self.follow(at + 4 + 4 * k) for k in reversed(range(count))]

    def string(self, at: int) -> str:
        end = at + 4 + self._number("<I", at)
        if self._data[end : end + 1] != b"\0":
            raise ValueError(f"the text at byte {at} has no end")
        return self._data[at + 4 : end].decode("utf-8")

    def _number(self, kind: str, at: int) -> int:
        if at < 0:
            raise ValueError("a reference leads out of the file")
        return int(struct.unpack_from(kind, self._data, at)[0])
