"""Backends by name: what `ort:qdq:mse` or `trt:int8:entropy` mean, and building what is missing for them."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

from quantlab.calibration.table import CalibrationTable
from quantlab.comparison import Backend, ort_backend
from quantlab.data.batches import Batch, Batches
from quantlab.errors import ConfigError, QuantlabError
from quantlab.observers import observer_by_name
from quantlab.pipeline import Quantized, calibrate, calibrate_all, quantize

TRT_CALIBRATORS = {"entropy": "entropy2", "entropy2": "entropy2", "entropy1": "entropy", "minmax": "minmax"}
"""Algorithms that TensorRT itself has -> the calibrator. The others reach the implicit path as a table."""
_FORMS = "ort:fp32, ort:qdq:ALGORITHM, trt:fp32, trt:fp16, trt:int8:ALGORITHM, trt:qdq:ALGORITHM"


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """runtime: 'ort' or 'trt'. precision: 'fp32', 'fp16', 'int8' (implicit) or 'qdq' (explicit). algorithm: '' for
    float."""

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
    known = {"ort": ("fp32", "qdq"), "trt": ("fp32", "fp16", "int8", "qdq")}
    if precision not in known.get(runtime, ()) or quantized != bool(algorithm):
        raise ConfigError(f"there is no backend '{text}'", hint=f"backends are {_FORMS}")
    if quantized and not (runtime == "trt" and precision == "int8" and algorithm in TRT_CALIBRATORS):
        observer_by_name(algorithm)
    return BackendSpec(runtime, precision, algorithm)


def default_specs() -> list[BackendSpec]:
    """What is compared when nothing is named: everything that may work."""
    algorithms = ("entropy", "minmax", "percentile-99.99", "mse")
    names = [f"ort:qdq:{a}" for a in algorithms]
    names += ["trt:fp32", "trt:fp16", "trt:int8:entropy", "trt:int8:minmax"]
    names += [f"trt:qdq:{a}" for a in ("entropy", "percentile-99.99", "mse")]
    return [parse_backend(name) for name in names]


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """For TensorRT engines: a timing cache file, and the builder's optimization level (None: TensorRT's own)."""

    timing_cache: Path | None = None
    optimization_level: int | None = None


@dataclass
class BackendSet:
    """Backends of one model, opened. A context manager that frees engines. skipped: why some are missing."""

    proto: onnx.ModelProto
    calibration: Batches | None
    settings: BuildSettings = field(default_factory=BuildSettings)

    def __post_init__(self) -> None:
        self.backends: list[Backend] = []
        self.quantized: dict[str, Quantized] = {}
        self.tables: dict[str, CalibrationTable] = {}
        self.skipped: list[str] = []
        self._calibration_s = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> BackendSet:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def open(
        self,
        specs: Sequence[BackendSpec],
        batch: Batch,
        asked_for: bool,
        engine_files: Mapping[str, Path] | None = None,
    ) -> None:
        """Build and open backends. batch: of the comparison, whose shapes engines are built and measured for.
        asked_for: one that cannot run here is an error; otherwise it is skipped, with the reason. engine_files: engines
        that quantlab built, by name; all engines are measured together."""
        wanted = list(dict.fromkeys(spec for spec in specs if spec != BackendSpec("ort", "fp32")))
        if any(spec.algorithm for spec in wanted) and self.calibration is None:
            raise ConfigError(
                f"backend '{next(s.name for s in wanted if s.algorithm)}' needs calibration data", hint="--calibration"
            )
        self._calibrate(wanted)
        for spec in (s for s in wanted if s.runtime == "ort"):
            facts = {"calibration_s": self._calibration_s}
            self.backends.append(ort_backend(spec.name, self.quantized[spec.algorithm].model, facts))
        on_trt = [spec for spec in wanted if spec.runtime == "trt"]
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
        run = calibrate_all(self.proto, self.calibration, {name: observer_by_name(name) for name in names})
        self._calibration_s = time.perf_counter() - started
        self.tables = dict(run.tables)
        self.quantized = {name: quantize(self.proto, table) for name, table in run.tables.items()}

    def _open_engines(
        self, specs: Sequence[BackendSpec], batch: Batch, asked_for: bool, files: Mapping[str, Path]
    ) -> None:
        from quantlab.trt import compared  # needs TensorRT and a GPU

        profile = compared.profile_for(self.proto, batch)
        engines, models, spent = {}, {}, {}
        for spec in specs:
            try:
                started = time.perf_counter()
                int8 = self._scales(spec, compared)
                spent[spec.name] = time.perf_counter() - started
                model = self.quantized[spec.algorithm].model if spec.precision == "qdq" else self.proto
                engines[spec.name] = compared.build_engine(spec.precision, model, profile, self.settings, int8)
                models[spec.name] = model
            except QuantlabError as error:
                if asked_for:
                    raise
                self.skipped.append(f"'{spec.name}' was left out: {error.message}")
        for name, path in files.items():
            engines[name], models[name] = compared.load_engine(path), self.proto
        twins, known = {b.name for b in self.backends}, {spec.name: spec for spec in specs}
        for backend in compared.open_engines(engines, models, batch, self._stack) if engines else ():
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

    def _scales(self, spec: BackendSpec, compared: object) -> object:
        """The source of an implicit engine's scales, None for the others."""
        if spec.precision != "int8":
            return None
        assert self.calibration is not None
        if spec.algorithm in TRT_CALIBRATORS:
            return compared.calibrator(TRT_CALIBRATORS[spec.algorithm], self.calibration)  # type: ignore[attr-defined]
        table = calibrate(self.proto, self.calibration, observer_by_name(spec.algorithm), tensors="all")
        return compared.table_calibrator(table)  # type: ignore[attr-defined]
