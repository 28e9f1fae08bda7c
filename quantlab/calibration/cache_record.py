"""A calibration cache with its provenance: a JSON file beside it that says what it was made from.

TensorRT reads any cache for any model without a word. Here a cache is used only if its record says it fits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quantlab.calibration.trt_cache import TrtCache
from quantlab.errors import DataError
from quantlab.files import is_file, read_bytes, read_text, read_together, together, write_bytes, write_text
from quantlab.strict_json import json_text
from quantlab.typed_json import Count, read_document

FORMAT = "quantlab.calibration_cache"


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """What a cache was made from.

    Empty strings, zeros and None stand for unknown; an unknown is never held against a cache that records more.

    Attributes:
        algorithm: TensorRT's name of the calibrator.
        model_hash: Names the model.
        data_hash: Names the batches.
        preprocess: What made the batches, as plain values.
        batch_size: Samples per batch.
        batches: How many.
        tensorrt: The version that calibrated.
        gpu: The GPU that calibrated.
        cache_hash: SHA-256 of the file of the cache.
        note: What was done, in words, where TensorRT did not write the cache.
    """

    algorithm: str = ""
    model_hash: str = ""
    data_hash: str = ""
    preprocess: Mapping[str, Any] | None = None
    batch_size: Count = 0
    batches: Count = 0
    tensorrt: str = ""
    gpu: str = ""
    cache_hash: str = ""
    note: str = ""


def record_path(cache: Path) -> Path:
    """The record of `calibration.cache` is `calibration.cache.json`."""
    return cache.with_name(cache.name + ".json")


def save_cache(path: Path, content: bytes, record: CacheRecord) -> None:
    """Write cache and record together; a cache without a record is not used.

    Args:
        path: The file of the cache.
        content: What TensorRT gave to be written.
        record: What it was made from; its `cache_hash` is filled in.
    """
    values = asdict(record) | {"format": FORMAT, "cache_hash": hashlib.sha256(content).hexdigest()}
    with together():
        write_bytes(path, content)
        write_text(record_path(path), json_text(values))


def load_record(cache: Path) -> CacheRecord:
    """The record of a cache; DataError if it is missing or broken."""
    path = record_path(cache)
    if not is_file(path):
        raise DataError(
            f"calibration cache {cache} has no record {path.name} of what it was made from",
            hint="delete the cache, or use it all the same with trust_cache",
        )
    try:
        return read_document(read_text(path, "cache record"), CacheRecord, FORMAT)
    except ValueError as error:
        raise DataError(f"cache record {path} cannot be read: {error}", hint="delete cache and record") from error


def refusals(cache: Path, expected: CacheRecord, tensors: Collection[str] = ()) -> list[str]:
    """Decide whether a cache fits.

    Args:
        cache: Its file.
        expected: What is about to be calibrated; fields that are unknown there are not compared.
        tensors: Names that must have a scale.

    Returns:
        The reasons not to use it: empty if it fits.

    Raises:
        DataError: The cache is corrupt, or its record is missing or broken.
    """
    content, record, cache_hash = read_together(cache, lambda: _with_record(cache))
    reasons = []
    if record.cache_hash != cache_hash:
        reasons.append("it was changed after its record was written")
    for name in ("algorithm", "model_hash", "data_hash", "preprocess", "batch_size", "batches", "tensorrt", "gpu"):
        wanted, got = getattr(expected, name), getattr(record, name)
        if wanted and wanted != got:
            reasons.append(f"its {name} is {_short(got)}, this calibration's {_short(wanted)}")
    missing = [t for t in tensors if t not in content.scales]
    if missing:
        reasons.append(f"it is incomplete: {len(missing)} tensors are missing (first: '{missing[0]}')")
    return reasons


def _with_record(cache: Path) -> tuple[TrtCache, CacheRecord, str]:
    """A cache, its record, and the hash of its file."""
    content = TrtCache.load(cache)  # a corrupt cache raises here, naming the line
    return content, load_record(cache), hashlib.sha256(read_bytes(cache, "calibration cache")).hexdigest()


def _short(value: object) -> str:
    text = str(value) or "unknown"
    return text if len(text) <= 40 else text[:16] + "..."
