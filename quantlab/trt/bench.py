"""Measuring engines on TensorRT."""

from __future__ import annotations

from collections.abc import Mapping

from quantlab.data import Batch
from quantlab.engines import measure
from quantlab.engines.bench import BenchOptions, BenchResult
from quantlab.engines.engine import Engine
from quantlab.trt.runtime import TensorrtRuntime


def bench(engines: Mapping[str, Engine], batch: Batch, options: BenchOptions | None = None) -> list[BenchResult]:
    """Measure engines of this machine, interleaved. See `quantlab.engines.measure.bench`."""
    return measure.bench(TensorrtRuntime(), engines, batch, options)
