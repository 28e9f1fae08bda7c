"""Engines as backends of a comparison: built for its batch, measured interleaved, audited."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from quantlab.calibration.table import CalibrationTable
from quantlab.comparison import Backend
from quantlab.data.batches import Batch, Batches
from quantlab.model import input_specs
from quantlab.trt.audit import REGION, audit
from quantlab.trt.bench import BenchOptions, bench, ratio_of
from quantlab.trt.build import build
from quantlab.trt.calibrators import CALIBRATORS
from quantlab.trt.engine import Engine
from quantlab.trt.options import BuildOptions, Profile
from quantlab.trt.run import Runner
from quantlab.trt.table_calibrator import TableCalibrator

if TYPE_CHECKING:
    from quantlab.backends import BuildSettings


def profile_for(proto: onnx.ModelProto, batch: Batch) -> Profile | None:
    """One to all samples of `batch` for inputs with dynamic dimensions; None for a network of fixed shapes."""
    specs = input_specs(proto)
    if all(isinstance(d, int) for spec in specs for d in spec.shape):
        return None
    most = {spec.name: tuple(batch[spec.name].shape) for spec in specs}
    dynamic_batch = {spec.name for spec in specs if spec.shape and not isinstance(spec.shape[0], int)}
    least = {name: (1, *shape[1:]) if name in dynamic_batch else shape for name, shape in most.items()}
    return Profile(least, most, most)


def calibrator(name: str, batches: Batches) -> object:
    """One of TensorRT's own calibrators on a stream of batches."""
    return CALIBRATORS[name](batches)


def table_calibrator(table: CalibrationTable) -> object:
    """The scales of a table, for the implicit path."""
    return TableCalibrator(table)


def build_engine(
    precision: str, model: onnx.ModelProto, profile: Profile | None, settings: BuildSettings, int8: object
) -> Engine:
    """precision: of a BackendSpec. INT8 engines may use FP16 for the rest."""
    options = BuildOptions(
        precision="best" if precision in ("int8", "qdq") else precision,
        profiles=(profile,) if profile else (),
        timing_cache=settings.timing_cache,
        optimization_level=settings.optimization_level,
    )
    return build(model, options, int8)


def load_engine(path: Path) -> Engine:
    """An engine file with its record."""
    return Engine.load(path)


def open_engines(
    engines: Mapping[str, Engine], models: Mapping[str, onnx.ModelProto], batch: Batch, stack: ExitStack
) -> list[Backend]:
    """Backends, with what was measured of them: latency, throughput, energy, memory, the share that runs in INT8.
    models: the ONNX model of every engine. stack: closes them."""
    options = BenchOptions(cuda_graph=_has_cuda_python())
    results = bench(engines, batch, options)
    backends = []
    for result, (name, engine) in zip(results, engines.items(), strict=True):
        found = audit(engine, models[name], batch)
        base = ratio_of(result, results[0])
        facts = {
            "build_s": result.build_s,
            "batch_size": result.batch_size,
            "latency_mean_ms": result.mean_ms,
            "latency_p50_ms": result.p50_ms,
            "latency_p90_ms": result.p90_ms,
            "latency_p99_ms": result.p99_ms,
            "latency_ratio": base.ratio,
            "latency_ratio_low": base.low,
            "latency_ratio_high": base.high,
            "samples_per_s": result.samples_per_s,
            "memory_mib": result.memory_mib,
        }
        shares = {"int8_share": found.int8_share, "int8_time_share": found.int8_time_share}
        facts |= {name: share for name, share in shares.items() if share is not None}
        facts |= {} if result.energy_mj is None else {"energy_mj": result.energy_mj}
        facts |= {f"round_{k}_ms": value for k, value in enumerate(result.rounds_ms)}
        notes = tuple((f"'{row.node}': " if row.node else "") + row.meaning for row in engine.warnings if row.meaning)
        if found.hidden:
            notes += (f"what runs in INT8 cannot be told: {REGION.format(len(found.hidden), len(found.weighted))}",)
        notes += tuple(str(fallback) for fallback in found.fallbacks)
        runner = stack.enter_context(Runner(engine))
        is_int8 = bool(engine.record.int8)
        own = notes if is_int8 else ()
        backends.append(Backend(name, runner, len(engine.plan), int8=is_int8, notes=own, facts=facts))
    return backends


def _has_cuda_python() -> bool:
    """Whether CUDA graphs can be captured: pycuda has none."""
    try:
        return find_spec("cuda.bindings") is not None
    except ModuleNotFoundError:
        return False
