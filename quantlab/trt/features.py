"""Which TensorRT this is. What it can is `FEATURES`."""

from __future__ import annotations

from quantlab.engines.features import features_of
from quantlab.errors import MissingDependencyError
from quantlab.version import install_command

WITH_CALIBRATORS = install_command("calibrators")
"""The last TensorRT that has them: newer ones are pushed back by it, so only the calibrator path names it."""

try:
    import tensorrt as trt
except ImportError as error:
    raise MissingDependencyError(
        f"TensorRT cannot be imported: {error}",
        hint=f"on a machine with an NVIDIA GPU: pip install tensorrt for Q/DQ models, or {WITH_CALIBRATORS}",
    ) from error

__all__ = ["FEATURES", "MAJOR", "VERSION", "require_calibrators", "require_weak_typing", "trt"]

VERSION: str = trt.__version__
MAJOR = int(VERSION.split(".")[0])
if MAJOR < 8 or tuple(int(p) for p in VERSION.split(".")[:2]) < (8, 5):
    raise MissingDependencyError(
        f"TensorRT {VERSION} is too old: it has no named tensors",
        hint=f"pip install 'tensorrt>=8.6', or with calibrators {WITH_CALIBRATORS}",
    )

FEATURES = features_of(trt)


def require_calibrators() -> None:
    """MissingDependencyError where TensorRT has no calibrators, with the two ways on."""
    if not FEATURES.calibrators:
        raise MissingDependencyError(
            f"TensorRT {VERSION} has no calibrators: they were removed in 11.0, 10.16 is the last version with them",
            hint=f"take the explicit path (quantlab calibrate, quantlab quantize), or {WITH_CALIBRATORS}",
        )


def require_weak_typing(what: str) -> None:
    """MissingDependencyError where `what` (a precision flag, say) does not exist because every network is strongly
    typed."""
    if not FEATURES.weak_typing:
        raise MissingDependencyError(
            f"TensorRT {VERSION} has strongly typed networks only, and no {what}: 10.16 is the last with it",
            hint=f"put the types into the ONNX model (Q/DQ for INT8), or {WITH_CALIBRATORS}",
        )
