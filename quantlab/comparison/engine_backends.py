"""Engines as backends of a comparison: built for its batch, measured interleaved, audited."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import onnx

from quantlab.calibration.made_from import read_origin
from quantlab.comparison.backend import Backend
from quantlab.data import Batch
from quantlab.engines.audit import Audit, audit_inspection
from quantlab.engines.bench import BenchOptions, BenchRow, rows_of
from quantlab.engines.engine import Engine
from quantlab.engines.int8 import Int8Source
from quantlab.engines.jobs import run_batch
from quantlab.engines.measure import bench
from quantlab.engines.options import BuildOptions, BuildSettings, Profile
from quantlab.engines.runtime import Runtime
from quantlab.onnx_model import has_qdq

BENCH = BenchOptions()
"""How engines of a comparison are measured; with CUDA graphs where they can be captured."""


def build_engine(
    runtime: Runtime,
    precision: str,
    model: onnx.ModelProto,
    profile: Profile | None,
    settings: BuildSettings,
    int8: Int8Source | None,
) -> Engine:
    """Build the engine of a backend.

    Args:
        runtime: What builds.
        precision: Of a `BackendSpec`. INT8 engines may use FP16 for the rest.
        model: FP32, or with Q/DQ nodes.
        profile: Of the batch to compare on; None for fixed shapes.
        settings: What all engines of the comparison have in common.
        int8: Where the INT8 ranges come from; None for Q/DQ and float.

    Returns:
        The engine.

    Raises:
        BuildError: The build failed.
    """
    options = BuildOptions(
        precision=_builder_precision(precision, model),
        profiles=(profile,) if profile else (),
        timing_cache=settings.timing_cache,
        optimization_level=settings.optimization_level,
    )
    return runtime.build(model, options, int8)


def _builder_precision(precision: str, model: onnx.ModelProto) -> str:
    if precision == "qdq" and not has_qdq(model):  # INT8 does not pay anywhere in it, its placement says why
        return "fp16"
    return "best" if precision in ("int8", "qdq") else precision


def open_engines(
    runtime: Runtime,
    engines: Mapping[str, Engine],
    models: Mapping[str, onnx.ModelProto],
    batch: Batch,
    stack: ExitStack,
) -> list[Backend]:
    """Measure, audit and open engines.

    Args:
        runtime: What runs them.
        engines: By name.
        models: The ONNX model of every engine.
        batch: To measure on.
        stack: Closes them.

    Returns:
        Backends, with what was measured of them: latency, throughput, energy, memory, the share that runs in INT8.
    """
    rows = rows_of(bench(runtime, engines, batch, replace(BENCH, cuda_graph=can_capture())))
    backends = []
    for row, (name, engine) in zip(rows, engines.items(), strict=True):
        audit = audit_inspection(runtime.inspect(engine, batch), engine, models[name])
        running = stack.enter_context(runtime.open(engine))
        is_int8 = bool(engine.record.int8)
        notes = _notes(engine, audit) if is_int8 else ()
        facts = engine_facts(row, audit)
        run = partial(run_batch, running)
        backends.append(
            Backend(
                name,
                run,
                len(engine.plan),
                int8=is_int8,
                notes=notes,
                facts=facts,
                hash=engine.hash,
                made_from=_made_from(engine, models[name]),
            )
        )
    return backends


def _made_from(engine: Engine, model: onnx.ModelProto) -> dict[str, Any]:
    """What the engine was built from, by which TensorRT, and what its model says of its scales."""
    record = engine.record
    built = {"tensorrt": record.tensorrt, "gpu": record.gpu, "built_from": record.model_hash, "int8": record.int8}
    return read_origin(model) | {name: value for name, value in built.items() if value}


def engine_facts(row: BenchRow, audit: Audit) -> dict[str, float]:
    """What a report shows of an engine.

    Args:
        row: As it was measured.
        audit: What of it runs in INT8.

    Returns:
        Fact -> number; what could not be measured is left out.
    """
    result, ratio = row.result, row.ratio
    known = {
        "build_s": result.build_s,
        "batch_size": result.batch_size,
        "latency_mean_ms": result.mean_ms,
        "latency_p50_ms": result.p50_ms,
        "latency_p90_ms": result.p90_ms,
        "latency_p99_ms": result.p99_ms,
        "latency_ratio": ratio.ratio,
        "latency_ratio_low": ratio.low,
        "latency_ratio_high": ratio.high,
        "samples_per_s": result.samples_per_s,
        "memory_mib": result.memory_mib,
    }
    uncertain = {
        "int8_share": audit.int8_share,
        "int8_time_share": audit.int8_time_share,
        "energy_mj": result.energy_mj,
    }
    facts = known | {name: value for name, value in uncertain.items() if value is not None}
    return facts | {f"round_{k}_ms": value for k, value in enumerate(result.rounds_ms)}


def _notes(engine: Engine, audit: Audit) -> tuple[str, ...]:
    notes = [warned.where + warned.meaning for warned in engine.warnings if warned.meaning]
    if audit.hidden:
        notes.append(f"what runs in INT8 cannot be told: {audit.hidden_note}")
    return (*notes, *(str(fallback) for fallback in audit.fallbacks))


def can_capture() -> bool:
    """Whether CUDA graphs can be captured: pycuda has none."""
    try:
        return find_spec("cuda.bindings") is not None
    except ModuleNotFoundError:
        return False
