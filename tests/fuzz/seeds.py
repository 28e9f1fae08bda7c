"""Valid files and values, which the hostile ones are made from."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from quantlab.calibration.cache_record import CacheRecord
from quantlab.calibration.shards import CalibrationShard
from quantlab.calibration.table import CalibrationTable, Provenance
from quantlab.engines.engine import Engine, EngineRecord
from quantlab.engines.messages import Warned
from quantlab.errors import Notice
from quantlab.observers import Histogram
from quantlab.tune.journal import Journal
from quantlab.tune.latency import Observation
from quantlab.tune.latency_table import LatencyTable
from quantlab.tune.sensitivity_chunks import _keep
from quantlab.tune.sensitivity_table import Effect, SensitivityProvenance, SensitivityRow, SensitivityTable

TABLE = CalibrationTable(
    {"image": np.float32(2.640625), "/conv/Relu_output_0": np.float32(0.1), "ü [1]": np.float32(0)},
    Provenance(
        "entropy", "a" * 64, "b" * 64, {"resize": "exact", "size": [8, 8]}, 4, 128, 32, "calibration", {"numpy": "2"}
    ),
    (Notice("tensor 'ü [1]' is all zero", "all_zero", "ü [1]"), Notice("careful")),
)


def saved(save: Callable[[Path], object], folder: Path, name: str = "file") -> bytes:
    save(folder / name)
    return (folder / name).read_bytes()


def _histogram(seed: int) -> Histogram:
    found = Histogram(order_independent=True)
    found.observe(np.random.default_rng(seed).normal(size=50).astype(np.float32) * np.float32(seed))
    return found


def shard() -> CalibrationShard:
    return CalibrationShard(
        {"a": _histogram(1), "b/c": _histogram(7), "zero": _histogram(0)}, TABLE.provenance, TABLE.warnings
    )


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


LATENCIES = LatencyTable(
    "s" * 64,
    ("conv1", "conv, 2"),
    "NVIDIA H100",
    "10.16.1",
    32,
    (Observation((False, False), (10.5, 20.25)), Observation((True, False), (5.0, 21.0))),
)


SENSITIVITY = SensitivityTable(
    (
        SensitivityRow("all", "everything", "", 4, Effect(0.01, 0.5, 0.25), None, 0.02),
        SensitivityRow("layer", "a, b", "Conv", 2, Effect(0.0, 0.0, 0.75), None, 0.0, None, ("a", "b")),
        SensitivityRow("class", "first layer", "", 2, Effect(0.001), Effect(0.1), 0.001, 0.01),
    ),
    (("all", "everything"), ("layer", "a, b"), ("class", "first layer"), ("layer", "c")),
    SensitivityProvenance("m", "t", "mse", "d", "", None, 2, 64, "all", "top-1", 0.75, 0, {"numpy": "2"}),
    ("careful",),
)


RECORD = CacheRecord("EntropyCalibration2", "a" * 64, "b" * 64, {"color": "rgb"}, 32, 4, "8.6.0", "a GPU", "c" * 64)


ENGINE = Engine(
    b"plan",
    EngineRecord("10.16.1", "NVIDIA H100", (9, 0), "a" * 64, {"precision": "int8", "fp16": True}, "table", 2.5),
    (Warned("conv", "text", "meaning", "remedy", 2, "no_int8_scale"),),
)


REPORT = {
    "format": "quantlab.report",
    "version": 3,
    "title": "t",
    "provenance": {"model_hash": "a" * 64, "python": "3"},
    "comparison": {
        "samples": 64,
        "labeled": True,
        "models": [
            {"name": "fp32", "top1": 0.75, "metric": None, "sqnr_db": "inf", "facts": {}},
            {
                "name": "mse",
                "top1": 0.5,
                "metric": 1.5,
                "sqnr_db": 31.5,
                "facts": {"latency_p50_ms": 1.5, "build_s": 2},
            },
        ],
    },
}


ABOUT = {"model": "a", "data": "b"}


CLASSES = (
    b"n01440764 tench, Tinca tinca\nn01443537 goldfish\n",
    b'index,wnid,name\n3,n01440764,"tench, Tinca"\n4,n01443537,goldfish\n',
    b'{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}',
    b"{0: 'tench', 1: 'goldfish'}",
    b"names\n0: tench\n1: goldfish\n",
)
LINES = (b"a.png,3\nsub/b.png,0\n", b"file,label\na.png,3\nsub/b.png,0\n", b"3\n0\n")


def seeds(folder: Path) -> dict[str, tuple[bytes, ...]]:
    journal = Journal(folder / "journal", ABOUT)
    journal.remember("accuracy", "ort float", lambda: {"sqnr_db": float("inf"), "metric": None})
    journal.remember("timing", "float", lambda: {"latency_ms": 1.5, "times_us": [1, 2.5], "engine": "e", "on": True})
    effects = {("layer", "a"): (Effect(0.5, 0.25), None), ("class", "b"): (Effect(0.5), Effect(0.25, None, 1.0))}
    _keep(folder, "k" * 64, effects)
    return {"journal": ((folder / "journal").read_bytes(),), "chunk": (next(folder.glob("k*.json")).read_bytes(),)}
