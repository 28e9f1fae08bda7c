"""From batches to a `CalibrationTable`, and TensorRT's calibration cache."""

from quantlab.calibration.offline import CalibrationRun, run_calibration
from quantlab.calibration.shards import CalibrationShard, merge_minmax, merge_shards
from quantlab.calibration.table import CalibrationTable, Provenance
from quantlab.calibration.trt_cache import TrtCache, cache_from_table, load_table, table_from_cache

__all__ = [
    "CalibrationRun",
    "CalibrationShard",
    "CalibrationTable",
    "Provenance",
    "TrtCache",
    "cache_from_table",
    "load_table",
    "merge_minmax",
    "merge_shards",
    "run_calibration",
    "table_from_cache",
]
