"""Every parser of a file that a user gives: valid files, how it reads one, and what it must give back.

The oracle of a parser: it raises a QuantlabError, or a value whose own file reads as the same value and says the same
as the file that was read. `same` finds what was taken for something that it is not: `true` for 1, "3.5" for 3.5, a
number that was cut.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sameness import (
    FLOAT32,
    same_arrays,
    same_cache,
    same_chunk,
    same_engine,
    same_json,
    same_labels,
    same_lines,
    same_numbers,
)
from seeds import (
    ABOUT,
    CLASSES,
    ENGINE,
    LATENCIES,
    LINES,
    RECORD,
    REPORT,
    SENSITIVITY,
    TABLE,
    npy,
    npz,
    saved,
    seeds,
    shard,
)

from quantlab.calibration.cache_record import CacheRecord, load_record, record_path
from quantlab.calibration.ep_table import ep_table_bytes, table_from_ep
from quantlab.calibration.load import load_table
from quantlab.calibration.shards import CalibrationShard
from quantlab.calibration.table import CalibrationTable
from quantlab.calibration.trt_cache import TrtCache, cache_from_table, table_from_cache
from quantlab.data.arrays import read_arrays
from quantlab.data.class_map import ClassMap, read_class_map
from quantlab.data.labels import Samples, read_labels
from quantlab.data.preprocess import Preprocess
from quantlab.data.presets import PRESETS
from quantlab.data.request import read_preprocess
from quantlab.engines.engine import Engine
from quantlab.report.baseline import changes_since, load_document
from quantlab.tune.journal import Journal
from quantlab.tune.latency_table import load_latency_table
from quantlab.tune.sensitivity_chunks import _keep, _kept
from quantlab.tune.sensitivity_merge import is_sensitivity
from quantlab.tune.sensitivity_table import SensitivityTable


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


def _write_arrays(arrays: dict[str, Any], path: Path) -> bytes:
    return npz(**arrays) if set(arrays) != {""} else npy(np.asarray(arrays[""]))


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
    other = Journal(again, ABOUT)
    for (kind, key), fact in value._facts.items():
        other.remember(kind, key, lambda fact=fact: fact)
    return again.read_bytes()


def _write_chunk(value: Any, path: Path) -> bytes:
    folder = path.parent / "kept"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    _keep(folder, "k" * 64, value)
    return next(folder.iterdir()).read_bytes()


def _table_of_cache(cache: TrtCache) -> TrtCache:
    table_from_cache(cache)
    return cache


def _write_classes(value: ClassMap, path: Path) -> bytes:
    return json.dumps({str(number): [name] for number, name in value.names.items()}).encode()


def _nothing(value: Any, path: Path) -> bytes:
    """Of what is not written: what it is made of stands for it."""
    return repr(value).encode()


def parsers(folder: Path) -> dict[str, Parser]:
    """All parsers by name; `folder` holds what is written to make their seeds."""
    made = seeds(folder)
    named = [preset.to_dict() for preset in list(PRESETS.values())[:3]]
    table_json = TABLE.to_json().encode()
    cache = cache_from_table(TABLE).to_bytes()
    floats = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    arrays = (npy(floats), npy(floats.T.astype(">f8")), npz(image=floats, labels=np.arange(3), note=np.array("x")))
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
            (saved(shard().save, folder),),
            CalibrationShard.load,
            lambda v, p: saved(v.save, p.parent, "o.npz"),
            same_arrays,
        ),
        "cache": Parser(
            "bytes",
            "c.cache",
            (cache, b"0 3fefffd60e94ee39 3fefff2e48e8a71e\nx: 3f800000\n"),
            lambda p: _table_of_cache(TrtCache.load(p)),
            lambda v, p: v.to_bytes(),
            same_cache,
        ),
        "flatbuffers": Parser(
            "bytes",
            "c.flatbuffers",
            (ep_table_bytes(TABLE),),
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
            (table_json, cache, ep_table_bytes(TABLE), b"image 2.5\nr 0.125\n"),
            load_table,
            lambda v, p: v.to_json().encode(),
        ),
        "cache_record": Parser(
            "json",
            record_path(Path("c.cache")).name,
            (_write_record(RECORD, folder),),
            _read_record,
            _write_record,
            same_json(),
        ),
        "engine_record": Parser(
            "json", "e.engine.json", (_write_engine(ENGINE, folder / "x"),), _read_engine, _write_engine, same_engine
        ),
        "latency_table": Parser(
            "json",
            "l.json",
            (saved(LATENCIES.save, folder),),
            load_latency_table,
            lambda v, p: saved(v.save, p.parent, "o"),
            same_json(1e-3),
        ),
        "sensitivity": Parser(
            "json",
            "s.json",
            (SENSITIVITY.to_json().encode(),),
            SensitivityTable.load,
            lambda v, p: v.to_json().encode() + bytes(v.to_csv() == "" or not is_sensitivity(p)),
            same_json(0.0, "rank_correlation"),
        ),
        "chunk": Parser(
            "json", "k" * 16 + "-x.json", made["chunk"], lambda p: _kept(p.parent, "k" * 64), _write_chunk, same_chunk
        ),
        "journal": Parser("lines", "j.jsonl", made["journal"], lambda p: Journal(p, ABOUT), _write_journal, same_lines),
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
            (json.dumps(REPORT).encode(),),
            _read_baseline,
            lambda v, p: json.dumps(v).encode(),
            same_json(),
        ),
        "arrays": Parser("zip", "a.npz", arrays, read_arrays, _write_arrays, same_numbers),
        "labels": Parser(
            "bytes",
            "l.csv",
            LINES,
            lambda p: read_labels(p, "", Samples(2, 2, ["a.png", "sub/b.png"])),
            _nothing,
            same_labels,
        ),
        "classes": Parser("bytes", "c.txt", CLASSES, read_class_map, _write_classes),
        "labels_npy": Parser(
            "zip",
            "l.npz",
            (npy(np.array([3, 0])), npz(y=np.array([3, 0], np.uint8))),
            lambda p: read_labels(p, "", Samples(2, 2)),
            _nothing,
        ),
    }


def as_preprocess(values: dict[str, Any]) -> Preprocess:
    """A preprocess of plain values, as Python's API takes it."""
    return Preprocess.from_dict(values)
