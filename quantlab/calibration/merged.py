"""A table that was merged of caches, as a cache again."""

from __future__ import annotations

from pathlib import Path

from quantlab.calibration.cache_header import read_header
from quantlab.calibration.cache_record import CacheRecord, save_cache
from quantlab.calibration.table import CalibrationTable
from quantlab.calibration.trt_cache import TrtCache, cache_from_table
from quantlab.errors import ConfigError


def save_merged_cache(table: CalibrationTable, path: Path) -> None:
    """Write the cache of a table that `merge_minmax` made of caches.

    Args:
        table: The table.
        path: The file; its record goes beside it.

    Raises:
        ConfigError: It was made of something else: which tensors TensorRT gives the scale of another, the model says.
    """
    p = table.provenance
    header = read_header(p.algorithm)
    if header is None:
        raise ConfigError(
            f"output {path} is a TensorRT calibration cache, the parts are none",
            hint="merge to NAME.json, then quantlab migrate MODEL --table NAME.json -o NAME.cache",
        )
    cache = TrtCache(p.algorithm, cache_from_table(table).scales)
    note = "merged by quantlab: of every tensor the largest scale of all parts"
    record = CacheRecord(header.calibrator, p.model_hash, p.data_hash, p.preprocess, p.batch_size, p.batches, note=note)
    save_cache(path, cache.to_bytes(), record)
