"""Latency on a GPU of FP16, implicit INT8, ModelOpt's Q/DQ and quantlab's, interleaved, for every model of the zoo.

    python tests/bench/bench_latency.py ZOO RESULTS [--only NAME ...] [--level 3]

ZOO is what `zoo.py` wrote. Every engine, and the figures of every model, are kept in RESULTS: a run that was cut short
goes on where it was. Several processes, one per GPU, may share RESULTS. See tests/bench/README.md.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import filelock
import onnx
from skeleton import fill

from quantlab.calibration import CalibrationTable, load_table
from quantlab.engines.audit import audit_inspection
from quantlab.engines.bench import BenchOptions, BenchRow, rows_of
from quantlab.engines.engine import Engine
from quantlab.engines.int8 import Int8Source
from quantlab.engines.jobs import made_up_input
from quantlab.engines.measure import bench
from quantlab.engines.options import BuildOptions
from quantlab.engines.runtime import Runtime
from quantlab.errors import BuildError, QuantlabError
from quantlab.onnx_model import has_qdq
from quantlab.qdq import quantize_model

MEASURE = BenchOptions(duration_s=1.0, rounds=10, cuda_graph=True, transfers=False)


@dataclass(frozen=True)
class Job:
    """One engine: the model to build, what it may run in, and where the INT8 ranges come from."""

    model: onnx.ModelProto
    precision: str
    source: Int8Source | None = None


Candidate = Callable[[Path, onnx.ModelProto, CalibrationTable, Runtime], Job]
"""From the zoo's file, its model and its table."""


def fp16(_: Path, model: onnx.ModelProto, __: CalibrationTable, ___: Runtime) -> Job:
    return Job(model, "fp16")


def implicit(_: Path, model: onnx.ModelProto, table: CalibrationTable, runtime: Runtime) -> Job:
    return Job(model, "best", runtime.table_calibrator(table))


def modelopt(file: Path, _: onnx.ModelProto, __: CalibrationTable, ___: Runtime) -> Job:
    failed = file.with_suffix(".modelopt.txt")
    if failed.exists():
        raise QuantlabError(f"ModelOpt: {failed.read_text().splitlines()[0]}")
    return Job(fill(onnx.load(file.with_suffix(".modelopt.onnx"))), "best")


def ours(_: Path, model: onnx.ModelProto, table: CalibrationTable, __: Runtime) -> Job:
    made = quantize_model(model, table).model
    return Job(made, "best" if has_qdq(made) else "fp16")  # where INT8 does not pay anywhere


CANDIDATES: dict[str, Candidate] = {"fp16": fp16, "implicit": implicit, "modelopt": modelopt, "quantlab": ours}


@dataclass(frozen=True)
class Bench:
    """Where results go, and how engines are built."""

    runtime: Runtime
    results: Path
    level: int
    candidates: Mapping[str, Candidate]

    def run(self, file: Path) -> None:
        """One model: build what is not built yet, measure all, keep the figures."""
        model = fill(onnx.load(file))
        table = load_table(file.with_suffix(".json"))
        engines, failed = dict[str, Engine](), dict[str, str]()
        protos = dict[str, onnx.ModelProto]()
        for name, candidate in self.candidates.items():
            try:
                job = candidate(file, model, table, self.runtime)
                protos[name] = job.model
                engines[name] = self._engine(f"{file.stem}.{name}", job)
            except QuantlabError as error:
                failed[name] = str(error)
        measured = self.results / f"{file.stem}.result.json"
        key = {name: hashlib.sha256(engine.plan).hexdigest() for name, engine in engines.items()}
        if measured.exists() and json.loads(measured.read_text())["plans"] == key:
            return
        batch = made_up_input(self.runtime, next(iter(engines.values())), {})
        rows = rows_of(bench(self.runtime, engines, batch, MEASURE))
        values: dict[str, Any] = {"model": file.stem, "batch": rows[0].result.batch_size, "plans": key}
        values |= {"tensorrt": next(iter(engines.values())).record.tensorrt, "level": self.level, "failed": failed}
        values["engines"] = {}
        for row in rows:
            name = row.result.name
            inspection = self.runtime.inspect(engines[name], batch)
            with gzip.open(self.results / f"{file.stem}.{name}.layers.json.gz", "wt") as out:
                json.dump({"rows": inspection.rows, "times_ms": inspection.times_ms}, out)
            audit = audit_inspection(inspection, engines[name], protos[name])
            values["engines"][name] = figures(row) | {"int8": audit.summary, "layers": len(audit.layers)}
        partial = measured.with_suffix(".partial")
        partial.write_text(json.dumps(values, indent=1) + "\n")
        partial.replace(measured)
        print(line_of(values), flush=True)

    def _engine(self, name: str, job: Job) -> Engine:
        """Built now, or in an earlier run of the same model and flags."""
        how = f"{job.precision} {self.level} {job.source.description if job.source is not None else ''}"
        key = hashlib.sha256(job.model.SerializeToString(deterministic=True) + how.encode()).hexdigest()[:16]
        folder = self.results / "engines"
        folder.mkdir(exist_ok=True)
        file, failure = folder / f"{name}.{key}.engine", folder / f"{name}.{key}.failed"
        if file.exists():
            return Engine.load(file)
        if failure.exists():
            raise QuantlabError(failure.read_text())
        options = BuildOptions(job.precision, timing_cache=self.results / "timing.cache", optimization_level=self.level)
        try:
            engine = self._build(job, options)
        except QuantlabError as error:
            failure.write_text(str(error))
            raise
        engine.save(file)
        print(f"{name}: {engine.summary}", flush=True)
        return engine

    def _build(self, job: Job, options: BuildOptions) -> Engine:
        try:
            return self.runtime.build(job.model, options, job.source)
        except BuildError:  # TensorRT 8.6 cannot read back what it wrote into its timing cache of some transformers
            return self.runtime.build(job.model, replace(options, timing_cache=None), job.source)


def figures(row: BenchRow) -> dict[str, Any]:
    """What is kept of one engine."""
    result = row.result
    return {
        "p50_ms": result.p50_ms,
        "rounds_ms": result.rounds_ms,
        "samples_per_s": result.samples_per_s,
        "energy_mj": result.energy_mj,
        "build_s": result.build_s,
        "to_first": asdict(row.ratio),
    }


def median_ms(engine: Mapping[str, Any]) -> float:
    rounds = sorted(engine["rounds_ms"])
    return float(rounds[len(rounds) // 2])


def spread(engine: Mapping[str, Any]) -> float:
    """Largest over smallest round, less 1."""
    return float(max(engine["rounds_ms"]) / min(engine["rounds_ms"]) - 1)


def line_of(values: Mapping[str, Any]) -> str:
    """A row of the table."""
    engines = values["engines"]
    cells = [f"{median_ms(engines[n]):.4f}" if n in engines else "fails" for n in CANDIDATES]
    more = [f"{n} {median_ms(e):.4f}" for n, e in engines.items() if n not in CANDIDATES]
    ratio = "–"
    if "quantlab" in engines:
        best = min(median_ms(e) for n, e in engines.items() if n in CANDIDATES and n != "quantlab")
        ratio = f"{median_ms(engines['quantlab']) / best:.3f}"
    wide = max(spread(e) for e in engines.values())
    int8 = engines.get("quantlab", {}).get("int8", "–")
    columns = [values["model"], str(values["batch"]), *cells, ratio, f"{wide:.1%}", int8, *more]
    return f"| {' | '.join(columns)} |"


def table_of(results: Path) -> str:
    """All models measured so far, as markdown."""
    head = ["model", "batch", *CANDIDATES, "to the best other", "spread", "INT8 in quantlab's"]
    rows = [line_of(json.loads(f.read_text())) for f in sorted(results.glob("*.result.json"))]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="names of models")
    parser.add_argument("--level", type=int, default=3, help="builder optimization level")
    parser.add_argument("--table", action="store_true", help="only print what was measured so far")
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    if not args.table:
        from quantlab.trt import open_runtime

        files = [f for f in sorted(args.zoo.glob("*.onnx")) if "." not in f.stem]
        run_all(Bench(open_runtime(), args.results, args.level, CANDIDATES), files, args.only)
    print(table_of(args.results))
    return 0


def run_all(bench: Bench, files: list[Path], only: list[str]) -> None:
    """Every model that no other process works on."""
    by_name = {f.stem: f for f in files}
    if unknown := sorted(set(only) - set(by_name)):
        sys.exit(f"the zoo has no {', '.join(unknown)}; it has {', '.join(by_name)}")
    for name in only or by_name:
        try:
            with filelock.FileLock(bench.results / f"{name}.lock", timeout=0):
                bench.run(by_name[name])
        except filelock.Timeout:
            continue
        except QuantlabError as error:
            print(f"{name}: {error}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
