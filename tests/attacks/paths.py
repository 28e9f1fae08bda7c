"""Names of files that are not UTF-8, too long, or hold line breaks and commands of a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
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


def FAMILY(folder: Path) -> Iterator[Attack]:
    proto, x = conv_net(), coloured(6)
    onnx.save(proto, folder / "m.onnx")
    np.save(folder / "x.npy", x)
    table = quantlab.calibrate(proto, [{"image": x}])
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
        yield Command(f"report of name {k}", compare, codes=(0,), check=_legible, says=r"\A[^\x1b\r]*\Z")
