"""TensorRT's calibration cache: text, one scale per tensor as the hex digits of its float32 bits.

First line `TRT-8600-EntropyCalibration2` (version without dots, calibrator); the legacy calibrator writes
`0 <cutoff> <quantile>` as float64 hex. Then `tensor name: hex`, lower case, no zero padding, `0` for an all-zero
tensor; LF line ends, one at the end. Scale = amax / 127. Measured on TensorRT 8.6.0.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from quantlab.calibration.cache_header import (
    HEADER,
    LEGACY,
    check_calibrator,
    check_version,
    read_header,
    version_digits,
)
from quantlab.calibration.table import CalibrationTable, Provenance
from quantlab.errors import DataError
from quantlab.files import read_bytes, write_bytes
from quantlab.numerics import INT8_MAX, amax_from_scale
from quantlab.tabular import Rows, Tabular

_LINE = re.compile(r"(?P<name>[^\x00-\x1f\x7f]+): (?P<bits>[0-9a-f]{1,8})")
_LINES = re.compile(r"^([^\x00-\x1f\x7f]+): ([0-9a-f]{1,8})\r?$", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""What no name of a tensor in a cache has: a line break ends it, NUL ends TensorRT's text."""
_LARGEST = np.float32(np.finfo(np.float32).max / np.float32(INT8_MAX))
"""A scale whose amax is still a float32."""


@dataclass(frozen=True, slots=True)
class TrtCache(Tabular):
    """The content of a cache.

    Attributes:
        header: The first line.
        scales: float32 per tensor, in the order of the file.
    """

    header: str
    scales: Mapping[str, np.float32]

    def to_rows(self) -> Rows:
        """Tensor, scale and the amax of that scale, in the order of the file."""
        rows = ((name, float(scale), float(amax_from_scale(scale))) for name, scale in self.scales.items())
        return Rows(("tensor", "scale", "amax"), tuple(rows), self.header)

    @classmethod
    def from_bytes(cls, content: bytes, source: str = "calibration cache") -> TrtCache:
        """Parse a cache.

        Args:
            content: Of the file.
            source: Its name, for the error text.

        Returns:
            The cache.

        Raises:
            DataError: A line cannot be read; it is named.
        """
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{source} is not text", hint="give the file that TensorRT wrote") from error
        lines = text.split("\n")
        if not HEADER.fullmatch(lines[0].rstrip("\r")):
            raise DataError(
                f"{source}, line 1: {lines[0][:60]!r} is not the first line of a TensorRT calibration cache",
                hint="it reads like TRT-8600-EntropyCalibration2",
            )
        if lines[-1]:
            raise DataError(
                f"{source}, line {len(lines)}: {lines[-1][:80]!r} has no line end: the file is truncated",
                hint="delete the cache and calibrate again",
            )
        scales = _scales_at_once(text, lines)
        if scales is None:  # a line cannot be read: which?
            scales = _scales_by_line(lines, source)
        if not scales:
            raise DataError(f"{source} has no tensors", hint="delete the cache and calibrate again")
        return cls(lines[0].rstrip("\r"), scales)

    def to_bytes(self) -> bytes:
        """The file as TensorRT writes it."""
        if "" in self.scales or _CONTROL.search("".join(self.scales)):
            name = next(name for name in self.scales if _CONTROL.search(name) or not name)
            raise DataError(f"tensor name {name!r} cannot stand in a calibration cache", hint="rename the tensor")
        bits = np.array(list(self.scales.values()), np.float32).view(np.uint32).tolist()
        rows = [f"{name}: {word:x}" for name, word in zip(self.scales, bits, strict=True)]
        return "\n".join([self.header, *rows, ""]).encode("utf-8")

    def for_tensorrt(self, version: str) -> TrtCache:
        """The same scales under the first line of another TensorRT.

        8.6.0 reads any, versions from 10 on have been reported to refuse another one's. That of the legacy calibrator
        names no version and stays.

        Args:
            version: All three numbers: `10.16.1`.

        Returns:
            The cache, of the calibrator that it was.

        Raises:
            ConfigError: There is no such version or calibrator.
        """
        check_version(version)
        header = read_header(self.header)
        if header is not None and header.calibrator == LEGACY:
            return self
        calibrator = header.calibrator if header is not None else ""
        check_calibrator(calibrator)
        return replace(self, header=f"TRT-{version_digits(version)}-{calibrator}")

    def save(self, path: str | Path) -> None:
        """Write the file atomically."""
        write_bytes(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> TrtCache:
        """Read a file; DataError if it is missing or corrupt."""
        return cls.from_bytes(read_bytes(Path(path), "calibration cache").removeprefix(BOM_UTF8), str(path))


def _scales_at_once(text: str, lines: list[str]) -> dict[str, np.float32] | None:
    """The scales of a cache, millions of lines in seconds; None if a line is not as it has to be."""
    found = _LINES.findall(text, len(lines[0]))
    filled = len(lines) - 1 - lines.count("") - lines.count("\r")
    values = np.fromiter((int(bits, 16) for _, bits in found), np.uint32, len(found)).view(np.float32)
    scales = dict(zip((name for name, _ in found), values, strict=True))
    sound = len(found) == filled and len(scales) == len(found)
    return scales if sound and not np.signbit(values).any() and bool((values <= _LARGEST).all()) else None


def _scales_by_line(lines: list[str], source: str) -> dict[str, np.float32]:
    """The same; DataError names the line that cannot be read."""
    scales: dict[str, np.float32] = {}
    for number, line in enumerate((row.rstrip("\r") for row in lines[1:]), start=2):
        if not line:
            continue
        match = _LINE.fullmatch(line)
        scale = np.uint32(int(match["bits"], 16)).view(np.float32) if match else None
        if match is None or scale is None or not _is_scale(scale) or match["name"] in scales:
            raise DataError(
                f"{source}, line {number}: {line[:80]!r} is corrupt, expected 'tensor name: hex' with the bits "
                f"of a scale of 0 to {_LARGEST:.4g}, each name once",
                hint="delete the cache and calibrate again",
            )
        scales[match["name"]] = np.float32(scale)
    return scales


def _is_scale(scale: np.float32) -> bool:
    """Finite with its amax, and not negative: not -0 either."""
    return bool(scale <= _LARGEST) and not np.signbit(scale)


def table_from_cache(cache: TrtCache, source: str = "") -> CalibrationTable:
    """The table of a cache: `amax = scale * 127`, exact for every scale TensorRT can have made.

    Args:
        cache: What TensorRT wrote.
        source: Where it comes from, for provenance.

    Returns:
        The table; of its provenance only the first line and the source are known.
    """
    values = amax_from_scale(np.array(list(cache.scales.values()), np.float32))  # at once: there may be millions
    amax = dict(zip(cache.scales, values, strict=True))
    return CalibrationTable(amax, Provenance(algorithm=cache.header, source=source or "TensorRT calibration cache"))


def cache_from_table(
    table: CalibrationTable, *, calibrator: str = "EntropyCalibration2", tensorrt: str = "8600"
) -> TrtCache:
    """A cache that TensorRT reads: `scale = float32(amax / 127)`, 0 for an all-zero tensor.

    Args:
        table: The ranges.
        calibrator: EntropyCalibration2, MinMaxCalibration or EntropyCalibration, the class that will read it.
        tensorrt: The version digits of the first line (8600 for 8.6.0); see `TrtCache.for_tensorrt`.

    Returns:
        The cache, in the order of the table.

    Raises:
        ConfigError: There is no such calibrator.
    """
    check_calibrator(calibrator)
    values = np.abs(np.array(list(table.amax.values()), np.float32)) / np.float32(INT8_MAX)
    scales = dict(zip(table.amax, values, strict=True))
    return TrtCache(f"TRT-{tensorrt}-{calibrator}", scales)
