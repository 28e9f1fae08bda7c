"""What is written under which suffix: one table for every command that writes scales."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import onnx

from quantlab.calibration import CalibrationTable, TrtCache, save_ep_table, table_from_cache
from quantlab.calibration.cache_header import LEGACY, calibrator_of, read_header
from quantlab.calibration.cache_record import CacheRecord, save_cache
from quantlab.errors import ConfigError, Notice
from quantlab.onnx_model import model_hash
from quantlab.qdq.migrate import tensorrt_cache
from quantlab.qdq.targets import ALL_TENSORS, QDQ_TENSORS
from quantlab.version import __version__


@dataclass(frozen=True, slots=True)
class Scales:
    """What is written.

    Attributes:
        proto: The FP32 model.
        table: Its ranges.
        calibrator: The class that will read a cache; None for the one that finds such ranges.
        tensorrt: The version that will read a cache, all three numbers.
    """

    proto: onnx.ModelProto
    table: CalibrationTable
    calibrator: str | None = None
    tensorrt: str = "8.6.0"

    def cache(self) -> TrtCache:
        """As a TensorRT calibration cache; ConfigError for a version or calibrator that does not exist."""
        found = calibrator_of(self.table.provenance.algorithm)
        if self.calibrator is None and found == LEGACY:  # its first line holds its quantile, and no version
            made = tensorrt_cache(self.proto, self.table)
            return replace(made, header=self.table.provenance.algorithm).for_tensorrt(self.tensorrt)
        calibrator = self.calibrator or found or "EntropyCalibration2"
        return tensorrt_cache(self.proto, self.table, calibrator).for_tensorrt(self.tensorrt)

    def notices(self) -> list[Notice]:
        """What is said in a cache that is not so: that another calibrator found the scales."""
        found = calibrator_of(self.table.provenance.algorithm)
        if self.calibrator is None or found in (None, self.calibrator):
            return []
        text = f"the scales are those of {found}, and the cache says that they are of {self.calibrator}"
        return [Notice(text, "other_origin")]

    def record(self, header: str) -> CacheRecord:
        """What is known of a cache that is written, and what was done to it."""
        p = self.table.provenance
        note = f"made by quantlab {__version__} of {p.algorithm or 'unknown'} scales from {p.source or 'unknown'}"
        given = read_header(header)
        name = "" if given is None else given.calibrator
        made_of = model_hash(self.proto)
        return CacheRecord(name, made_of, p.data_hash, p.preprocess, p.batch_size, p.batches, note=note)


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
    cache = scales.cache()
    save_cache(path, cache.to_bytes(), scales.record(cache.header))


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
