"""From batches to a `CalibrationTable`, and TensorRT's calibration cache."""

from quantlab.calibration.offline import CalibrationRun, run_calibration
from quantlab.calibration.table import CalibrationTable, Provenance
from quantlab.calibration.trt_cache import TrtCache, cache_from_table, load_table, table_from_cache

__all__ = [
    "CalibrationRun",
    "CalibrationTable",
    "Provenance",
    "TrtCache",
    "cache_from_table",
    "load_table",
    "run_calibration",
    "table_from_cache",
]
