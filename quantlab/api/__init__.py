"""The verbs of quantlab, each a call of the rooms below. Models as path or ModelProto; nothing is written.

The jobs beside them do what a command of the command line does, from a request to a file.
"""

from quantlab.api.calibration import calibrate, calibrate_all, calibrate_shard, calibrate_shards, check_data
from quantlab.api.models import compare, migrate, quantize
from quantlab.api.sensitivity import sensitivity
from quantlab.api.tuning import TuningRequest, record_latencies, tune
from quantlab.arguments import guard
from quantlab.tune import quantize_closest

__all__ = [
    "TuningRequest",
    "calibrate",
    "calibrate_all",
    "calibrate_shard",
    "calibrate_shards",
    "check_data",
    "compare",
    "migrate",
    "quantize",
    "quantize_closest",
    "record_latencies",
    "sensitivity",
    "tune",
]

guard(globals())
