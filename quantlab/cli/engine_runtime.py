"""What runs the engines of the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantlab.engines.runtime import Runtime


def runtime() -> Runtime:
    """TensorRT on this machine; MissingDependencyError where it is not installed."""
    from quantlab.trt import open_runtime

    return open_runtime()
