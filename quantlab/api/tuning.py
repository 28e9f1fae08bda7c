"""Tuning: which layers to leave in float, found on real engines or from latencies that were recorded on a GPU."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import CalibrationTable
from quantlab.calibration.feeder import fingerprint
from quantlab.comparison import Metric
from quantlab.data import Batches
from quantlab.engines.engine import Engine
from quantlab.engines.options import BuildSettings
from quantlab.engines.runtime import Runtime
from quantlab.errors import ConfigError
from quantlab.files import make_folder
from quantlab.onnx_model import Model, load_model, model_hash, require_float
from quantlab.tune.journal import Journal
from quantlab.tune.latency_table import LatencyTable
from quantlab.tune.search import Search, mixtures
from quantlab.tune.sensitivity import layer_noise
from quantlab.tune.sensitivity_feed import Judged
from quantlab.tune.target import Target
from quantlab.tune.trials import Problem, Step, Trial, Workbench
from quantlab.tune.tuned import Tuned, tuned_from

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
        latencies: Recorded on a GPU.
        budget_s: For building and measuring; None for as long as it takes.
        settings: Of all builds.
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
        request.settings,
    )  # fmt: skip
    problem.check()
    if request.latencies is not None:
        request.latencies.check(problem.regions)
    make_folder(request.folder)
    bench = Workbench(problem, Journal(request.folder / JOURNAL, _identity(problem, request)), on_step)
    on_step(Step("sensitivity", "of every layer"))
    noise = _noise(problem, request.folder / "sensitivity")
    recorded = request.latencies.observations if request.latencies is not None else ()
    search = Search(bench, request.target, noise, recorded, request.budget_s)
    best = search.run()
    return tuned_from(search, best, _device(search, request.latencies))


def record_latencies(problem: Problem, on_step: Steps = lambda _: None) -> LatencyTable:
    """Measure what a search needs to know of the latency of a network, for machines without a GPU.

    Args:
        problem: With a runtime.
        on_step: Called before each step.

    Returns:
        The latencies of engines with nothing, everything, the default and two mixtures in INT8.

    Raises:
        ConfigError: There is no GPU.
        BuildError: An engine cannot be built.
    """
    if problem.runtime is None:
        raise ConfigError("latencies can only be recorded on a GPU", hint="run it where TensorRT and a GPU are")
    problem.check()
    make_folder(problem.folder)
    journal = Journal(problem.folder / JOURNAL, {"model": model_hash(problem.model)})
    bench = Workbench(problem, journal, on_step)
    none = (False,) * len(problem.everything)
    choices = dict.fromkeys((none, problem.everything, problem.default, *mixtures(problem.everything)))
    trials = [problem.trial(choice) for choice in choices]
    timings = [bench.timing(trial) for trial in trials]
    size = len(next(iter(problem.first_batch.values())))
    return LatencyTable(
        problem.regions.structure,
        tuple(region.name for region in problem.regions.regions),
        timings[0].gpu,
        timings[0].tensorrt,
        size,
        tuple(bench.observation(trial) for trial in trials),
    )


def tuned_engine(
    model: onnx.ModelProto, table: CalibrationTable, batches: Batches, runtime: Runtime, settings: BuildSettings
) -> tuple[Engine, onnx.ModelProto]:
    """Search for the fastest engine with the SQNR of the default placement: a `comparison.named_backends.Tuner`.

    Args:
        model: The FP32 model.
        table: Scales of all tensors.
        batches: To judge accuracy on.
        runtime: What builds engines.
        settings: Of all builds.

    Returns:
        The engine that was measured, and the model that it was built from.

    Raises:
        QuantlabError: As `tune`.
    """
    with tempfile.TemporaryDirectory() as folder:
        request = TuningRequest(
            table, batches, Path(folder), runtime=runtime, budget_s=COMPARED_BUDGET_S, settings=settings
        )
        found = tune(model, request)
        assert found.engine is not None
        return Engine.load(found.engine), found.quantized.model if found.quantized else model


def _identity(problem: Problem, request: TuningRequest) -> Mapping[str, str]:
    digest = hashlib.sha256()
    for name, amax in sorted(request.table.amax.items()):
        digest.update(f"{name} {amax!r}\n".encode())
    labels = "" if request.labels is None else hashlib.sha256(np.asarray(request.labels).tobytes()).hexdigest()[:16]
    given = "measured" if request.latencies is None else repr(request.latencies.observations)
    return {
        "model": model_hash(problem.model),
        "scales": digest.hexdigest()[:16],
        "data": fingerprint(request.batches)[0][:16],
        "labels": labels,
        "metric": getattr(request.metric, "__name__", "") if request.metric is not None else "top-1",
        "latencies": hashlib.sha256(given.encode()).hexdigest()[:16],
        "optimization_level": str(request.settings.optimization_level),
    }


def _device(search: Search, latencies: LatencyTable | None) -> str:
    if latencies is not None:
        return f"{latencies.gpu}, TensorRT {latencies.tensorrt}"
    timing = search.bench.timing(Trial("float", ()))
    return f"{timing.gpu}, TensorRT {timing.tensorrt}"


def _noise(problem: Problem, folder: Path) -> list[float]:
    """What INT8 in each region alone adds to the error of the outputs."""
    judged = Judged(problem.batches, problem.labels, problem.metric)
    noise = layer_noise(problem.model, problem.table, judged, folder)
    return [noise.get(region.name, 0.0) for region in problem.regions.regions]
