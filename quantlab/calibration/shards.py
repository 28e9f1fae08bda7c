"""What one machine has counted of its part of the data: written, read, merged, turned into tables."""

from __future__ import annotations

import hashlib
import io
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.calibration.cache_header import calibrator_of, read_header
from quantlab.calibration.load import load_table
from quantlab.calibration.notices import all_zero_notice, saturation_notices
from quantlab.calibration.table import CalibrationTable, Provenance, notices_from
from quantlab.data.numpy_files import read_npz, refused
from quantlab.errors import ConfigError, Notice
from quantlab.files import read_bytes, write_bytes
from quantlab.observers import (
    Algorithm,
    Histogram,
    MinMax,
    Observer,
    algorithm_name,
    final_amax,
    fresh,
    reads_histogram,
    resolve_algorithm,
)
from quantlab.observers.binning import BINS
from quantlab.observers.histogram import SMALLEST_RANGE
from quantlab.strict_json import json_text
from quantlab.typed_json import read_document

FORMAT = "quantlab.calibration_shard"
VERSION = 1
_PARTS = {"counts": np.int64, "range": np.float32, "amax": np.float32, "zeros": np.int64, "batches": np.int64}
"""The arrays of a file, beside its head: a row or a value per tensor."""
_MOST = 2**53
"""Values that a tensor can have been counted with: float64 holds no larger count exactly."""


@dataclass(frozen=True, slots=True)
class CalibrationShard:
    """What one part of the data has in it.

    Attributes:
        histograms: Order-independent ones, per tensor in network order.
        provenance: Of this part of the data.
        warnings: About the data, such as samples that were left out.
    """

    histograms: Mapping[str, Histogram]
    provenance: Provenance
    warnings: tuple[Notice, ...] = ()

    def table(self, algorithm: Algorithm) -> CalibrationTable:
        """The table of one algorithm; ConfigError for an observer that has to see the values themselves."""
        observer = resolve_algorithm(algorithm)
        if not (reads_histogram(observer) or type(observer) is MinMax):
            raise ConfigError(
                f"algorithm '{algorithm_name(observer)}' cannot work from a histogram",
                hint="use minmax, entropy, percentile-P or mse",
            )
        amax = {name: _amax(observer, histogram) for name, histogram in self.histograms.items()}
        name = algorithm_name(observer)
        zero = [all_zero_notice(t) for t, h in self.histograms.items() if not h.range]
        warnings = (*self.warnings, *zero, *saturation_notices(name, amax, self.histograms))
        return CalibrationTable(amax, replace(self.provenance, algorithm=name), warnings)

    def save(self, path: str | Path) -> None:
        """Write an .npz file atomically: counts, ranges and provenance, about 16 KB per tensor before compression."""
        each = list(self.histograms.values())
        head = {"format": FORMAT, "version": VERSION, "tensors": list(self.histograms)}
        head["warnings"] = list(self.warnings)
        head["warning_kinds"] = [[w.kind, w.tensor] for w in self.warnings]
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            head=np.array(json_text(head | {"provenance": asdict(self.provenance)})),
            counts=np.array([h.counts for h in each], np.int64),
            range=np.array([h.range for h in each], np.float32),
            amax=np.array([h.amax for h in each], np.float32),
            zeros=np.array([h.zeros_before for h in each], np.int64),
            batches=np.array([h.batches for h in each], np.int64),
        )
        write_bytes(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> CalibrationShard:
        """Read an .npz file; DataError if it is missing or not a shard."""
        content = io.BytesIO(read_bytes(Path(path), "calibration shard"))
        what = f"{path} is not a calibration shard (version {VERSION})"
        with refused(what, "make one with quantlab calibrate --order-independent -o NAME.npz"):
            stored = read_npz(content, texts=True)
            if stored.keys() != {"head", *_PARTS} or stored["head"].shape or stored["head"].dtype.kind != "U":
                raise ValueError(f"its arrays are {', '.join(stored)[:200] or 'none'}")
            head = read_document(_text(stored["head"]), _Head, FORMAT, VERSION)
            parts = {key: _part(key, stored[key], len(head.tensors)) for key in _PARTS}
            histograms = {name: _histogram(name, parts, row) for row, name in enumerate(head.tensors)}
            if len(histograms) < len(head.tensors):
                raise ValueError("a tensor is there twice")
            return cls(histograms, head.provenance, notices_from(head.warnings, head.warning_kinds))


@dataclass(frozen=True, slots=True)
class _Head:
    """What the head of a file has beside its format and version."""

    tensors: tuple[str, ...]
    provenance: Provenance
    warnings: tuple[str, ...] = ()
    warning_kinds: tuple[tuple[str, str], ...] | None = None


def _text(array: NDArray[Any]) -> str:
    """What an array of one text holds; NumPy does not look whether its numbers are letters."""
    letters = np.atleast_1d(array.astype(array.dtype.newbyteorder("="))).view(np.uint32)
    if letters.size and letters.max() > sys.maxunicode:
        raise ValueError("its head is no text")
    return str(array)


def _part(key: str, array: NDArray[Any], tensors: int) -> NDArray[Any]:
    """One of `_PARTS`; ValueError for another type or shape."""
    shape = (tensors, BINS) if key == "counts" else (tensors,)
    if array.dtype.newbyteorder("=") != _PARTS[key] or array.shape != shape:
        raise ValueError(f"{key} are {array.dtype} of shape {array.shape}, expected {_PARTS[key].__name__} of {shape}")
    return array.astype(_PARTS[key])


def _check_counts(name: str, histogram: Histogram) -> None:
    """ValueError unless these are counts that an order-independent histogram can have."""
    counts, upper, amax = histogram.counts, float(histogram.range), float(histogram.amax)
    few = 0 <= histogram.zeros_before <= _MOST and 1 <= histogram.batches <= _MOST
    if not few or counts.min() < 0 or counts.sum(dtype=np.float64) > _MOST:
        raise ValueError(f"the counts of tensor '{name}' are negative or too large")
    if upper == 0:
        good = 0 <= amax < SMALLEST_RANGE and not counts.any()
    else:
        good = 0 < upper / 2 <= amax < upper <= 2.0**127 and math.frexp(upper)[0] == 0.5 and not histogram.zeros_before
        last = int(amax * BINS / upper) if good else 0
        good = good and counts[last] > 0 and not counts[last + 1 :].any()
    if not good:
        raise ValueError(f"the histogram of tensor '{name}', range {upper:.9g}, amax {amax:.9g}, contradicts itself")


def _histogram(name: str, parts: Mapping[str, NDArray[Any]], row: int) -> Histogram:
    histogram = Histogram(order_independent=True)
    histogram.counts = parts["counts"][row].copy()
    histogram.range, histogram.amax = np.float32(parts["range"][row]), np.float32(parts["amax"][row])
    histogram.zeros_before, histogram.batches = int(parts["zeros"][row]), int(parts["batches"][row])
    _check_counts(name, histogram)
    return histogram


def _amax(prototype: Observer, histogram: Histogram) -> np.float32:
    observer = fresh(prototype)
    if not reads_histogram(observer):  # min-max
        largest: np.float32 = histogram.amax
        return largest
    observer.histogram = histogram
    return final_amax(observer)


def merge_shards(shards: Sequence[CalibrationShard]) -> CalibrationShard:
    """All parts as one, equal to the last count to one pass over all the data, in any order of the parts.

    Raises:
        ConfigError: They are of different models, tensors, preprocesses or versions, one part comes twice, or there are
            none.
    """
    if not shards:
        raise ConfigError("there are no calibration shards to merge", hint="give at least one")
    first = shards[0]
    left_out = {warning.tensor for shard in shards for warning in shard.warnings if warning.kind == "not_finite"}
    tensors = [[name for name in shard.histograms if name not in left_out] for shard in shards]
    for other, names in zip(shards[1:], tensors[1:], strict=True):
        for field in ("model_hash", "preprocess", "source", "versions"):
            mine, theirs = getattr(first.provenance, field), getattr(other.provenance, field)
            if mine != theirs:
                raise ConfigError(f"the shards differ in {field}: {mine} and {theirs}", hint="calibrate them alike")
        if names != tensors[0]:
            raise ConfigError("the shards have different tensors", hint="calibrate them with the same --tensors")
    hashes = [s.provenance.data_hash for s in shards]
    if len(set(hashes)) < len(hashes):
        raise ConfigError("two shards are of the same data, which would count twice", hint="give every part once")
    merged = {name: Histogram(order_independent=True) for name in tensors[0]}
    for shard in shards:
        for name, histogram in merged.items():
            histogram.merge(shard.histograms[name])
    provenance = replace(
        first.provenance,
        data_hash=hashes[0] if len(shards) == 1 else hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest(),
        samples_hash=first.provenance.samples_hash if len(shards) == 1 else "",
        batches=sum(s.provenance.batches for s in shards),
        samples=sum(s.provenance.samples for s in shards),
        batch_size=max(s.provenance.batch_size for s in shards),
    )
    warnings = tuple(dict.fromkeys(warning for shard in shards for warning in shard.warnings))
    return CalibrationShard(merged, provenance, warnings)


def merge_minmax(tables: Sequence[CalibrationTable]) -> CalibrationTable:
    """The largest amax of every tensor.

    Raises:
        ConfigError: A table is of another algorithm, whose amax alone does not say how many values lie where; tables
            and caches, or caches of several versions of TensorRT, are mixed; or as `merge_shards`.
    """
    for table in tables:
        if calibrator_of(table.provenance.algorithm) != "MinMaxCalibration":
            raise ConfigError(
                f"a table of algorithm '{table.provenance.algorithm or 'unknown'}' cannot be merged: its amax depends "
                "on all values together",
                hint="calibrate every part with --order-independent -o NAME.npz and merge those",
            )
    kinds = list(dict.fromkeys(table.provenance.algorithm for table in tables))
    if len(kinds) > 1:
        raise ConfigError(
            f"the parts are of {kinds[0]} and of {kinds[1]}",
            hint="write both for one TensorRT: quantlab migrate MODEL --table FILE --tensorrt VERSION -o NAME.cache",
        )
    merged = merge_shards([_as_shard(table) for table in tables])
    amax = {name: np.float32(max(table.amax[name] for table in tables)) for name in merged.histograms}
    warnings = dict.fromkeys(
        w for table in tables for w in table.warnings if not (w.kind == "all_zero" and amax.get(w.tensor))
    )
    return CalibrationTable(amax, merged.provenance, tuple(warnings))


def _as_shard(table: CalibrationTable) -> CalibrationShard:
    """A part of which only the largest values are known. A cache without a record is known by its scales."""
    p = table.provenance
    if read_header(p.algorithm) is not None:
        scales = "".join(f"{name}{amax}" for name, amax in table.amax.items())
        p = replace(p, source="", data_hash=p.data_hash or hashlib.sha256(scales.encode()).hexdigest())
    return CalibrationShard({n: _only_amax(a) for n, a in table.amax.items()}, p, table.warnings)


def _only_amax(amax: np.float32) -> Histogram:
    histogram = Histogram(order_independent=True)
    histogram.amax = amax
    return histogram


def merge_files(parts: Sequence[Path], algorithm: Algorithm) -> CalibrationTable:
    """Merge files of parts that were calibrated apart.

    Args:
        parts: .npz files of `CalibrationShard`, min-max tables, or caches of TensorRT's min-max calibrator.
        algorithm: What is read off the histograms; min-max tables stay min-max.

    Returns:
        One table for all the data.

    Raises:
        ConfigError: They are of both kinds, or cannot be merged.
        DataError: One cannot be read.
    """
    suffixes = {part.suffix for part in parts}
    if suffixes == {".npz"}:
        return merge_shards([CalibrationShard.load(part) for part in parts]).table(algorithm)
    if ".npz" in suffixes:
        raise ConfigError("parts are .npz files and tables mixed", hint="merge .npz files, or min-max tables or caches")
    return merge_minmax([load_table(part) for part in parts])
