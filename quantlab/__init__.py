"""quantlab: INT8 quantization and calibration for TensorRT.

The public names: the verbs of the pipeline and the types that their signatures name. Everything else is under its room
(`quantlab.data`, `quantlab.observers`, `quantlab.calibration`, `quantlab.qdq`, ...; all verbs are in `quantlab.api`).
Names are loaded on first use, so that `import quantlab` stays fast and needs neither ONNX Runtime nor TensorRT.
"""

from __future__ import annotations

from quantlab.version import __version__

TYPE_CHECKING = False  # as in typing, which takes as long as an interpreter to start: until then Ctrl-C is not met
if TYPE_CHECKING:
    from typing import Any

    from quantlab.api import calibrate, compare, migrate, quantize
    from quantlab.calibration import CalibrationTable
    from quantlab.comparison import Backend, Comparison
    from quantlab.data import PRESETS, ImageBatches, IterableBatches, LoaderBatches, Preprocess, image_folder
    from quantlab.errors import QuantlabError
    from quantlab.observers import Entropy, MinMax, Mse, Observer, Percentile
    from quantlab.qdq import Migrated, Quantized, Selection, WeightStyle
    from quantlab.report import ReportPaths, write_report
    from quantlab.tune import correct_bias

_HOME = {
    "image_folder": "data",
    "ImageBatches": "data",
    "IterableBatches": "data",
    "LoaderBatches": "data",
    "Preprocess": "data",
    "PRESETS": "data",
    "Observer": "observers",
    "Entropy": "observers",
    "MinMax": "observers",
    "Mse": "observers",
    "Percentile": "observers",
    "calibrate": "api",
    "CalibrationTable": "calibration",
    "quantize": "api",
    "Quantized": "qdq",
    "Selection": "qdq",
    "WeightStyle": "qdq",
    "correct_bias": "tune",
    "migrate": "api",
    "Migrated": "qdq",
    "compare": "api",
    "Backend": "comparison",
    "Comparison": "comparison",
    "write_report": "report",
    "ReportPaths": "report",
    "QuantlabError": "errors",
}

_ROOMS = (
    "api",
    "calibration",
    "comparison",
    "dali",
    "data",
    "engines",
    "errors",
    "fp16",
    "keras",
    "memory",
    "numerics",
    "observers",
    "onnx_model",
    "ort",
    "qdq",
    "report",
    "torch",
    "transforms",
    "triton",
    "trt",
    "tune",
)
"""The packages below, which hold everything that is not public here; loaded when they are named."""

__all__ = [
    "PRESETS",
    "Backend",
    "CalibrationTable",
    "Comparison",
    "Entropy",
    "ImageBatches",
    "IterableBatches",
    "LoaderBatches",
    "Migrated",
    "MinMax",
    "Mse",
    "Observer",
    "Percentile",
    "Preprocess",
    "Quantized",
    "QuantlabError",
    "ReportPaths",
    "Selection",
    "WeightStyle",
    "__version__",
    "calibrate",
    "compare",
    "correct_bias",
    "image_folder",
    "migrate",
    "quantize",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its room, or a room (PEP 562)."""
    from importlib import import_module

    if name in _ROOMS:
        return import_module(f"quantlab.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'quantlab' has no attribute '{name}': its rooms are {', '.join(_ROOMS)}")
    value = getattr(import_module(f"quantlab.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
