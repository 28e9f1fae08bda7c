"""What one does with engines, over any runtime: build, run on data, measure, audit."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.data import Batch, LabeledBatches, made_up_batch
from quantlab.engines.audit import Audit, audit_inspection
from quantlab.engines.bench import BenchOptions, BenchRow, rows_of
from quantlab.engines.choose_int8 import Int8Request, requested_source
from quantlab.engines.engine import Engine
from quantlab.engines.inspector import LayerAudit, layer_audit
from quantlab.engines.measure import bench
from quantlab.engines.options import BuildOptions, Shape
from quantlab.engines.profiles import input_shapes
from quantlab.engines.runtime import RunningEngine, Runtime
from quantlab.errors import in_batch
from quantlab.files import write_bytes

SEED = 0
"""Of batches that are made up."""


def build_engine(runtime: Runtime, proto: onnx.ModelProto, options: BuildOptions, request: Int8Request) -> Engine:
    """Build an engine with the INT8 ranges that were asked for.

    Args:
        runtime: What builds.
        proto: The model.
        options: How.
        request: Where the ranges come from.

    Returns:
        The engine.

    Raises:
        ConfigError: Model, options and ranges do not fit together.
        DataError: The data or the table cannot be used.
        BuildError: The build failed.
    """
    return runtime.build(proto, options, requested_source(runtime, proto, request))


@dataclass(frozen=True, slots=True)
class Outputs:
    """What an engine made of data.

    Attributes:
        arrays: Output -> values of all samples.
        samples: How many there were.
        top1: Share of the labelled samples whose class the first output has right; None without labels.
    """

    arrays: Mapping[str, NDArray[Any]]
    samples: int
    top1: float | None

    def save(self, path: Path) -> None:
        """Write the arrays as an .npz."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = dict(self.arrays)
        np.savez(buffer, **arrays)
        write_bytes(path, buffer.getvalue())


def run_engine(
    running: RunningEngine, batches: LabeledBatches, on_batch: Callable[[int], None] | None = None
) -> Outputs:
    """Run an engine on all batches; a short last one is filled up where the engine takes one size only.

    Args:
        running: The engine.
        batches: With or without labels.
        on_batch: Gets the number of samples done so far.

    Returns:
        The outputs of all samples.

    Raises:
        DataError: A batch does not fit the engine; it carries the number of the batch.
    """
    collected: dict[str, list[NDArray[Any]]] = {}
    hits = labeled = done = 0
    for number, (batch, labels) in enumerate(batches.labeled()):
        with in_batch(number):
            samples = running.batch_size.count(batch)
            outputs = run_batch(running, batch)
        for name, value in outputs.items():
            collected.setdefault(name, []).append(value)
        if labels is not None:
            hits += int((next(iter(outputs.values())).argmax(1) == labels).sum())
            labeled += samples
        done += samples
        if on_batch is not None:
            on_batch(done)
    arrays = {name: np.concatenate(values) for name, values in collected.items()}
    return Outputs(arrays, done, hits / labeled if labeled else None)


def run_batch(running: RunningEngine, batch: Batch) -> dict[str, NDArray[Any]]:
    """Run an engine on one batch; a short one is filled up where the engine takes one size only.

    Args:
        running: The engine.
        batch: Input name -> array.

    Returns:
        The outputs of the samples of the batch, by name.

    Raises:
        DataError: The batch does not fit the engine.
    """
    size = running.batch_size
    samples = size.count(batch)
    return {name: size.cut(output, samples) for name, output in running(size.filled(batch)).items()}


def made_up_input(runtime: Runtime, engine: Engine, shapes: Mapping[str, Shape]) -> Batch:
    """Make up a batch for an engine: good for speed, not for accuracy.

    Args:
        runtime: What opens the engine, to look at its inputs.
        engine: The engine.
        shapes: Chosen shapes of dynamic inputs; for others the opt shape of the first profile.

    Returns:
        Seeded values.

    Raises:
        ConfigError: `shapes` names another input.
    """
    with runtime.open(engine) as running:
        chosen = input_shapes(running.inputs, running.opt_shapes, shapes)
        return made_up_batch(running.inputs, chosen, np.random.default_rng(SEED))


def bench_engines(
    runtime: Runtime,
    engines: Mapping[str, Engine],
    shapes: Mapping[str, Shape],
    options: BenchOptions,
    batch: Batch | None = None,
) -> list[BenchRow]:
    """Measure engines on one batch.

    Args:
        runtime: What runs them.
        engines: By name; the first is the base of the ratios.
        shapes: Chosen shapes of dynamic inputs.
        options: How to measure.
        batch: What they are fed; None for one that is made up for the first.

    Returns:
        A row for every engine, in order.

    Raises:
        ConfigError: `shapes` names another input.
        DataError: The batch does not fit one of the engines.
        BuildError: The layers are asked for, and an engine was built without details.
    """
    if batch is None:
        batch = made_up_input(runtime, next(iter(engines.values())), shapes)
    layers = {}
    if options.layers:  # first: an engine that does not show them is known before minutes are spent
        layers = {name: engine_layers(runtime, engine, batch) for name, engine in engines.items()}
    return rows_of(bench(runtime, engines, batch, options), layers)


def engine_layers(runtime: Runtime, engine: Engine, batch: Batch) -> tuple[LayerAudit, ...]:
    """Profile the layers of an engine.

    Args:
        runtime: What runs it.
        engine: The engine.
        batch: To run it on.

    Returns:
        The layers with their mean times, in the order of the engine.

    Raises:
        BuildError: The engine was built without details.
    """
    inspection = runtime.inspect(engine, batch)
    return tuple(layer_audit(row, inspection.times_ms) for row in inspection.rows)


def audit_engine(runtime: Runtime, engine: Engine, proto: onnx.ModelProto, shapes: Mapping[str, Shape]) -> Audit:
    """Audit an engine on a batch that is made up.

    Args:
        runtime: What runs it.
        engine: The engine.
        proto: The model that it was built from.
        shapes: Chosen shapes of dynamic inputs.

    Returns:
        What of the model runs in INT8.

    Raises:
        ConfigError: `shapes` names another input.
        BuildError: The engine was built without details.
    """
    batch = made_up_input(runtime, engine, shapes)
    return audit_inspection(runtime.inspect(engine, batch), engine, proto)
