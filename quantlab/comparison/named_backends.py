"""Backends by name: what `ort:qdq:mse` or `trt:int8:entropy` mean, and building what is missing for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import onnx

from quantlab.calibration import CalibrationTable, RunOptions, run_calibration
from quantlab.calibration.own_observer import named_observer
from quantlab.comparison.backend import Backend, ort_backend
from quantlab.comparison.engine_backends import build_engine, open_engines
from quantlab.data import Batch, Batches
from quantlab.engines.engine import Engine
from quantlab.engines.int8 import Int8Source
from quantlab.engines.options import BuildSettings
from quantlab.engines.profiles import profile_for
from quantlab.engines.runtime import Runtime
from quantlab.errors import ConfigError, GraphError, Notice, QuantlabError
from quantlab.nearest import nearest
from quantlab.onnx_model import input_specs
from quantlab.qdq import ALL_TENSORS, Quantized, calibration_target, quantize_model
from quantlab.trt import open_runtime

TRT_CALIBRATORS = {"entropy": "entropy2", "entropy2": "entropy2", "entropy1": "entropy", "minmax": "minmax"}
"""Algorithms that TensorRT itself has -> the calibrator. The others reach the implicit path as a table."""
AUTO = "auto"
"""The algorithm that chooses per tensor."""
TUNED_ALGORITHM = "entropy"
"""Of a tuned engine whose name gives none, and in the question after a name that misses one."""
Tuner = Callable[
    [onnx.ModelProto, CalibrationTable, Batches, Batch, Runtime, BuildSettings], "tuple[Engine, onnx.ModelProto]"
]
"""Gives the best engine that a search finds on calibration data for a batch, and the model it was built from."""
_FORMS = (
    "ort:fp32, ort:qdq:ALGORITHM, trt:fp32, trt:fp16, trt:int8:ALGORITHM, trt:qdq:ALGORITHM, trt:tuned, "
    "trt:tuned:ALGORITHM"
)


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """A backend by name.

    Attributes:
        runtime: 'ort' or 'trt'.
        precision: 'fp32', 'fp16', 'int8' (implicit), 'qdq' (explicit) or 'tuned' (what a search finds).
        algorithm: Of the calibration, '' for float and for the usual one of a search.
    """

    runtime: str
    precision: str
    algorithm: str = ""

    @property
    def name(self) -> str:
        """As it was written."""
        return ":".join(filter(None, (self.runtime, self.precision, self.algorithm)))


def parse_backend(text: str) -> BackendSpec:
    """The inverse of `BackendSpec.name`; ConfigError for anything else."""
    runtime, precision, algorithm = (*text.split(":", 2), "", "")[:3]
    quantized = precision in ("int8", "qdq")
    known = {"ort": ("fp32", "qdq"), "trt": ("fp32", "fp16", "int8", "qdq", "tuned")}
    fits = precision == "tuned" or quantized == bool(algorithm)
    if precision not in known.get(runtime, ()) or not fits:
        tail = dict.fromkeys(("int8", "qdq"), f":{algorithm or TUNED_ALGORITHM}")
        question = nearest(text, [f"{r}:{p}{tail.get(p, '')}" for r in known for p in known[r]])
        raise ConfigError(f"there is no backend '{text}'", hint=f"{question}backends are {_FORMS}")
    if algorithm and not (runtime == "trt" and precision == "int8" and algorithm in TRT_CALIBRATORS):
        if algorithm != AUTO:
            named_observer(algorithm)
        elif precision != "qdq":
            raise ConfigError(f"'{text}': auto chooses for the tensors of a Q/DQ model", hint=f"{runtime}:qdq:auto")
    return BackendSpec(runtime, precision, algorithm)


def default_specs() -> list[BackendSpec]:
    """What is compared when nothing is named: everything that may work."""
    algorithms = ("entropy", "minmax", "percentile-99.99", "mse")
    names = [f"ort:qdq:{a}" for a in algorithms]
    names += ["trt:fp32", "trt:fp16", "trt:int8:entropy", "trt:int8:minmax"]
    names += [f"trt:qdq:{a}" for a in ("entropy", "percentile-99.99", "mse")]
    return [parse_backend(name) for name in names]


@dataclass
class BackendSet:
    """Backends of one model, opened. A context manager that frees engines.

    Attributes:
        proto: The FP32 model.
        calibration: Calibration data, needed for everything quantized.
        settings: For TensorRT engines.
        open_runtime: Gives the TensorRT that builds and runs engines; called only if one is needed.
        tuner: For tuned backends.
        auto: Finds the scales of the algorithm 'auto'.
        backends: What could be opened.
        quantized: The Q/DQ models that were made, by algorithm.
        tables: Their scales, by algorithm.
        notices: What all calibrations say of the data and the scales.
        skipped: Why some backends are missing.
    """

    proto: onnx.ModelProto
    calibration: Batches | None
    settings: BuildSettings = field(default_factory=BuildSettings)
    open_runtime: Callable[[], Runtime] = open_runtime
    tuner: Tuner | None = None
    auto: Callable[[onnx.ModelProto, Batches], CalibrationTable] | None = None
    backends: list[Backend] = field(default_factory=list)
    quantized: dict[str, Quantized] = field(default_factory=dict)
    tables: dict[str, CalibrationTable] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    _calibration_s: float = 0.0
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> BackendSet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, value, trace)

    def open(
        self,
        specs: Sequence[BackendSpec],
        batch: Batch,
        asked_for: bool,
        engine_files: Mapping[str, Path] | None = None,
    ) -> None:
        """Build and open backends; all engines are measured together.

        Args:
            specs: What is wanted.
            batch: Of the comparison; engines are built and measured for its shapes.
            asked_for: Whether one that cannot run here is an error; otherwise it is skipped, with the reason.
            engine_files: Engines that quantlab built, by name.

        Raises:
            ConfigError: Something quantized is wanted without calibration data.
            QuantlabError: One that was asked for cannot run here.
        """
        wanted = list(dict.fromkeys(spec for spec in specs if spec != BackendSpec("ort", "fp32")))
        quantized = [spec.name for spec in wanted if spec.algorithm or spec.precision == "tuned"]
        if quantized and self.calibration is None:
            raise ConfigError(f"backend '{quantized[0]}' needs calibration data", hint="--calibration")
        self._calibrate(wanted)
        for spec in (s for s in wanted if s.runtime == "ort" and s.algorithm in self.quantized):
            facts = {"calibration_s": self._calibration_s}
            self.backends.append(ort_backend(spec.name, self.quantized[spec.algorithm].model, facts))
        usable = [spec for spec in wanted if spec.precision != "qdq" or spec.algorithm in self.quantized]
        on_trt = [spec for spec in usable if spec.runtime == "trt"]
        if on_trt or engine_files:
            try:
                self._open_engines(on_trt, batch, asked_for, engine_files or {})
            except QuantlabError as error:
                if asked_for or engine_files:
                    raise
                self.skipped.append(f"backends on TensorRT were left out: {error.message}")

    def _calibrate(self, specs: Sequence[BackendSpec]) -> None:
        """One pass for the Q/DQ models of all algorithms."""
        names = list(dict.fromkeys(s.algorithm for s in specs if s.precision == "qdq"))
        if not names or self.calibration is None:
            return
        started = time.perf_counter()
        observers = {name: named_observer(name) for name in names if name != AUTO}
        if observers:
            run = run_calibration(calibration_target(self.proto), self.calibration, observers)
            self.tables = dict(run.tables)
        if AUTO in names:
            if self.auto is None:
                raise ConfigError("'auto' cannot be searched for here", hint="quantlab calibrate --algorithm auto")
            self.tables[AUTO] = self.auto(self.proto, self.calibration)
        self._calibration_s = time.perf_counter() - started
        self.notices += [notice for table in self.tables.values() for notice in table.warnings]
        for name, table in self.tables.items():
            try:
                self.quantized[name] = quantize_model(self.proto, table)
            except QuantlabError as error:  # the other algorithms may do
                self.skipped.append(f"'{name}' was left out: {error.message}")
        if not self.quantized:
            raise GraphError("; ".join(self.skipped), hint="quantlab calibrate, quantlab quantize say more")

    def _open_engines(
        self, specs: Sequence[BackendSpec], batch: Batch, asked_for: bool, files: Mapping[str, Path]
    ) -> None:
        runtime = self.open_runtime()
        profile = profile_for(input_specs(self.proto), batch)
        engines: dict[str, Engine] = {}
        models: dict[str, onnx.ModelProto] = {}
        spent: dict[str, float] = {}
        for spec in specs:
            try:
                started = time.perf_counter()
                if spec.precision == "tuned":
                    engines[spec.name], models[spec.name] = self._tuned(spec, runtime, batch)
                    spent[spec.name] = time.perf_counter() - started
                    continue
                int8 = self._source(spec, runtime)
                spent[spec.name] = time.perf_counter() - started
                model = self.quantized[spec.algorithm].model if spec.precision == "qdq" else self.proto
                engines[spec.name] = build_engine(runtime, spec.precision, model, profile, self.settings, int8)
                models[spec.name] = model
            except QuantlabError as error:
                if asked_for:
                    raise
                self.skipped.append(f"'{spec.name}' was left out: {error.message}")
        for name, path in files.items():
            engines[name], models[name] = Engine.load(path), self.proto
        twins, known = {b.name for b in self.backends}, {spec.name: spec for spec in specs}
        for backend in open_engines(runtime, engines, models, batch, self._stack) if engines else ():
            self.backends.append(self._completed(backend, known.get(backend.name), spent, twins))

    def _completed(
        self, backend: Backend, spec: BackendSpec | None, spent: Mapping[str, float], twins: Collection[str]
    ) -> Backend:
        """With the time that its calibration took, and its twin on ONNX Runtime."""
        if spec is None or not spec.algorithm:
            return backend
        if spec.precision == "int8" and spec.algorithm in TRT_CALIBRATORS:
            return backend  # TensorRT calibrates while it builds: that time is part of the build's
        seconds = self._calibration_s if spec.precision == "qdq" else spent[spec.name]
        twin = f"ort:qdq:{spec.algorithm}" if spec.precision == "qdq" else None
        facts = dict(backend.facts) | {"calibration_s": seconds}
        return replace(backend, facts=facts, twin=twin if twin in twins else None)

    def _source(self, spec: BackendSpec, runtime: Runtime) -> Int8Source | None:
        """Where an implicit engine has its INT8 ranges from, None for the others."""
        if spec.precision != "int8":
            return None
        assert self.calibration is not None
        if spec.algorithm in TRT_CALIBRATORS:
            return runtime.stream_calibrator(TRT_CALIBRATORS[spec.algorithm], self.calibration)
        return runtime.table_calibrator(self._table_of_all(spec.algorithm))

    def _tuned(self, spec: BackendSpec, runtime: Runtime, batch: Batch) -> tuple[Engine, onnx.ModelProto]:
        """What a search on the calibration data finds, never on the data of the comparison."""
        if self.tuner is None:
            raise ConfigError(
                f"'{spec.name}' cannot be searched for here", hint="quantlab tune, then compare its engine"
            )
        assert self.calibration is not None
        table = self._table_of_all(spec.algorithm or TUNED_ALGORITHM)
        return self.tuner(self.proto, table, self.calibration, batch, runtime, self.settings)

    def _table_of_all(self, algorithm: str) -> CalibrationTable:
        """Scales of every tensor."""
        assert self.calibration is not None
        target = calibration_target(self.proto, ALL_TENSORS)
        observers = {algorithm: named_observer(algorithm)}
        run = run_calibration(target, self.calibration, observers, RunOptions(keep_histograms=False))
        self.notices += run.tables[algorithm].warnings
        return run.tables[algorithm]

    def quantized_by(self, name: str) -> Quantized | None:
        """The Q/DQ model that a backend of this set runs; None for others."""
        try:
            spec = parse_backend(name)
        except ConfigError:
            return None
        return self.quantized.get(spec.algorithm) if spec.precision == "qdq" else None
