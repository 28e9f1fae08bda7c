"""quantlab: INT8 quantization and calibration for TensorRT.

The public names, in pipeline order. They are loaded on first use, so that `import quantlab` stays fast and needs
neither ONNX Runtime nor TensorRT nor CUDA.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantlab.backends import BackendSet, parse_backend
    from quantlab.calibration import (
        CalibrationShard,
        CalibrationTable,
        TrtCache,
        cache_from_table,
        merge_shards,
        save_ep_table,
        table_from_cache,
        table_from_ep,
    )
    from quantlab.comparison import Comparison
    from quantlab.data import (
        PRESETS,
        ArrayBatches,
        ImageBatches,
        IterableBatches,
        LoaderBatches,
        Preprocess,
        image_folder,
        open_data,
        script_batches,
    )
    from quantlab.data_check import check_data
    from quantlab.errors import QuantlabError
    from quantlab.migration import migrate_to_cache, migrate_to_qdq
    from quantlab.observers import OBSERVERS, Entropy, MinMax, Mse, Observer, Percentile
    from quantlab.origin import trace_error
    from quantlab.pipeline import Quantized, WeightStyle, calibrate, calibrate_all, compare, quantize, tensorrt_cache
    from quantlab.qdq import Selection, to_half
    from quantlab.report import write_report
    from quantlab.requantization import import_scales, repair, requantize
    from quantlab.sharding import calibrate_shard, calibrate_shards
    from quantlab.trtexec import TrtexecOptions, trtexec_command
    from quantlab.tune import calibrate_auto, correct_bias

__version__ = "0.1.0"

_HOME = {
    "Preprocess": "data",
    "PRESETS": "data",
    "open_data": "data",
    "image_folder": "data",
    "script_batches": "data",
    "ImageBatches": "data",
    "ArrayBatches": "data",
    "IterableBatches": "data",
    "LoaderBatches": "data",
    "Observer": "observers",
    "OBSERVERS": "observers",
    "Entropy": "observers",
    "MinMax": "observers",
    "Percentile": "observers",
    "Mse": "observers",
    "calibrate": "pipeline",
    "calibrate_all": "pipeline",
    "calibrate_auto": "tune",
    "CalibrationTable": "calibration",
    "TrtCache": "calibration",
    "table_from_cache": "calibration",
    "cache_from_table": "calibration",
    "save_ep_table": "calibration",
    "table_from_ep": "calibration",
    "quantize": "pipeline",
    "Quantized": "pipeline",
    "WeightStyle": "pipeline",
    "CalibrationShard": "calibration",
    "merge_shards": "calibration",
    "calibrate_shard": "sharding",
    "check_data": "data_check",
    "calibrate_shards": "sharding",
    "correct_bias": "tune",
    "Selection": "qdq",
    "to_half": "qdq",
    "migrate_to_cache": "migration",
    "migrate_to_qdq": "migration",
    "import_scales": "requantization",
    "requantize": "requantization",
    "repair": "requantization",
    "tensorrt_cache": "pipeline",
    "compare": "pipeline",
    "trace_error": "origin",
    "BackendSet": "backends",
    "parse_backend": "backends",
    "Comparison": "comparison",
    "write_report": "report",
    "TrtexecOptions": "trtexec",
    "trtexec_command": "trtexec",
    "QuantlabError": "errors",
}

__all__ = [
    "OBSERVERS",
    "PRESETS",
    "ArrayBatches",
    "BackendSet",
    "CalibrationShard",
    "CalibrationTable",
    "Comparison",
    "Entropy",
    "ImageBatches",
    "IterableBatches",
    "LoaderBatches",
    "MinMax",
    "Mse",
    "Observer",
    "Percentile",
    "Preprocess",
    "Quantized",
    "QuantlabError",
    "Selection",
    "TrtCache",
    "TrtexecOptions",
    "WeightStyle",
    "__version__",
    "cache_from_table",
    "calibrate",
    "calibrate_all",
    "calibrate_auto",
    "calibrate_shard",
    "calibrate_shards",
    "check_data",
    "compare",
    "correct_bias",
    "image_folder",
    "import_scales",
    "merge_shards",
    "migrate_to_cache",
    "migrate_to_qdq",
    "open_data",
    "parse_backend",
    "quantize",
    "repair",
    "requantize",
    "save_ep_table",
    "script_batches",
    "table_from_cache",
    "table_from_ep",
    "tensorrt_cache",
    "to_half",
    "trace_error",
    "trtexec_command",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its room (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'quantlab' has no attribute '{name}'")
    value = getattr(import_module(f"quantlab.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
