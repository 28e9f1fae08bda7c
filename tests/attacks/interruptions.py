"""Signals at any moment, kills, streams that are closed, full or left, a full disk, a terminal without Unicode."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from attack import Accident, Attack, Command

import quantlab
from models import conv_net, floats, image_batches

COMMANDS = {
    "demo": ("demo", "-o", "out"),
    "presets": ("presets",),
    "help": ("--help",),
    "doctor": ("doctor",),
    "inspect": ("inspect", "m.onnx"),
    "lint": ("lint", "q.onnx"),
    "check-data": ("check-data", "m.onnx", "--data", "x.npy"),
    "calibrate": ("calibrate", "m.onnx", "--data", "x.npy", "-o", "out.json"),
    "merge": ("merge", "t.json", "-o", "out.json", "--algorithm", "minmax"),
    "quantize": ("quantize", "m.onnx", "--table", "t.json", "-o", "out.onnx", "--placement", "out.txt"),
    "closest": ("quantize", "m.onnx", "--closest", "--data", "x.npy", "--batch-size", "2", "-o", "out.onnx",
                "--placement", "out.txt"),
    "sensitivity": ("sensitivity", "m.onnx", "--table", "t.json", "--data", "x.npy", "-o", "out.json",
                    "--csv", "out.csv", "--plot", "out.png"),
    "repair": ("repair", "q.onnx", "-o", "out.onnx"),
    "migrate": ("migrate", "m.onnx", "--table", "all.json", "-o", "out.cache"),
    "fp16": ("fp16", "q.onnx", "-o", "out.onnx"),
    "compare": ("compare", "m.onnx", "q.onnx", "--data", "x.npy", "-o", "out"),
    "provider": ("provider", "q.onnx", "--batch", "4"),
    "trtexec": ("trtexec", "q.onnx", "--batch", "4"),
    "ptq": ("ptq", "m.onnx", "--data", "x.npy", "-o", "out"),
    "winner": ("compare", "m.onnx", "--data", "x.npy", "--calibration", "x.npy", "--backends", "ort:qdq:minmax",
               "-o", "out", "--winner", "out/w", "--json"),
    "log": ("calibrate", "m.onnx", "--data", "x.npy", "-o", "out.json", "--json", "--log-file", "out.log"),
}  # fmt: skip
REPORT = {f"out/report.{suffix}" for suffix in ("json", "md", "html", "csv", "samples.csv")}
SHIPPED = ("model.qdq.onnx", "table.json", "placement.txt", "model.cache", "model.cache.json")
SETS = {
    "compare": [{f"out/report.{suffix}" for suffix in ("json", "md", "html", "csv", "samples.csv")}],
    "demo": [
        {f"out/report.{s}" for s in ("json", "md", "html", "csv", "samples.csv")}
        | {"out/table.json", "out/model.qdq.onnx"}
    ],
    "ptq": [REPORT | {f"out/{name}" for name in (*SHIPPED, "ptq.toml")}],
    "winner": [REPORT | {f"out/w/{name}" for name in SHIPPED}],
    "quantize": [{"out.onnx", "out.txt"}],
    "closest": [{"out.onnx", "out.txt"}],
    "sensitivity": [{"out.json", "out.csv", "out.png"}],
}
KEPT = ("out/work/*", "out.log")
"""What is done and is kept for the next run; a log says why a run failed."""
MOMENTS_S = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0)
KILLS = 200
AFTER = {signal.SIGINT: (0, 130, -signal.SIGINT), signal.SIGTERM: (0, 143, -signal.SIGTERM)}
"""The codes after a signal: the work was done before it, ours, and that of the interpreter once all is done."""


def prepare(folder: Path) -> None:
    x = floats(16, 3, 8, 8)
    table = quantlab.calibrate(conv_net(), image_batches(2), "minmax", tensors="all")
    onnx.save(conv_net(), folder / "m.onnx")
    onnx.save(quantlab.quantize(conv_net(), table).model, folder / "q.onnx")
    np.save(folder / "x.npy", x)
    table.save(folder / "all.json")
    shared = quantlab.calibrate(conv_net(), image_batches(2), "minmax", order_independent=True)
    shared.save(folder / "t.json")


def whole(name: str) -> object:
    """A check that sets are there whole or not at all, from one run; old ones (with content 'old') too."""

    def check(folder: Path) -> str | None:
        for files in SETS.get(name, []):
            state = {file: "old" if _is_old(folder / file) else "new" for file in files if (folder / file).exists()}
            if state and (len(state) != len(files) or len(set(state.values())) != 1):
                return f"half a set: {state}"
        for path in folder.rglob("*.json"):
            try:
                json.loads(path.read_text())
            except ValueError:
                if not _is_old(path):
                    return f"{path.name} is torn"
        return None

    return check


def _is_old(path: Path) -> bool:
    return path.read_bytes() == b"old"


def old_set(name: str) -> object:
    def put(folder: Path) -> None:
        for file in sorted(SETS[name][0]):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(b"old")

    return put


def FAMILY(folder: Path) -> Iterator[Attack]:
    prepare(folder)
    for family in (signals, streams, full_disks, kills):
        yield from (replace(attack, timeout_s=600) for attack in family())  # they share few cores


def signals() -> Iterator[Command]:
    for number, codes in AFTER.items():
        for name, words in COMMANDS.items():
            for after_s in MOMENTS_S:
                yield Command(
                    f"{signal.Signals(number).name} after {1000 * after_s:.0f} ms: {name}", words, codes=(*codes, 3),
                    leaves=("out*", "out/*"), accident=Accident(number, after_s),
                    check=whole(name),
                )  # fmt: skip


def streams() -> Iterator[Command]:
    for name, words in COMMANDS.items():
        for fate in ("closed", "gone", "full"):
            codes = (0, 2) if fate == "full" else (0,)
            yield Command(
                f"stdout {fate}: {name}", words, codes=codes, leaves=("out*", "out/*"), accident=Accident(stdout=fate),
                check=whole(name),
            )  # fmt: skip
            yield Command(f"stderr {fate}: {name}", words, codes=(0,), accident=Accident(stderr=fate))
        for encoding in ("ascii", "latin-1", "cp437"):
            yield Command(f"{encoding}: {name}", words, codes=(0,), env={"PYTHONIOENCODING": encoding})
        yield Command(f"C locale: {name}", words, codes=(0,), env={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"})


def full_disks() -> Iterator[Command]:
    for name, words in COMMANDS.items():
        if not any(word.startswith("out") for word in words):
            continue
        for size in (0, 1, 100, 300, 1000, 4096, 20_000, 100_000):
            yield Command(
                f"disk full at {size} bytes: {name}", words, codes=(0, 2), accident=Accident(file_bytes=size),
                check=whole(name), leaves=KEPT,
            )  # fmt: skip
            if name in SETS:
                yield Command(
                    f"disk full at {size} bytes, old files there: {name}", words, codes=(0, 2), leaves=KEPT,
                    check=whole(name),
                    accident=Accident(file_bytes=size), prepare=old_set(name), replaces=("out*", "out/*"),
                )  # fmt: skip


def kills() -> Iterator[Command]:
    """At moments that are drawn once, most of them where the command writes."""
    draw = random.Random(1)
    spans = {
        "compare": (1.0, 5.0),
        "demo": (3.0, 12.0),
        "quantize": (0.8, 3.0),
        "closest": (0.8, 6.0),
        "sensitivity": (1.0, 5.0),
        "ptq": (2.0, 10.0),
        "winner": (1.0, 5.0),
    }
    for number in range(KILLS):
        name = sorted(SETS)[number % len(SETS)]
        prepared = old_set(name) if number % 8 >= 4 else None
        yield Command(
            f"kill {number}: {name}", COMMANDS[name], codes=(0, -signal.SIGKILL), check=whole(name), prepare=prepared,
            leaves=(".quantlab-*", "out/.quantlab-*", "*/.quantlab-*", "out*", "out/*"), replaces=("out*", "out/*"),
            accident=Accident(signal.SIGKILL, draw.uniform(*spans[name])),
        )  # fmt: skip
