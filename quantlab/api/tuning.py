"""Tuning: which layers to leave in float, found on real engines or from latencies that were recorded on a GPU."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import CalibrationTable
from quantlab.comparison import Metric
from quantlab.data import Batch, Batches
from quantlab.dates import now
from quantlab.engines.engine import Engine
from quantlab.engines.options import BuildSettings
from quantlab.engines.runtime import Runtime
from quantlab.errors import ConfigError
from quantlab.files import locked, make_folder, scratch_folder
from quantlab.onnx_model import Model, load_model, model_hash, require_float
from quantlab.plain_text import without_folders
from quantlab.tune.journal import Journal
from quantlab.tune.latency import first_choices
from quantlab.tune.latency_table import LatencyTable
from quantlab.tune.optimum import require_solver
from quantlab.tune.problem import FLOAT, Problem, Trial
from quantlab.tune.search import Search
from quantlab.tune.sensitivity import LayerNoise, open_layers
from quantlab.tune.sensitivity_feed import Judged
from quantlab.tune.target import Target
from quantlab.tune.trials import Step, Workbench
from quantlab.tune.tuned import Tuned, tuned_from
from quantlab.version import __version__

COMPARED_BUDGET_S = 1200.0
"""Of a search within a comparison."""
JOURNAL = "journal.jsonl"
"""What a search has found out, in its folder."""


@dataclass(frozen=True)
class TuningRequest:
    """What to search, and where.

    Attributes:
        table: Scales of all tensors that can be quantized (`tensors="all"`).
        batches: To judge accuracy on.
        folder: Of the search: its journal and its engines. A search that was cut off goes on from there.
        target: What is asked for.
        labels: int64 (N,); None for those of the stream, if it has any.
        metric: Of the user, else top-1.
        runtime: What builds engines; None to go by `latencies`.
        latencies: Recorded on a GPU; with a runtime they save the first engines.
        budget_s: For building and measuring; None for as long as it takes.
        settings: Of all builds.
        batch: To measure latency on; None for the first of `batches`.
    """

    table: CalibrationTable
    batches: Batches
    folder: Path
    target: Target = field(default_factory=Target)
    labels: NDArray[np.int64] | None = None
    metric: Metric | None = None
    runtime: Runtime | None = None
    latencies: LatencyTable | None = None
    budget_s: float | None = None
    settings: BuildSettings = field(default_factory=BuildSettings)
    batch: Batch | None = None


Steps = Callable[[Step], object]
"""Called before everything that takes time."""


def tune(model: Model, request: TuningRequest, on_step: Steps = lambda _: None) -> Tuned:
    """Find the fastest placement within an accuracy, or the most accurate one within a latency.

    The search is described in `quantlab.tune.search`. What it finds out is kept in a journal: one that was cut off at
    any point and begun again with the same request gives the same result.

    Args:
        model: The FP32 model.
        request: What to search.
        on_step: Called before each step.

    Returns:
        The answer; `reached` is False where nothing keeps what was asked for, and `best` then what comes closest.

    Raises:
        GraphError: The model has nothing to quantize, or has Q/DQ already.
        DataError: The table or the latencies are of another model, or the data do not fit.
        ConfigError: There is neither a GPU nor a latency table, labels are missing, or the folder is of another search.
    """
    proto = load_model(model)
    require_float(proto, "tuning")
    request.table.check_model(proto)
    if request.runtime is None and request.latencies is None:
        raise ConfigError(
            "latencies are neither measured nor given, and are not guessed",
            hint="run it where a GPU is, or record a table there: quantlab profile MODEL -o FILE",
        )
    problem = Problem(
        proto, request.table, request.batches, request.folder, request.labels, request.metric, request.runtime,
        request.settings, request.batch,
    )  # fmt: skip
    problem.check()
    require_solver()
    if request.latencies is not None:
        request.latencies.check(problem.regions, problem.everything, problem.batch_size)
    on_step(Step("fp32", "accuracy"))
    layers = open_layers(proto, request.table, Judged(request.batches, request.labels, request.metric))
    if request.target.max_drop is not None and layers.reference.metric is None:
        raise ConfigError(
            "a drop of the metric was asked for, but the data have no labels, or the model no class scores",
            hint="give --labels, class folders or --metric",
        )
    make_folder(request.folder)
    with locked(request.folder / JOURNAL):
        journal = Journal(request.folder / JOURNAL, _identity(problem, request, layers))
        on_step(Step("sensitivity", "of every layer"))
        noise = layers.measure(request.folder / "sensitivity")
        order = [noise.get(region.name, 0.0) for region in problem.regions.regions]
        recorded = request.latencies.observations if request.latencies is not None else ()
        bench = Workbench(problem, journal, on_step, request.latencies)
        search = Search(bench, request.target, order, recorded, request.budget_s)
        best = search.run()
        found = tuned_from(search, best, _device(search, request.latencies))
        return replace(found, provenance=_provenance(found, layers, request.table))


def record_latencies(problem: Problem, on_step: Steps = lambda _: None) -> LatencyTable:
    """Measure what a search needs to know of the latency of a network, for machines without a GPU.

    Args:
        problem: With a runtime.
        on_step: Called before each step.

    Returns:
        The latencies of engines with nothing, everything, the default and mixtures in INT8.

    Raises:
        ConfigError: There is no GPU.
        BuildError: An engine cannot be built.
    """
    if problem.runtime is None:
        raise ConfigError("latencies can only be recorded on a GPU", hint="run it where TensorRT and a GPU are")
    problem.check()
    make_folder(problem.folder)
    with locked(problem.folder / JOURNAL):
        shapes = {name: (x.shape, str(x.dtype)) for name, x in problem.first_batch.items()}
        about = {"kind": "profile", "batch": str(shapes), **_made_of(problem)}
        bench = Workbench(problem, Journal(problem.folder / JOURNAL, about), on_step)
        trials = [problem.trial(choice) for choice in first_choices(problem.everything)]
        trials += [trial for trial in [problem.trial(problem.default)] if trial not in trials]
        timings = [bench.timing(trial) for trial in trials]
        return LatencyTable(
            problem.regions.structure,
            tuple(region.name for region in problem.regions.regions),
            timings[0].gpu,
            timings[0].tensorrt,
            problem.batch_size,
            tuple(bench.observation(trial) for trial in trials),
        )


def tuned_engine(
    model: onnx.ModelProto,
    table: CalibrationTable,
    batches: Batches,
    batch: Batch,
    runtime: Runtime,
    settings: BuildSettings,
) -> tuple[Engine, onnx.ModelProto]:
    """Search for the fastest engine with the SQNR of the default placement: a `comparison.named_backends.Tuner`.

    Args:
        model: The FP32 model.
        table: Scales of all tensors.
        batches: To judge accuracy on.
        batch: To measure latency on.
        runtime: What builds engines.
        settings: Of all builds.

    Returns:
        The engine that was measured, and the model that it was built from.

    Raises:
        QuantlabError: As `tune`.
    """
    with scratch_folder() as folder:
        request = TuningRequest(
            table, batches, folder, runtime=runtime, budget_s=COMPARED_BUDGET_S, settings=settings, batch=batch
        )
        found = tune(model, request)
        assert found.engine is not None
        return Engine.load(found.engine), found.quantized.model if found.quantized else model


def _provenance(found: Tuned, layers: LayerNoise, table: CalibrationTable) -> dict[str, Any]:
    """What a search was made from, and the hashes of what it found."""
    made = asdict(replace(layers.provenance, date=now()))
    for name in ("method", "seed"):  # of the analysis of layers
        del made[name]
    source = without_folders(table.provenance.source)
    return made | {
        "calibration": asdict(table.provenance) | {"source": source},
        "tuned_model_hash": model_hash(found.quantized.model) if found.quantized is not None else None,
        "engine_hash": Engine.load(found.engine).hash if found.engine is not None else None,
    }


def _identity(problem: Problem, request: TuningRequest, layers: LayerNoise) -> Mapping[str, str]:
    given = "measured" if request.latencies is None else repr(request.latencies)
    return {
        "kind": "tune",
        **_made_of(problem),
        "data": layers.reference.data_hash,
        "labels": layers.reference.labels_hash,
        "latencies": hashlib.sha256(given.encode()).hexdigest()[:16],
        "engines": str(problem.runtime is not None),
        "metric and versions": layers.job.key,
    }


def _made_of(problem: Problem) -> dict[str, str]:
    digest = hashlib.sha256()
    for name, amax in sorted(problem.table.amax.items()):
        digest.update(f"{name} {amax!r}\n".encode())
    return {
        "model": model_hash(problem.model),
        "scales": digest.hexdigest()[:16],
        "optimization_level": str(problem.settings.optimization_level),
        "quantlab": __version__,
    }


def _device(search: Search, latencies: LatencyTable | None) -> str:
    size = search.bench.problem.batch_size
    if search.has_gpu:
        timing = search.bench.timing(Trial(FLOAT, ()))
        return f"{timing.gpu}, TensorRT {timing.tensorrt}, batch {size}"
    assert latencies is not None
    return f"{latencies.gpu}, TensorRT {latencies.tensorrt}, batch {size}"
