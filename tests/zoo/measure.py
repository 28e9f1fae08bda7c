"""Measures one model of the zoo, stage by stage; what is measured is in the result file at once.

    python tests/zoo/measure.py CACHE NAME --peers PYTHON

Every Q/DQ model is judged alike: on ONNX Runtime with graph optimisation off, on data that nothing was calibrated on,
by the SQNR of its worst output.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import batches as data
import export_list
import fetch
import numpy as np
import onnx
from onnx import numpy_helper
from rescale import float_model, rescaled
from rows import KEYS, WITH, best_peer
from work import multiply_adds

import quantlab
from quantlab.api import calibrate_all, quantize_closest
from quantlab.numerics import ErrorSums, error_sums
from quantlab.observers import OBSERVERS
from quantlab.qdq import fold
from quantlab.tune import calibrate_auto

BENCH = Path(__file__).resolve().parents[1] / "bench"
PEERS = ("onnxruntime-minmax", "onnxruntime-percentile", "modelopt-max", "modelopt-entropy")
"""ONNX Runtime first: ModelOpt changes its calibrators when it is imported. ONNX Runtime's entropy has 128 bins for 128
levels: the scales of its min-max, at ten times the cost."""
SLOW = ("onnxruntime-percentile",)
"""In a process of its own: it keeps every activation."""
PEERS_SECONDS, MEMORY = 300, 6 << 30
"""Of a process."""
Result = dict[str, Any]


class Measurement:
    """One model: its file, its data, what FP32 gives, and the result so far."""

    def __init__(self, name: str, cache: Path, peers: Path) -> None:
        self.name, self.cache, self.peers = name, cache, peers
        self.path = cache / "results" / f"{name}.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(self.path.read_text()) if self.path.exists() else {}
        empty: Result = {key: {} for key in KEYS}
        self.result = {"name": name} | empty | known

    def run(self) -> None:
        """All stages that are not done."""
        self.stage("model", self.open)
        if "model" in self.result["failed"]:
            return
        self.stage("quantlab", self.quantlab)
        self.stage("peers", self.all_peers)
        if "quantlab" not in self.result["failed"]:
            self.stage("auto", self.auto)
            self.stage("closest", self.closest)
            self.stage("same tensors", self.same_tensors)

    def stage(self, name: str, act: Callable[[], object]) -> None:
        """Do a stage once, and note why it failed."""
        if name != "model" and (name in self.result["seconds"] or name in self.result["failed"]):
            return
        self.result["running"] = name
        self.save()
        started = time.perf_counter()
        try:
            act()
        except Exception as error:
            self.result["failed"][name] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        self.result["seconds"].setdefault(name, round(time.perf_counter() - started, 1))
        self.result["running"] = None
        self.save()

    def save(self) -> None:
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.result, indent=1) + "\n")
        partial.replace(self.path)

    def open(self) -> None:
        """The model, its data, and what FP32 gives on those held back."""
        self.result["failed"].pop("model", None)
        self.entry = (fetch.MODELS | export_list.EXPORTS)[self.name]
        if self.name in fetch.MODELS:
            path = fetch.fetch(self.name, self.cache)
        else:
            path = self.cache / "models" / f"{self.name}.onnx"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                command = [str(self.peers), str(Path(__file__).with_name("exports.py")), self.name, str(path)]
                _ask(command, PEERS_SECONDS)
        given = onnx.load(path)
        parts = [data.batches(self.entry, path, self.name, part, self.cache) for part in ("calibration", "test")]
        run = data.session(path)
        self.floats = [o.name for o in run.get_outputs() if "float" in o.type or "double" in o.type]
        self.wanted = [run.run(self.floats, batch) for batch in parts[1]]
        # a scalar becomes a constant for all alike, no peer takes one: what it decides (If) is decided
        scalars = {key: x for key, x in parts[0][0].items() if not x.ndim}
        self.model = fold(_bound(given, scalars)) if scalars else given
        without = [[{key: x for key, x in batch.items() if key not in scalars} for batch in part] for part in parts]
        self.calibration, self.test = without
        opset = next(o.version for o in given.opset_import if o.domain in ("", "ai.onnx"))
        self.result["facts"] = {
            "kind": self.entry["kind"],
            "exporter": f"{given.producer_name} {given.producer_version}".strip(),
            "opset": opset,
            "nodes": len(given.graph.node),
            "parameters": sum(math.prod(t.dims) for t in self.model.graph.initializer),
            "multiply_adds": multiply_adds(self.model, self.test[0])[0],
            "constant": list(scalars),
            "samples": len(self.test) * (self.entry["batch"] or 1),
        }

    def judge(self, name: str, model: onnx.ModelProto) -> None:
        """Note the SQNR of a model's worst output, and its share of multiply-adds in INT8."""
        run = data.session(model)
        given = {i.name for i in run.get_inputs()}
        sums: list[list[ErrorSums]] = [[] for _ in self.floats]
        for batch, wanted in zip(self.test, self.wanted, strict=True):
            got = run.run(self.floats, {key: x for key, x in batch.items() if key in given})
            for k, (a, b) in enumerate(zip(wanted, got, strict=True)):
                sums[k].append(error_sums(a, b, self.floats[k], finite=False))
        heard = [parts for parts in sums if any(part.reference2 for part in parts)]
        worst = min(heard, key=lambda parts: sum(parts, ErrorSums()).sqnr_db)
        self.result["sqnr_db"][name] = round(sum(worst, ErrorSums()).sqnr_db, 2)
        self.result["spread_db"][name] = round(_jackknife(worst), 2)
        total, quantized = multiply_adds(model, self.test[0])
        self.result["share"][name] = round(quantized / total, 4) if total else 0.0

    def both(self, name: str, table: quantlab.CalibrationTable) -> None:
        """Judge everything in INT8 and, where that is another, the default placement."""
        everything, default = (quantlab.quantize(self.model, table, selection=x) for x in (EVERYTHING, None))
        self.judge(f"{name}:all", everything.model)
        placed = [(made.placement.activations, made.placement.weights) for made in (everything, default)]
        if placed[1][0] and placed[0] != placed[1]:
            self.judge(name, default.model)
        else:
            for key in ("sqnr_db", "spread_db", "share"):
                self.result[key][name] = self.result[key][f"{name}:all"] if placed[1][0] else NOTHING[key]

    def quantlab(self) -> None:
        started = time.perf_counter()
        tables = calibrate_all(self.model, self.calibration, OBSERVERS).tables
        self.result["seconds"]["calibrate"] = round(time.perf_counter() - started, 1)
        for name, table in tables.items():
            self.both(name, table)

    def auto(self) -> None:
        self.both("auto", calibrate_auto(self.model, self.calibration).table)

    def closest(self) -> None:
        self.judge("closest:all", quantize_closest(self.model, self.calibration, EVERYTHING).quantized.model)

    def all_peers(self) -> None:
        """The peers' models, in a process with a limit of time and memory."""
        folder = self.cache / "peers" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        missing = [peer for peer in PEERS if peer not in self.result["sqnr_db"]]
        for peer in missing:
            (folder / f"{peer}.onnx").unlink(missing_ok=True)
        onnx.save(self.model, folder / "given.onnx")  # ModelOpt writes into the file that it is given
        np.savez(folder / "calibration.npz", **data.stacked(self.calibration))
        command = [str(self.peers), str(BENCH / "peers.py"), str(folder / "given.onnx")]
        reasons = {}
        for some in (SLOW, [peer for peer in PEERS if peer not in SLOW]):
            wanted = [peer for peer in some if peer in missing]
            if not wanted:
                continue
            try:
                lines = _ask([*command, str(folder / "calibration.npz"), str(folder), *wanted], PEERS_SECONDS)
                reasons |= dict(line.split(" failed: ", 1) for line in lines.splitlines() if " failed: " in line)
            except RuntimeError as error:
                reasons |= dict.fromkeys(wanted, str(error))
        for peer in missing:
            made = folder / f"{peer}.onnx"
            self.result["failed"].pop(peer, None)
            try:
                if not made.exists():
                    raise RuntimeError(reasons.get(peer, "no word"))
                self.judge(peer, onnx.load(made))
            except Exception as error:
                self.result["failed"][peer] = " ".join(str(error).split())[:400]

    def same_tensors(self) -> None:
        """The Q/DQ model of the better peer with the scales of here: the same nodes, the same weights."""
        for kept in ("sqnr_db", "spread_db", "share"):
            self.result[kept] = {name: value for name, value in self.result[kept].items() if WITH not in name}
        peer = best_peer(self.result)
        if peer:
            made = onnx.load(self.cache / "peers" / self.name / f"{peer}.onnx")
            model, tensors = float_model(made, self.model)
            given = {i.name for i in model.graph.input}
            batches = [{key: x for key, x in batch.items() if key in given} for batch in self.calibration]
            tables = calibrate_all(model, batches, OBSERVERS, tensors=tensors).tables
            for name, table in tables.items():
                self.judge(f"{name}{WITH}{peer}", rescaled(made, table.amax))


def _jackknife(parts: Sequence[ErrorSums]) -> float:
    """The standard error of the SQNR of some batches, by leaving out one at a time."""
    if len(parts) < 2:
        return math.inf
    rest = np.array([sum((p for k, p in enumerate(parts) if k != j), ErrorSums()).sqnr_db for j in range(len(parts))])
    return math.sqrt((len(rest) - 1) * float(np.var(rest))) if np.isfinite(rest).all() else math.inf


def _bound(model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    kept = [i for i in bound.graph.input if i.name not in values]
    del bound.graph.input[:]
    bound.graph.input.extend(kept)
    bound.graph.initializer.extend(numpy_helper.from_array(x, key) for key, x in values.items())
    return bound


def _ask(command: Sequence[str], seconds: int) -> str:
    """What a process says that may take so long and so much memory; RuntimeError if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY)),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no result after {seconds} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(lines[-1] if lines else f"ended with {done.returncode}")
    return done.stdout + done.stderr


NOTHING = {"sqnr_db": math.inf, "spread_db": 0.0, "share": 0.0}
"""Of a model that stays float."""
EVERYTHING = quantlab.Selection(include=("*",))
"""As the peers do, whether or not INT8 pays."""


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("name")
    parser.add_argument("--peers", type=Path, required=True)
    options = parser.parse_args()
    Measurement(options.name, options.cache.resolve(), options.peers.absolute()).run()


if __name__ == "__main__":
    sys.exit(main())
