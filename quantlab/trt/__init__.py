"""TensorRT, imported in this folder only. This file needs none; every other one here does.

Nothing here asks at import time for what TensorRT 11 lacks: `quantlab.trt.calibrators` alone does, with an error that
names the way out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantlab.engines.runtime import Runtime


def open_runtime() -> Runtime:
    """The TensorRT of this machine; MissingDependencyError where it is not installed."""
    from quantlab.trt.runtime import TensorrtRuntime

    return TensorrtRuntime()
