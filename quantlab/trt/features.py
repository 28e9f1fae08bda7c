"""Which TensorRT this is and what it can. Every difference between versions that quantlab knows stands here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quantlab.errors import MissingDependencyError

try:
    import tensorrt as trt
except ImportError as error:
    raise MissingDependencyError(
        f"TensorRT cannot be imported: {error}",
        hint="pip install 'quantlab[tensorrt]' (on a machine with an NVIDIA GPU)",
    ) from error

__all__ = [
    "FEATURES",
    "MAJOR",
    "VERSION",
    "Features",
    "features_of",
    "require_calibrators",
    "require_weak_typing",
    "trt",
]

VERSION: str = trt.__version__
MAJOR = int(VERSION.split(".")[0])
if MAJOR < 8 or tuple(int(p) for p in VERSION.split(".")[:2]) < (8, 5):
    raise MissingDependencyError(
        f"TensorRT {VERSION} is too old: it has no named tensors",
        hint="pip install 'quantlab[tensorrt]' (8.6 or newer)",
    )


@dataclass(frozen=True, slots=True)
class Features:
    """What a TensorRT offers. calibrators: up to 10.16. weak_typing: precisions by builder flags, up to 10.x.
    strong_typing: types from the ONNX model, since 9. dynamic_range: `ITensor.set_dynamic_range`, up to 10.x."""

    calibrators: bool
    weak_typing: bool
    strong_typing: bool
    dynamic_range: bool
    optimization_level: bool
    version_compatible: bool


def features_of(module: Any) -> Features:
    """The features of an imported tensorrt module, asked of the module itself, not of its version."""
    flags = module.BuilderFlag.__members__
    strong = "STRONGLY_TYPED" in module.NetworkDefinitionCreationFlag.__members__
    return Features(
        calibrators=hasattr(module, "IInt8EntropyCalibrator2") and hasattr(module.IBuilderConfig, "int8_calibrator"),
        weak_typing="INT8" in flags and "FP16" in flags,
        strong_typing=strong or "INT8" not in flags,
        dynamic_range=hasattr(module.ITensor, "set_dynamic_range"),
        optimization_level=hasattr(module.IBuilderConfig, "builder_optimization_level"),
        version_compatible="VERSION_COMPATIBLE" in flags,
    )


FEATURES = features_of(trt)


def require_calibrators() -> None:
    """MissingDependencyError where TensorRT has no calibrators, with the two ways on."""
    if not FEATURES.calibrators:
        raise MissingDependencyError(
            f"TensorRT {VERSION} has no calibrators: they were removed in 11.0, 10.16 is the last version with them",
            hint="take the explicit path (quantlab calibrate, quantlab quantize), or pip install 'tensorrt<11'",
        )


def require_weak_typing(what: str) -> None:
    """MissingDependencyError where `what` (a precision flag, say) does not exist because every network is strongly
    typed."""
    if not FEATURES.weak_typing:
        raise MissingDependencyError(
            f"TensorRT {VERSION} has strongly typed networks only, and no {what}: 10.16 is the last with it",
            hint="put the types into the ONNX model (Q/DQ for INT8), or use 'tensorrt<11'",
        )
