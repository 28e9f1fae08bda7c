"""Which TensorRT this is. What it can is `FEATURES`."""

from __future__ import annotations

from quantlab.engines.features import features_of
from quantlab.errors import MissingDependencyError

try:
    import tensorrt as trt
except ImportError as error:
    raise MissingDependencyError(
        f"TensorRT cannot be imported: {error}",
        hint="pip install 'quantlab[tensorrt]' (on a machine with an NVIDIA GPU)",
    ) from error

__all__ = ["FEATURES", "MAJOR", "VERSION", "require_calibrators", "require_weak_typing", "trt"]

VERSION: str = trt.__version__
MAJOR = int(VERSION.split(".")[0])
if MAJOR < 8 or tuple(int(p) for p in VERSION.split(".")[:2]) < (8, 5):
    raise MissingDependencyError(
        f"TensorRT {VERSION} is too old: it has no named tensors",
        hint="pip install 'quantlab[tensorrt]' (8.6 or newer)",
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
