"""Names of files that are not UTF-8, too long, or hold line breaks and commands of a terminal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from attack import Attack, Command

import quantlab
from models import coloured, conv_net

HOSTILE = (
    os.fsdecode(b"a\xff\xfeb"),
    "a\nb",
    "a\x1b[2Jb",
    "a\rb",
    "a b",
    "-a",
    "ü",
    "a=b",
    "[bold]a",
    "a:b",
    "\u202eb",
    "x" * 180,
)
LONG = "x" * 300
READS = {
    "a model": ["calibrate", "{}.onnx", "--data", "x.npy", "-o", "o.json"],
    "data": ["calibrate", "m.onnx", "--data", "{}.npy", "-o", "o.json"],
    "a table": ["quantize", "m.onnx", "--table", "{}.json", "-o", "o.onnx"],
    "a cache": ["quantize", "m.onnx", "--table", "{}.cache", "-o", "o.onnx"],
    "a script": ["calibrate", "m.onnx", "--data", "{}.py", "-o", "o.json"],
    "a preprocess": ["calibrate", "m.onnx", "--data", "x.npy", "--preprocess", "{}.json", "-o", "o.json"],
    "a baseline": ["compare", "m.onnx", "q.onnx", "--data", "x.npy", "--baseline", "{}.json", "-o", "r"],
    "labels": ["compare", "m.onnx", "q.onnx", "--data", "x.npy", "--labels", "{}.csv", "-o", "r"],
    "a metric": ["compare", "m.onnx", "q.onnx", "--data", "x.npy", "--metric", "{}.py:f", "-o", "r"],
    "a compared model": ["compare", "m.onnx", "{}.onnx", "--data", "x.npy", "-o", "r"],
    "an engine": ["compare", "m.onnx", "{}.engine", "--data", "x.npy", "-o", "r"],
    "a class list": [
        "compare",
        "m.onnx",
        "q.onnx",
        "--data",
        "x.npy",
        "--labels",
        "l.txt",
        "--classes",
        "{}.txt",
        "-o",
        "r",
    ],
    "a plugin library": ["ptq", "m.onnx", "--data", "x.npy", "--plugins", "{}.so", "-o", "r"],
    "a configuration": ["ptq", "m.onnx", "--data", "x.npy", "--config", "{}.toml", "-o", "r"],
    "a list of images": ["calibrate", "m.onnx", "--data", "{}.txt", "--preset", "imagenet", "-o", "o.json"],
    "a pattern": ["calibrate", "m.onnx", "--data", "{}/*.png", "--preset", "imagenet", "-o", "o.json"],
    "an algorithm": ["calibrate", "m.onnx", "--data", "x.npy", "--algorithm", "{}.py:A", "-o", "o.json"],
    "a log": ["lint", "q.onnx", "--log-file", "{}/log.txt"],
    "a timing cache": ["ptq", "m.onnx", "--data", "x.npy", "--timing-cache", "{}/t.cache", "-o", "r"],
    "an engine to bench": ["bench", "{}.engine", "--dump-profile", "--json"],
    "an output": ["calibrate", "m.onnx", "--data", "x.npy", "-o", "{}/o.json"],
}
"""Commands of a file that is not there."""


def _legible(place: Path) -> str | None:
    for file in place.glob("r/report.*"):
        try:
            text = file.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            return f"{file.name} is not UTF-8"
        if "\x1b" in text or "\\udc" in text:
            return f"{file.name} holds what no text holds"
    return None


def _document(place: Path) -> str | None:
    text = place.with_name(f"{place.name}.stdout").read_bytes()
    try:
        json.loads(text.decode("ascii"))
    except ValueError as error:
        return f"no document ({error}): {text[:200]!r}"
    return None


def _repeated(argv: list[str], place: Path) -> str | None:
    """The configuration that was written repeats the run."""
    found = subprocess.run(argv, cwd=place, capture_output=True, check=False)
    return None if found.returncode in (0, 3) else f"the configuration: {found.stderr.decode()[-300:]}"


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def FAMILY(folder: Path) -> Iterator[Attack]:
    proto, x = conv_net(), coloured(6)
    onnx.save(proto, folder / "m.onnx")
    np.save(folder / "x.npy", x)
    np.save(folder / "many.npy", coloured(64))
    (folder / "l.txt").write_text("0\n1\n2\n3\n4\n0\n")
    table = quantlab.calibrate(proto, [{"image": x}])
    table.save(folder / "t.json")
    quantized = quantlab.quantize(proto, table)
    onnx.save(quantized.model, folder / "q.onnx")
    for k, name in enumerate([*HOSTILE, LONG, "a" * 100 + "/" + LONG]):
        for what, argv in READS.items():
            words = [word.replace("{}", f"./no {name}") for word in argv]
            yield Command(f"{what} of name {k} that is not there", words, says=r"error: [^\x1b\r]*\n")
    for k, name in enumerate(HOSTILE):
        onnx.save(quantized.model, folder / f"{name}.onnx")
        table.save(folder / f"{name}.json")
        quantize = [
            "quantize",
            "m.onnx",
            "--table",
            f"./{name}.json",
            "-o",
            f"./{name}.out.onnx",
            "--placement",
            f"./{name}.txt",
        ]
        yield Command(f"work with name {k}", quantize, codes=(0,), says=r"\A[^\x1b\r]*\Z")
        compare = ["compare", "m.onnx", f"./{name}.onnx", "--data", "x.npy", "-o", "r"]
        place = f"./{name}"
        winner = ["compare", "m.onnx", "--data", "x.npy", "--calibration", "x.npy", "--backends", "ort:qdq:mse"]
        winner += ["-o", f"{place}.report", "--winner", f"{place}.winner", "--json", "--log-file", f"{place}.log"]
        yield Command(f"winner of name {k}", winner, codes=(0,), check=_document)
        bench = ["bench", f"{place}.engine", "--dump-profile", "-o", f"{place}.times"]
        yield Command(f"bench of name {k}", bench, says=r"\A[^\x1b\r]*\Z")
        shutil.copy(folder / "m.onnx", folder / f"{name}.float.onnx")
        shutil.copy(folder / "many.npy", folder / f"{name}.npy")
        ptq = ["ptq", f"{place}.float.onnx", "--data", f"{place}.npy", "-o", f"{place}.ptq"]
        yield Command(f"ptq of name {k}", [*ptq, "--json"], codes=(0, 3), check=_document)
        again = [sys.executable, "-m", "quantlab", "ptq", "--config", f"{place}.ptq/ptq.toml", "-q"]
        said, check = ("not UTF-8", None) if not _is_text(name) else ("", partial(_repeated, again))
        yield Command(f"ptq of name {k}, repeated", ptq, codes=(0, 3), says=said, check=check)
        yield Command(f"report of name {k}", compare, codes=(0,), check=_legible, says=r"\A[^\x1b\r]*\Z")
