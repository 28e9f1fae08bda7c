"""What is written under which suffix: one table for every command that writes scales."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import onnx

from quantlab.calibration import CalibrationTable, TrtCache, save_ep_table, table_from_cache
from quantlab.errors import ConfigError
from quantlab.qdq.migrate import tensorrt_cache
from quantlab.qdq.targets import ALL_TENSORS, QDQ_TENSORS


@dataclass(frozen=True, slots=True)
class Scales:
    """What is written.

    Attributes:
        proto: The FP32 model.
        table: Its ranges.
        calibrator: The class that will read a cache.
        tensorrt: The version that will read a cache, all three numbers.
    """

    proto: onnx.ModelProto
    table: CalibrationTable
    calibrator: str = "EntropyCalibration2"
    tensorrt: str = "8.6.0"

    def cache(self) -> TrtCache:
        """As a TensorRT calibration cache."""
        return tensorrt_cache(self.proto, self.table, self.calibrator).for_tensorrt(self.tensorrt)


@dataclass(frozen=True, slots=True)
class OutputKind:
    """A kind of file.

    Attributes:
        suffix: By which it is asked for.
        what: What it is, as a noun.
        tensors: Those that it needs: 'qdq' or 'all'.
        save: Writes scales; None where something else than scales is written.
    """

    suffix: str
    what: str
    tensors: str = QDQ_TENSORS
    save: Callable[[Scales, Path], None] | None = None


def _save_table(scales: Scales, path: Path) -> None:
    scales.table.save(path)


def _save_cache(scales: Scales, path: Path) -> None:
    scales.cache().save(path)


def _save_ep_table(scales: Scales, path: Path) -> None:
    save_ep_table(table_from_cache(scales.cache()), path)


OUTPUTS: Mapping[str, OutputKind] = MappingProxyType(
    {
        kind.suffix: kind
        for kind in (
            OutputKind(".json", "a calibration table", QDQ_TENSORS, _save_table),
            OutputKind(".cache", "a TensorRT calibration cache", ALL_TENSORS, _save_cache),
            OutputKind(".flatbuffers", "a calibration table of ONNX Runtime", ALL_TENSORS, _save_ep_table),
            OutputKind(".npz", "a part of the data to be merged"),
            OutputKind(".onnx", "a Q/DQ model"),
        )
    }
)


def output_kind(path: Path, allowed: Collection[str]) -> OutputKind:
    """Find out what a file is to be.

    Args:
        path: The file to write.
        allowed: The suffixes that make sense here.

    Returns:
        Its kind.

    Raises:
        ConfigError: The suffix is none of these.
    """
    suffix = path.suffix
    if suffix not in allowed:
        kinds = [f"NAME{OUTPUTS[kind].suffix} for {OUTPUTS[kind].what}" for kind in allowed]
        known = OUTPUTS.get(suffix)
        why = f"which is {known.what}: not to be had here" if known else "which says nothing about what to write"
        raise ConfigError(f"output {path} has suffix '{path.suffix}', {why}", hint="; ".join(kinds))
    return OUTPUTS[suffix]
