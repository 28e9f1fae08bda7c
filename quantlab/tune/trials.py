"""What is measured of the candidates of a search. Every figure is kept in the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import onnx

from quantlab.comparison import Backend, compare_models
from quantlab.comparison.engine_backends import build_engine, can_capture
from quantlab.engines.bench import BenchOptions
from quantlab.engines.engine import Engine
from quantlab.engines.jobs import run_batch
from quantlab.engines.measure import bench
from quantlab.engines.profiles import profile_for
from quantlab.engines.runtime import Runtime
from quantlab.errors import BuildError, ConfigError, DataError
from quantlab.files import is_there, make_folder
from quantlab.onnx_model import input_specs
from quantlab.ort import Session
from quantlab.tune.journal import Journal
from quantlab.tune.latency import Observation
from quantlab.tune.latency_table import LatencyTable
from quantlab.tune.problem import FLOAT, IMPLICIT, Problem, Trial
from quantlab.tune.regions import times_us
from quantlab.tune.target import Accuracy
from quantlab.typed_json import Amount

ENGINES = "engines"
"""Where they are, in the folder of a search."""
BENCH = BenchOptions(duration_s=1.0, rounds=10, transfers=False)
"""How engines are measured; with CUDA graphs where they can be captured."""


@dataclass(frozen=True, slots=True)
class Timing:
    """An engine of a candidate.

    Attributes:
        latency_ms: Median, relative to that of `float` in the same run.
        times_us: Per region.
        engine: Its file in the folder of the search.
        gpu, tensorrt: What it was measured on.
        seconds: That building and measuring took.
    """

    latency_ms: Amount
    times_us: tuple[Amount, ...]
    engine: str
    gpu: str
    tensorrt: str
    seconds: Amount


@dataclass(frozen=True, slots=True)
class Step:
    """What a search does now.

    Attributes:
        candidate: Which one it is about.
        what: Is done with it.
        engines: That were measured before it.
        spent_s: On them.
    """

    candidate: str
    what: str
    engines: int = 0
    spent_s: float = 0.0


@dataclass
class Workbench:
    """Measures candidates.

    Attributes:
        problem: What is searched.
        journal: Where every figure is kept.
        on_step: Called before everything that takes time.
        latencies: That were recorded, if any.
    """

    problem: Problem
    journal: Journal
    on_step: Callable[[Step], object] = lambda _: None
    latencies: LatencyTable | None = None
    _asked: dict[str, float] = field(default_factory=dict)

    @property
    def spent_s(self) -> float:
        """On engines that were asked for so far, whether built by this run or an earlier one."""
        return sum(self._asked.values())

    def _step(self, candidate: str, what: str) -> None:
        self.on_step(Step(candidate, what, len(self._asked), self.spent_s))

    def estimate(self, trial: Trial) -> Accuracy:
        """The accuracy of a candidate on ONNX Runtime."""
        return self._accuracy(f"ort {trial.name}", lambda: self._on_ort(trial))

    def accuracy(self, trial: Trial) -> Accuracy:
        """The accuracy of a candidate: of its engine, where there is a GPU."""
        if self.problem.runtime is None:
            return self.estimate(trial)
        return self._accuracy(f"engine {trial.name}", lambda: self._on_engine(trial))

    def _accuracy(self, key: str, find: Callable[[], Mapping[str, Any]]) -> Accuracy:
        return Accuracy(**self.journal.remember("accuracy", key, find, Accuracy))

    def _on_ort(self, trial: Trial) -> dict[str, Any]:
        self._step(trial.name, "accuracy")
        quantized = self.problem.quantized(trial)
        session = Session(quantized.model if quantized else self.problem.model, optimize=False)
        return self._judge(Backend(trial.name, session.run))

    def _on_engine(self, trial: Trial) -> dict[str, Any]:
        assert self.problem.runtime is not None
        engine = self.engine(trial)
        self._step(trial.name, "accuracy of the engine")
        with self.problem.runtime.open(engine) as running:
            return self._judge(Backend(trial.name, partial(run_batch, running)))

    def _judge(self, candidate: Backend) -> dict[str, Any]:
        given = self.problem
        found = compare_models(given.model, [candidate], given.batches, given.labels, metric=given.metric)
        if found.partial:
            raise KeyboardInterrupt  # a figure of a part of the data is no figure
        fp32, other = found.results
        if other.metric_failed:
            raise DataError(f"the metric failed: {other.metric_failed}", hint="see its traceback")
        if other.failed:
            raise BuildError(f"its outputs cannot be judged: {other.failed}", hint="is it too large for FP16?")
        metric, base = (other.metric, fp32.metric) if given.metric is not None else (other.top1, fp32.top1)
        percent = 1.0 if given.metric is not None else 100.0
        values = [None if value is None else percent * value for value in (metric, base)]
        return asdict(Accuracy(other.worst_sqnr_db, *values))

    def timing(self, trial: Trial) -> Timing:
        """The latency of a candidate's engine, built now if it is not there yet; BuildError if it cannot be built."""
        found = self.journal.remember("timing", trial.name, lambda: asdict(self._measure(trial)), Timing)
        timing = Timing(**found | {"times_us": tuple(found["times_us"])})
        self._asked[trial.name] = timing.seconds
        return timing

    def observation(self, trial: Trial) -> Observation:
        """The same for the fit of latencies; not for the implicit engine, whose choice is TensorRT's."""
        return Observation(trial.int8, self.timing(trial).times_us)

    def together(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Measure candidates once more, all in one run.

        Args:
            trials: Their engines are there.

        Returns:
            Candidate -> latency in ms.
        """

        def find() -> dict[str, float]:
            assert self.problem.runtime is not None
            self._step(", ".join(trial.name for trial in trials), "latency, all in one run")
            engines = {trial.name: self.engine(trial) for trial in trials}
            options = replace(BENCH, cuda_graph=can_capture())
            rows = bench(self.problem.runtime, engines, self.problem.first_batch, options)
            return {row.name: float(np.median(row.rounds_ms)) for row in rows}

        found: dict[str, float] = self.journal.remember(
            "together", " ".join(t.name for t in trials), find, Mapping[str, Amount]
        )
        if found.keys() != {trial.name for trial in trials}:
            raise DataError(f"'{self.journal.path}' has latencies of other candidates", hint="give another folder")
        return found

    def engine(self, trial: Trial) -> Engine:
        """The engine that was measured; ConfigError if its file is gone."""
        file = self.problem.folder / self.timing(trial).engine
        if not is_there(file):
            raise ConfigError(f"engine '{file}' of the search is gone", hint="put it back, or give another folder")
        return Engine.load(file)

    def _measure(self, trial: Trial) -> Timing:
        problem, runtime = self.problem, self.problem.runtime
        assert runtime is not None
        started = time.monotonic()
        self._step(trial.name, "build")
        proto, engine = self._build(runtime, trial)
        file = f"{ENGINES}/{trial.name}.engine"
        self._check_device(engine)
        make_folder(problem.folder / ENGINES)
        engine.save(problem.folder / file)
        self._step(trial.name, "latency")
        engines = {} if trial.name == FLOAT else {FLOAT: self.engine(Trial(FLOAT, ()))}
        engines |= {trial.name: engine}
        options = replace(BENCH, cuda_graph=can_capture())
        medians = [float(np.median(r.rounds_ms)) for r in bench(runtime, engines, problem.first_batch, options)]
        latency_ms = medians[-1]
        if trial.name != FLOAT:  # clocks drift between runs, ratios do not
            latency_ms *= self.journal.known("timing")[FLOAT]["latency_ms"] / medians[0]
        inspection = runtime.inspect(engine, problem.first_batch)
        times = () if trial.name == IMPLICIT else tuple(times_us(inspection, problem.regions, proto, latency_ms))
        seconds = time.monotonic() - started
        return Timing(latency_ms, times, file, engine.record.gpu, engine.record.tensorrt, seconds)

    def _check_device(self, engine: Engine) -> None:
        """All engines of a journal are of one GPU and one TensorRT, those of recorded latencies too."""
        here = [engine.record.gpu, engine.record.tensorrt]
        if self.latencies is not None:
            self.latencies.check_device(*here)
        first = self.journal.remember("device", "all", lambda: here, tuple[str, str])
        if first != here:
            raise ConfigError(
                f"the search was begun on {first[0]} with TensorRT {first[1]}, here is {here[0]} with {here[1]}",
                hint="give another folder",
            )

    def _build(self, runtime: Runtime, trial: Trial) -> tuple[onnx.ModelProto, Engine]:
        problem = self.problem
        profile = profile_for(input_specs(problem.model), problem.first_batch)
        if trial.name == IMPLICIT:
            source = runtime.table_calibrator(problem.table)
            return problem.model, build_engine(runtime, "int8", problem.model, profile, problem.settings, source)
        quantized = problem.quantized(trial)
        proto = quantized.model if quantized else problem.prepared
        precision = "qdq" if quantized else "fp16"
        return proto, build_engine(runtime, precision, proto, profile, problem.settings, None)
