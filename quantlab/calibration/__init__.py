"""From batches to a `CalibrationTable`, and TensorRT's calibration cache."""

from quantlab.arguments import guard
from quantlab.calibration.cluster import run_shard, run_shards
from quantlab.calibration.ep_table import ep_table_bytes, save_ep_table, table_from_ep
from quantlab.calibration.load import load_table
from quantlab.calibration.offline import CalibrationRun, CalibrationTarget, Progress, RunOptions, run_calibration
from quantlab.calibration.shards import CalibrationShard, merge_files, merge_minmax, merge_shards
from quantlab.calibration.sufficiency import DataCheck, TensorCheck, judge_data
from quantlab.calibration.table import CalibrationTable, Provenance
from quantlab.calibration.trt_cache import TrtCache, cache_from_table, table_from_cache

__all__ = [
    "CalibrationRun",
    "CalibrationShard",
    "CalibrationTable",
    "CalibrationTarget",
    "DataCheck",
    "Progress",
    "Provenance",
    "RunOptions",
    "TensorCheck",
    "TrtCache",
    "cache_from_table",
    "ep_table_bytes",
    "judge_data",
    "load_table",
    "merge_files",
    "merge_minmax",
    "merge_shards",
    "run_calibration",
    "run_shard",
    "run_shards",
    "save_ep_table",
    "table_from_cache",
    "table_from_ep",
]

guard(globals())
