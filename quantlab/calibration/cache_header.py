"""The first line of a calibration cache: which calibrator of which TensorRT wrote it, and what can be told of that."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quantlab.errors import ConfigError, Notice

CALIBRATORS = ("EntropyCalibration2", "MinMaxCalibration", "EntropyCalibration")
"""What TensorRT calls its calibrators in a first line; the legacy calibrator's has no name."""
LEGACY = "LegacyCalibration"
LAST = (10, 16)
"""The last TensorRT that has calibrators."""
HEADER = re.compile(r"TRT-([0-9]{1,9})-([A-Za-z0-9_]{1,80})|[0-9]{1,9} [0-9a-f]{1,16} [0-9a-f]{1,16}")


@dataclass(frozen=True, slots=True)
class CacheHeader:
    """What a first line says.

    Attributes:
        calibrator: TensorRT's name of it; `LEGACY` for the legacy calibrator.
        tensorrt: The version, all three numbers; '' where none is named or there is none with those digits.
    """

    calibrator: str
    tensorrt: str


def read_header(line: str) -> CacheHeader | None:
    """What a first line says, None for what is none."""
    found = HEADER.fullmatch(line)
    if found is None:
        return None
    return CacheHeader(found[2], _version_of(found[1])) if found[2] else CacheHeader(LEGACY, "")


def calibrator_of(algorithm: str) -> str | None:
    """The calibrator of TensorRT that finds such ranges.

    Args:
        algorithm: Of a table: the first line of the cache that it was read from, or one of quantlab's.

    Returns:
        Its name; None where no calibrator finds such ranges.
    """
    header = read_header(algorithm)
    if header is not None:
        return header.calibrator
    return {"minmax": "MinMaxCalibration", "entropy": "EntropyCalibration2"}.get(algorithm)


def check_calibrator(name: str) -> None:
    """ConfigError unless TensorRT has a calibrator of that name."""
    if name not in CALIBRATORS:
        raise ConfigError(f"TensorRT has no calibrator '{name}'", hint=f"one of {', '.join(CALIBRATORS)}")


def check_version(version: str) -> None:
    """ConfigError unless it is a version of TensorRT that has calibrators, all three numbers."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ConfigError(f"TensorRT '{version}' is no version", hint="write all three numbers: 10.16.1")
    major, minor, patch = map(int, version.split("."))
    if (major, minor) > LAST:
        raise ConfigError(
            f"TensorRT {version} has no calibrators and reads no calibration cache: {LAST[0]}.{LAST[1]} is the last",
            hint="for TensorRT 11 write a Q/DQ model: quantlab migrate MODEL --table FILE -o NAME.onnx",
        )
    if major < 2 or patch > 99 or (major < 10 and minor > 9):
        raise ConfigError(f"there is no TensorRT {version}", hint="the version that will read the cache: 8.6.1, 10.3.0")


def version_digits(version: str) -> str:
    """The version in a cache's first line: 8.6.0 is 8600, 10.16.1 is 101601 (NV_TENSORRT_VERSION)."""
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    return str(major * (1000 if major < 10 else 10000) + minor * 100 + patch)


def _version_of(digits: str) -> str:
    """The inverse for versions that can have written a cache, else ''."""
    number = int(digits)
    base = 10000 if number >= 100000 else 1000
    version = f"{number // base}.{number % base // 100}.{number % 100}"
    try:
        check_version(version)
    except ConfigError:
        return ""
    return version if version_digits(version) == digits else ""


def header_notices(algorithm: str) -> list[Notice]:
    """Say what the first line of a cache leaves open.

    Args:
        algorithm: Of a table.

    Returns:
        A notice for a version, and for a calibrator, that TensorRT never had; none for a table that is no cache.
    """
    header = read_header(algorithm)
    if header is None or header.calibrator == LEGACY:
        return []
    notices = []
    if not header.tensorrt:
        notices.append(
            Notice(f"the first line of the cache ({algorithm}) names no TensorRT that has calibrators", "other_origin")
        )
    if header.calibrator not in CALIBRATORS:
        notices.append(
            Notice(f"the cache is of calibrator '{header.calibrator}', which TensorRT does not have", "other_origin")
        )
    return notices
