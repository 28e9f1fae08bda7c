"""Measuring engines on TensorRT."""

from __future__ import annotations

from collections.abc import Mapping

from quantlab.data import Batch
from quantlab.engines import measure
from quantlab.engines.bench import BenchOptions, BenchResult
from quantlab.engines.engine import Engine
from quantlab.trt.runtime import TensorrtRuntime


def bench(engines: Mapping[str, Engine], batch: Batch, options: BenchOptions | None = None) -> list[BenchResult]:
    """Measure engines on the same batch, interleaved: see `quantlab.engines.measure.bench`.

    Args:
        engines: By name.
        batch: What all of them run on.
        options: How to measure.

    Returns:
        A result for every engine, in order.

    Raises:
        DataError: The batch does not fit one of them.
    """
    return measure.bench(TensorrtRuntime(), engines, batch, options)
