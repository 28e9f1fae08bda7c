"""Files of every kind that a user gives, with one thing in them that is not as it should be: each is refused by name.

Random ones are `tests/fuzz`.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from attack import Attack, Call, Command

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
from kinds import Parser, parsers
from mutations import zip_of

VALUES: tuple[tuple[str, str], ...] = (
    ("true", "true"),
    ("text", '"3.5"'),
    ("long", "1" + "0" * 400),
    ("longer", "9" * 100_000),
    ("float", "1e999"),
    ("nan", "NaN"),
    ("infinite", "-Infinity"),
    ("null", "null"),
    ("list", "[]"),
    ("object", "{}"),
    ("deep", "[" * 100_000 + "]" * 100_000),
    ("half a letter", '"\\ud800"'),
    ("negative", "-1"),
)
"""(name, JSON) in place of a number that counts, or of one that measures."""
PLACES = {
    "table": ('"image": 2.640625', '"batches": 4', '"samples": 128'),
    "cache_record": ('"batches": 4', '"batch_size": 32'),
    "engine_record": ('"plan_bytes": 4', '"count": 2', '"build_seconds": 2.5'),
    "latency_table": ('"batch_size": 32', "20.25"),
    "sensitivity": ('"noise": 0.01', '"sites": 4', '"samples": 64'),
    "chunk": ('"noise": 0.25',),
    "preprocess": ('"pad_value": 114', '"scale": 0.00392156862745098'),
    "baseline": ('"samples": 64', '"top1": 0.75', '"latency_p50_ms": 1.5'),
}
"""Parser -> numbers as they stand in its file."""
HASHES = {"table": "model_hash", "cache_record": "cache_hash", "engine_record": "plan_hash", "baseline": "model_hash"}


def _read(parser: Parser, content: bytes) -> Callable[[], Any]:
    """The parser, of a file in a folder of its own, under the name that it wants."""

    def read() -> Any:
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / parser.name
            file.write_bytes(content)
            return parser.read(file)

    return read


def FAMILY(folder: Path) -> Iterator[Attack]:
    with tempfile.TemporaryDirectory() as made:
        known = parsers(Path(made))

    def refused(parser: str, name: str, content: bytes, says: str = "") -> Call:
        return Call(f"{parser}: {name}", _read(known[parser], content), says)

    for name, places in PLACES.items():
        text = known[name].seeds[0].decode()
        for place in places:
            assert place in text, (name, place)
            key, _, _ = place.rpartition(" ")
            for what, value in VALUES:
                if (what, name) in (("null", "baseline"), ("negative", "preprocess")):
                    continue  # not measured; a number like any other
                yield refused(name, f"{what} for {place}", text.replace(place, f"{key} {value}".strip(), 1).encode())
        first = text[text.index('"') : text.index(",")]
        yield refused(name, "a key twice", text.replace("{", "{" + first + ",", 1).encode(), "twice")
        yield refused(name, "a list", f"[{text}]".encode())
        yield refused(name, "nothing", b"")
        yield refused(name, "NUL", b"\0" * 100)
        yield refused(name, "UTF-16", text.encode("utf-16"))
        if name in HASHES:
            value = json.loads(text)
            holder = value if HASHES[name] in value else value.get("record") or value["provenance"]
            holder[HASHES[name]] = None
            yield refused(name, "a null hash", json.dumps(value).encode(), HASHES[name])
    yield from _arrays(refused)
    yield from _shards(refused, known["shard"].seeds[0])
    yield from _caches(refused)
    yield from _classes(refused)
    yield from _sizes(folder)


def _npy(descr: str, shape: str, values: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values


def _arrays(refused: Callable[..., Call]) -> Iterator[Attack]:
    good = _npy("'<f4'", "(2,)", bytes(8))
    files = {
        "empty": b"",
        "no members": zip_of([]),
        "encrypted": zip_of([("x.npy", good, {"flags": 1})]),
        "corrupt": zip_of([("x.npy", good, {"crc": 1})]),
        "a foreign member": zip_of([("x.npy", good, {}), ("readme.txt", b"hello", {})]),
        "a member twice": zip_of([("x.npy", good, {}), ("x.npy", good, {})]),
        "complex": _npy("'<c8'", "(1,)", bytes(8)),
        "times": _npy("'<M8[s]'", "(1,)", bytes(8)),
        "records": _npy("[('a', '<f4')]", "(2,)", bytes(8)),
        "objects": _npy("'|O'", "(1,)", b"\x80\x04N."),
        "a negative shape": _npy("'<f4'", "(-1,)", bytes(8)),
        "a huge shape": _npy("'<f4'", "(10000000000000,)", bytes(8)),
        "a deep header": _npy("'<f4'", "(" * 5000, bytes(8)),
        "too short": _npy("'<f4'", "(3,)", bytes(8)),
        "version 9": b"\x93NUMPY\x09\x00" + good[8:],
        "a lying size": zip_of([("x.npy", good, {"size": 2**31})]),
        "an unknown packing": zip_of([("x.npy", good, {"method": 99})]),
    }
    for name, content in files.items():
        yield refused("arrays", name, content, "cannot be read")
    bomb = zip_of([(f"{k}.npy", good, {"method": 8, "size": 3 * 2**30}) for k in range(2)])
    yield refused("arrays", "a bomb", bomb, "4,294,967,296")


def _shards(refused: Callable[..., Call], content: bytes) -> Iterator[Attack]:
    with np.load(io.BytesIO(content)) as stored:
        good = dict(stored)
    counts = good["counts"]
    changes: dict[str, dict[str, Any]] = {
        "negative range": {"range": -good["range"]},
        "NaN range": {"range": np.full_like(good["range"], np.nan)},
        "infinite range": {"range": np.full_like(good["range"], np.inf)},
        "a range of its own": {"range": good["range"] * np.float32(1.5)},
        "NaN amax": {"amax": np.full_like(good["amax"], np.nan)},
        "complex counts": {"counts": counts.astype(complex)},
        "float counts": {"counts": counts.astype(float)},
        "negative counts": {"counts": -counts},
        "huge counts": {"counts": counts + 2**62},
        "no counts": {"counts": counts * 0},
        "negative zeros": {"zeros": good["zeros"] - 1},
        "no batches": {"batches": good["batches"] * 0},
        "amax above the range": {"amax": good["range"] * 2},
        "other shapes": {"amax": good["amax"][:1]},
        "more": {"more": counts},
        "a head of bytes": {"head": np.array(str(good["head"]).encode())},
    }
    head = json.loads(str(good["head"]))
    for key, value in (
        ("batches", True),
        ("samples", "3"),
        ("batches", -1),
        ("model_hash", None),
        ("versions", []),
        ("preprocess", 3),
    ):
        changes[f"{key} {value!r}"] = {
            "head": np.array(json.dumps(head | {"provenance": head["provenance"] | {key: value}}))
        }
    changes["a tensor twice"] = {"head": np.array(json.dumps(head | {"tensors": ["a", "a", "b"]}))}
    for name, change in changes.items():
        buffer = io.BytesIO()
        np.savez(buffer, **good | change)
        yield refused("shard", name, buffer.getvalue(), "is not a calibration shard")


def _caches(refused: Callable[..., Call]) -> Iterator[Attack]:
    start = b"TRT-8600-EntropyCalibration2\n"
    for name, rows in {
        "NUL": b"a\0b: 3f800000\n",
        "a line break": b"a\rb: 3f800000\n",
        "a colour": b"\x1b[31ma: 3f800000\n",
        "an infinite scale": b"a: 7f800000\n",
        "an infinite amax": b"a: 7f7fffff\n",
        "minus 0": b"a: 80000000\n",
        "a name twice": b"a: 3f800000\na: 3f800000\n",
        "9 digits": b"a: 03f800000\n",
        "capitals": b"a: 3F800000\n",
        "no name": b": 3f800000\n",
        "cut off": b"a: 3f8000",
    }.items():
        yield refused("cache", name, start + rows)
    yield refused("cache", "other digits", "TRT-٨٦٠٠-EntropyCalibration2\na: 3f800000\n".encode(), "line 1")
    for name, rows in {
        "underscores": b"a 1_0\n",
        "other digits": "a ٣\n".encode(),
        "hex": b"a 0x10\n",
        "long": b"a 1" + b"0" * 500 + b"\n",
        "infinite": b"a inf\n",
        "too small": b"a 1e-60\n",
        "spaces": b"a  \n",
    }.items():
        yield refused("ep_text", name, rows)
    root = struct.pack("<IHHHHIII", 12, 6, 8, 4, 0, 8, 4, 2**31 - 1)
    yield refused("flatbuffers", "a list without an end", root + bytes(8), "calibration table of ONNX Runtime")


def _classes(refused: Callable[..., Call]) -> Iterator[Attack]:
    for name, content in {
        "nothing": b"",
        "blank lines": b"\n\n\n",
        "a heading only": b"id,name\n",
        "a name only as a heading": b"names\n",
        "NUL": b"\0" * 100,
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(50),
        "UTF-16": "cat\ndog\n".encode("utf-16"),
        "a line without a name": b"cat\n\ndog\n",
        "a comment": b"# classes\ncat\ndog\n",
        "a number twice": b"id,name\n0,cat\n0,dog\n",
        "a number twice with zeros": b"id,name\n0,cat\n00,dog\n",
        "two columns of numbers": b"0,5,cat\n1,6,dog\n",
        "counts of images": b"name,images\ncat,12\ndog,30\n",
        "a synset without a number": b"cat\nn01440764 tench\nn01443537 goldfish\n",
        "a row without a name": b"id,name\n0,cat\n1,\n",
        "labels in place of classes": b"3\n0\n3\n1\n",
        "JSON: an empty list": b"[]",
        "JSON: an empty object": b"{}",
        "JSON: no names": b"[1, 2]",
        "JSON: null": b"[null]",
        "JSON: an empty name": b'["cat", " "]',
        "JSON: an empty list of names": b'[["cat"], []]',
        "JSON: objects": b'[{"name": "cat"}]',
        "JSON: float numbers": b'{"cat": 0.0, "dog": 1.0}',
        "JSON: true numbers": b'{"cat": false, "dog": true}',
        "JSON: text numbers": b'{"cat": "0", "dog": "1"}',
        "JSON: a negative number": b'{"cat": -1, "dog": 0}',
        "JSON: half numbered": b'{"0": "cat", "dog": "x"}',
        "JSON: a key twice": b'{"0": "cat", "0": "dog"}',
        "JSON: a number twice": b'{"0": "cat", "00": "dog"}',
        "JSON: a long number": b'{"' + b"9" * 5000 + b'": "cat"}',
        "JSON: a long value": b'{"cat": ' + b"9" * 5000 + b"}",
        "JSON: NaN": b'{"cat": NaN}',
        "JSON: deep": b"[" * 100_000 + b"]" * 100_000,
        "JSON: half a letter": b'["\\ud800"]',
        "JSON: cut off": b'["cat", "do',
        "Python: a call": b"{0: __import__('os').abort()}",
        "Python: deep": b"{0: " * 50_000 + b"1" + b"}" * 50_000,
        "Python: a key twice": b"{0: 'cat', 0: 'dog'}",
        "Python: bytes": b"{0: b'cat'}",
        "Python: spread": b"{**{0: 'cat'}}",
        "Python: long": b"{0: 'cat', 1: " + b"-" * 50_000 + b"1}",
    }.items():
        yield refused("classes", name, content, "class list")


def _sizes(folder: Path) -> Iterator[Attack]:
    for name, change in {
        "size": {"resize": "exact", "size": [10**9, 10**9]},
        "crop": {"crop": [10**6, 10**6]},
        "a long size": {"resize": "exact", "size": [10**17, 8]},
        "std": {"std": [1e-300]},
        "mean": {"mean": [1e300]},
        "true": {"scale": True},
    }.items():
        file = f"size {name}.json"
        (folder / file).write_text(json.dumps(change))
        np.save(folder / "x.npy", np.zeros((2, 8, 8, 3), np.uint8))
        says = "67,108,864" if "size" in change or "crop" in change else "wrong type|std"
        yield Command(
            f"preprocess: {name}",
            ["check-data", "m.onnx", "--data", "x.npy", "--preprocess", file],
            says=f"{says}|m.onnx",
        )
