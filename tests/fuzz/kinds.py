"""Every parser of a file that a user gives: valid files, how it reads one, and what it must give back.

The oracle of a parser: it raises a QuantlabError, or a value whose own file reads as the same value and says the same
as the file that was read. `same` finds what was taken for something that it is not: `true` for 1, "3.5" for 3.5, a
number that was cut.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantlab.calibration.cache_record import CacheRecord, load_record, record_path
from quantlab.calibration.ep_table import ep_table_bytes, table_from_ep
from quantlab.calibration.load import load_table
from quantlab.calibration.shards import CalibrationShard
from quantlab.calibration.table import CalibrationTable, Provenance
from quantlab.calibration.trt_cache import TrtCache, cache_from_table, table_from_cache
from quantlab.data.arrays import read_arrays
from quantlab.data.labels import Samples, read_labels
from quantlab.data.preprocess import Preprocess
from quantlab.data.presets import PRESETS
from quantlab.data.request import read_preprocess
from quantlab.engines.engine import Engine, EngineRecord
from quantlab.engines.messages import Warned
from quantlab.errors import Notice
from quantlab.observers import Histogram
from quantlab.report.baseline import changes_since, load_document
from quantlab.tune.journal import Journal
from quantlab.tune.latency import Observation
from quantlab.tune.latency_table import LatencyTable, load_latency_table
from quantlab.tune.sensitivity_chunks import _keep, _kept
from quantlab.tune.sensitivity_merge import is_sensitivity
from quantlab.tune.sensitivity_table import Effect, SensitivityProvenance, SensitivityRow, SensitivityTable


@dataclass(frozen=True)
class Parser:
    """How one kind of file is tried.

    Attributes:
        kind: 'json', 'lines', 'zip' or 'bytes': how its files are changed with their structure.
        name: Of the file, which says what it is.
        seeds: Valid files.
        read: The parser, of a file.
        write: The content of the file of a value, at a path.
        same: Whether a file and the file of the value that was read from it say the same; None for no check.
    """

    kind: str
    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], Any]
    write: Callable[[Any, Path], bytes]
    same: Callable[[bytes, bytes], bool] | None = None


def says_the_same(first: Any, second: Any, tolerance: float = 0.0) -> bool:
    """Plain values are equal, kinds of values with them; of numbers up to a share of `tolerance`. What only the
    second has is a default of the parser."""
    if isinstance(first, dict):
        if not isinstance(second, dict):
            return False
        return all(k in second and says_the_same(v, second[k], tolerance) for k, v in first.items())
    if isinstance(first, list):
        if not isinstance(second, list) or len(first) != len(second):
            return False
        return all(says_the_same(a, b, tolerance) for a, b in zip(first, second, strict=True))
    if isinstance(first, bool) or not isinstance(first, (int, float)):
        return type(first) is type(second) and bool(first == second)
    if isinstance(second, bool) or not isinstance(second, (int, float)):
        return False
    return bool(first == second or abs(first - second) <= tolerance * abs(first) + tolerance * 1e-38)


def _plain(content: bytes, *, without: tuple[str, ...] = ()) -> Any:
    value = json.loads(content.decode("utf-8-sig"))
    return {k: v for k, v in value.items() if k not in without} if isinstance(value, dict) else value


def same_json(tolerance: float = 0.0, *without: str) -> Callable[[bytes, bytes], bool]:
    """The check of files that are one JSON value."""
    return lambda a, b: says_the_same(_plain(a, without=without), _plain(b, without=without), tolerance)


FLOAT32 = 2.0**-22
"""What the nearest float32 may differ by, denormal ones left aside."""
_TABLE = CalibrationTable(
    {"image": np.float32(2.640625), "/conv/Relu_output_0": np.float32(0.1), "ü [1]": np.float32(0)},
    Provenance(
        "entropy", "a" * 64, "b" * 64, {"resize": "exact", "size": [8, 8]}, 4, 128, 32, "calibration", {"numpy": "2"}
    ),
    (Notice("tensor 'ü [1]' is all zero", "all_zero", "ü [1]"), Notice("careful")),
)


def _same_engine(first: bytes, second: bytes) -> bool:
    """Warnings of old records have no kind: they are explained again."""
    old = any(one.get("kind") is None for one in _plain(first)["warnings"])
    return same_json(0.0, *["warnings"] * old)(first, second)


def _saved(save: Callable[[Path], object], folder: Path, name: str = "file") -> bytes:
    save(folder / name)
    return (folder / name).read_bytes()


def _histogram(seed: int) -> Histogram:
    found = Histogram(order_independent=True)
    found.observe(np.random.default_rng(seed).normal(size=50).astype(np.float32) * np.float32(seed))
    return found


def _shard() -> CalibrationShard:
    return CalibrationShard(
        {"a": _histogram(1), "b/c": _histogram(7), "zero": _histogram(0)}, _TABLE.provenance, _TABLE.warnings
    )


def _same_arrays(first: bytes, second: bytes) -> bool:
    with np.load(io.BytesIO(first)) as a, np.load(io.BytesIO(second)) as b:
        heads = [_plain(str(one["head"]).encode(), without=("warning_kinds",)) for one in (a, b)]
        rest = [key for key in a.files if key != "head"]
        return says_the_same(*heads) and all(np.array_equal(a[key], b[key]) for key in rest)


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _write_arrays(arrays: dict[str, Any], path: Path) -> bytes:
    return _npz(**arrays) if set(arrays) != {""} else _npy(np.asarray(arrays[""]))


def _same_numbers(first: bytes, second: bytes) -> bool:
    if not first.startswith(b"PK"):
        return bool(np.array_equal(np.load(io.BytesIO(first)), np.load(io.BytesIO(second)), equal_nan=True))
    with np.load(io.BytesIO(first)) as a, np.load(io.BytesIO(second)) as b:
        numbers = [key for key in a.files if a[key].ndim and a[key].dtype.kind not in "US"]
        return set(numbers) == set(b.files) and all(np.array_equal(a[k], b[k], equal_nan=True) for k in numbers)


_LATENCIES = LatencyTable(
    "s" * 64,
    ("conv1", "conv, 2"),
    "NVIDIA H100",
    "10.16.1",
    32,
    (Observation((False, False), (10.5, 20.25)), Observation((True, False), (5.0, 21.0))),
)
_SENSITIVITY = SensitivityTable(
    (
        SensitivityRow("all", "everything", "", 4, Effect(0.01, 0.5, 0.25), None, 0.02),
        SensitivityRow("layer", "a, b", "Conv", 2, Effect(0.0, 0.0, 0.75), None, 0.0, None, ("a", "b")),
        SensitivityRow("class", "first layer", "", 2, Effect(0.001), Effect(0.1), 0.001, 0.01),
    ),
    (("all", "everything"), ("layer", "a, b"), ("class", "first layer"), ("layer", "c")),
    SensitivityProvenance("m", "t", "mse", "d", "", None, 2, 64, "all", "top-1", 0.75, 0, {"numpy": "2"}),
    ("careful",),
)
_RECORD = CacheRecord("EntropyCalibration2", "a" * 64, "b" * 64, {"color": "rgb"}, 32, 4, "8.6.0", "a GPU", "c" * 64)
_ENGINE = Engine(
    b"plan",
    EngineRecord("10.16.1", "NVIDIA H100", (9, 0), "a" * 64, {"precision": "int8", "fp16": True}, "table", 2.5),
    (Warned("conv", "text", "meaning", "remedy", 2, "no_int8_scale"),),
)
_REPORT = {
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
_ABOUT = {"model": "a", "data": "b"}
_LINES = (b"a.png,3\nsub/b.png,0\n", b"file,label\na.png,3\nsub/b.png,0\n", b"3\n0\n")


def _read_record(path: Path) -> CacheRecord:
    return load_record(path.with_name(path.name.removesuffix(".json")))


def _write_record(value: CacheRecord, path: Path) -> bytes:
    from quantlab.strict_json import json_text

    return json_text(asdict(value) | {"format": "quantlab.calibration_cache"}).encode()


def _read_engine(path: Path) -> Engine:
    path.with_name("e.engine").write_bytes(b"plan")
    return Engine.load(path.with_name("e.engine"))


def _write_engine(value: Engine, path: Path) -> bytes:
    value.save(path.with_name("e.engine"))
    return path.with_name("e.engine.json").read_bytes()


def _read_baseline(path: Path) -> Any:
    document = load_document(path)
    changes = changes_since(document, [m | {"top1": 1.0, "metric": -1e308} for m in document["comparison"]["models"]])
    json.dumps(changes, allow_nan=False)  # what a later report says of it can be written
    return document


def _write_journal(value: Journal, path: Path) -> bytes:
    again = path.with_name("again.jsonl")
    again.unlink(missing_ok=True)
    other = Journal(again, _ABOUT)
    for (kind, key), fact in value._facts.items():
        other.remember(kind, key, lambda fact=fact: fact)
    return again.read_bytes()


def _same_lines(first: bytes, second: bytes) -> bool:
    a, b = ([json.loads(line) for line in c[: c.rfind(b"\n") + 1].split(b"\n")[:-1]] for c in (first, second))
    return (
        len(a) == len(b) and all(repr(x) == repr(y) or says_the_same(x, y) for x, y in zip(a, b, strict=True))
        if a
        else True
    )


def _seeds(folder: Path) -> dict[str, tuple[bytes, ...]]:
    journal = Journal(folder / "journal", _ABOUT)
    journal.remember("accuracy", "ort float", lambda: {"sqnr_db": float("inf"), "metric": None})
    journal.remember("timing", "float", lambda: {"latency_ms": 1.5, "times_us": [1, 2.5], "engine": "e", "on": True})
    effects = {("layer", "a"): (Effect(0.5, 0.25), None), ("class", "b"): (Effect(0.5), Effect(0.25, None, 1.0))}
    _keep(folder, "k" * 64, effects)
    return {"journal": ((folder / "journal").read_bytes(),), "chunk": (next(folder.glob("k*.json")).read_bytes(),)}


def _write_chunk(value: Any, path: Path) -> bytes:
    folder = path.parent / "kept"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    _keep(folder, "k" * 64, value)
    return next(folder.iterdir()).read_bytes()


def _same_chunk(first: bytes, second: bytes) -> bool:
    a, b = _plain(first), _plain(second)
    return a["key"] != b["key"] or says_the_same(
        {(k, n): r for k, n, *r in a["effects"]}, {(k, n): r for k, n, *r in b["effects"]}
    )


def _table_of_cache(cache: TrtCache) -> TrtCache:
    table_from_cache(cache)
    return cache


def _same_cache(first: bytes, second: bytes) -> bool:
    def plain(content: bytes) -> list[str]:
        rows = [row.rstrip("\r") for row in content.decode("utf-8-sig").split("\n")]
        return [rows[0], *(f"{n}: {int(v, 16):x}" for n, _, v in (row.rpartition(": ") for row in rows[1:] if row))]

    return plain(first) == plain(second)


def _nothing(value: Any, path: Path) -> bytes:
    """Of what is not written: what it is made of stands for it."""
    return repr(value).encode()


def _same_labels(first: bytes, second: bytes) -> bool:
    """No label is made up: every number of the answer stands in the file."""
    numbers = second.decode().split("[", 1)[1].split("]")[0].replace("\\n", " ").split()
    there = {int(number) for number in re.findall(rb"[+-]?[0-9]{1,18}", first)}
    return all(int(number.rstrip(",")) in there for number in numbers)


def parsers(folder: Path) -> dict[str, Parser]:
    """All parsers by name; `folder` holds what is written to make their seeds."""
    made = _seeds(folder)
    named = [preset.to_dict() for preset in list(PRESETS.values())[:3]]
    table_json = _TABLE.to_json().encode()
    cache = cache_from_table(_TABLE).to_bytes()
    floats = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    arrays = (_npy(floats), _npy(floats.T.astype(">f8")), _npz(image=floats, labels=np.arange(3), note=np.array("x")))
    return {
        "table": Parser(
            "json",
            "t.json",
            (table_json,),
            CalibrationTable.load,
            lambda v, p: v.to_json().encode(),
            same_json(FLOAT32, "warning_kinds"),
        ),
        "shard": Parser(
            "zip",
            "s.npz",
            (_saved(_shard().save, folder),),
            CalibrationShard.load,
            lambda v, p: _saved(v.save, p.parent, "o.npz"),
            _same_arrays,
        ),
        "cache": Parser(
            "bytes",
            "c.cache",
            (cache, b"0 3fefffd60e94ee39 3fefff2e48e8a71e\nx: 3f800000\n"),
            lambda p: _table_of_cache(TrtCache.load(p)),
            lambda v, p: v.to_bytes(),
            _same_cache,
        ),
        "flatbuffers": Parser(
            "bytes",
            "c.flatbuffers",
            (ep_table_bytes(_TABLE),),
            lambda p: table_from_ep(p.read_bytes(), "f"),
            lambda v, p: ep_table_bytes(v),
        ),
        "ep_text": Parser(
            "bytes",
            "c.cache",
            (b"image 2.640625\nr 0.10000000149011612\nzero 0.0\n",),
            lambda p: table_from_ep(p.read_bytes(), "f"),
            lambda v, p: ep_table_bytes(v),
        ),
        "any_table": Parser(
            "bytes",
            "t.any",
            (table_json, cache, ep_table_bytes(_TABLE), b"image 2.5\nr 0.125\n"),
            load_table,
            lambda v, p: v.to_json().encode(),
        ),
        "cache_record": Parser(
            "json",
            record_path(Path("c.cache")).name,
            (_write_record(_RECORD, folder),),
            _read_record,
            _write_record,
            same_json(),
        ),
        "engine_record": Parser(
            "json", "e.engine.json", (_write_engine(_ENGINE, folder / "x"),), _read_engine, _write_engine, _same_engine
        ),
        "latency_table": Parser(
            "json",
            "l.json",
            (_saved(_LATENCIES.save, folder),),
            load_latency_table,
            lambda v, p: _saved(v.save, p.parent, "o"),
            same_json(1e-3),
        ),
        "sensitivity": Parser(
            "json",
            "s.json",
            (_SENSITIVITY.to_json().encode(),),
            SensitivityTable.load,
            lambda v, p: v.to_json().encode() + bytes(v.to_csv() == "" or not is_sensitivity(p)),
            same_json(0.0, "rank_correlation"),
        ),
        "chunk": Parser(
            "json", "k" * 16 + "-x.json", made["chunk"], lambda p: _kept(p.parent, "k" * 64), _write_chunk, _same_chunk
        ),
        "journal": Parser(
            "lines", "j.jsonl", made["journal"], lambda p: Journal(p, _ABOUT), _write_journal, _same_lines
        ),
        "preprocess": Parser(
            "json",
            "p.json",
            tuple(json.dumps(one).encode() for one in named),
            lambda p: read_preprocess(None, p),
            lambda v, p: json.dumps(v.to_dict()).encode(),
            same_json(),
        ),
        "baseline": Parser(
            "json",
            "r.json",
            (json.dumps(_REPORT).encode(),),
            _read_baseline,
            lambda v, p: json.dumps(v).encode(),
            same_json(),
        ),
        "arrays": Parser("zip", "a.npz", arrays, read_arrays, _write_arrays, _same_numbers),
        "labels": Parser(
            "bytes",
            "l.csv",
            _LINES,
            lambda p: read_labels(p, "", Samples(2, 2, ["a.png", "sub/b.png"])),
            _nothing,
            _same_labels,
        ),
        "labels_npy": Parser(
            "zip",
            "l.npz",
            (_npy(np.array([3, 0])), _npz(y=np.array([3, 0], np.uint8))),
            lambda p: read_labels(p, "", Samples(2, 2)),
            _nothing,
        ),
    }


def as_preprocess(values: dict[str, Any]) -> Preprocess:
    """A preprocess of plain values, as Python's API takes it."""
    return Preprocess.from_dict(values)
