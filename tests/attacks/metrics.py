"""Metrics and scripts of a user that exit, give nothing or nonsense: none of them passes a gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from attack import Attack, Command

import quantlab
from models import coloured, conv_net, quantized

FUNCTIONS = {
    "exits": "sys.exit(0)",
    "exits without a code": "raise SystemExit",
    "leaves": "os._exit(0)",
    "quits": "exit(0)",
    "stops": "raise StopIteration",
    "is closed": "raise GeneratorExit",
    "ends a generator": "yield 1",
    "gives None": "return None",
    "gives nothing": "return []",
    "gives one number": "return 1.0",
    "gives NaN": "return np.full(len(labels), np.nan)",
    "gives one NaN": "x = np.ones(len(labels)); x[0] = np.nan; return x",
    "gives infinity": "return np.full(len(labels), np.inf)",
    "gives texts": "return ['1.0'] * len(labels)",
    "gives complex numbers": "return np.ones(len(labels), complex)",
    "gives objects": "return np.array([object()] * len(labels))",
    "gives dates": "return np.zeros(len(labels), 'datetime64[s]')",
    "gives a column": "return np.ones((len(labels), 1))",
    "gives a dict": "return {'accuracy': 1.0}",
    "gives masked values": "return np.ma.masked_all(len(labels))",
    "warns of an error": "import warnings; warnings.simplefilter('error'); warnings.warn('x')",
    "takes all memory": "raise MemoryError",
    "recurses": "return wrong(outputs, labels)",
    "raises an error without text": "raise ValueError",
    "raises a group": "raise BaseException('odd')",
    "raises what cannot be shown": "class E(Exception):\n        def __str__(self): sys.exit(0)\n    raise E()",
    "exits on quantized models only": (
        "wrong.n = getattr(wrong, 'n', 0) + 1\n    if wrong.n > 1: sys.exit(0)\n    return np.ones(len(labels))"
    ),
}
VALUES = {
    "exits": "sys.exit(0)",
    "leaves": "os._exit(0)",
    "gives None": "return None",
    "gives NaN": "return float('nan')",
    "gives infinity": "return float('inf')",
    "gives a text": "return '0.9'",
    "gives an array": "return np.ones(3)",
    "gives an empty array": "return np.ones(0)",
    "gives a complex number": "return 1j",
    "gives a dict": "return {}",
    "ends a generator": "yield 1.0",
}
SETS = {
    "makes nothing": "def __new__(cls): return None",
    "exits when made": "def __init__(self): sys.exit(0)",
    "exits when looked at": "@property\n    def update(self): sys.exit(0)\n    def compute(self): return 1.0",
    "is empty": "pass",
    "exits on update": "def update(self, o, l): sys.exit(0)\n    def compute(self): return 1.0",
    "leaves on update": "def update(self, o, l): os._exit(0)\n    def compute(self): return 1.0",
}
FILES = {
    "an empty file": "",
    "a file that exits": "import sys; sys.exit(0)",
    "a file that leaves": "import os; os._exit(0)",
    "a file that raises": "1 / 0",
    "a file with a number": "wrong = 3",
    "a file with None": "wrong = None",
    "a file whose names exit": "import sys\ndef __getattr__(name): sys.exit(0)",
    "no Python": "def (",
}


def FAMILY(folder: Path) -> Iterator[Attack]:
    proto = conv_net()
    data = coloured(12)
    np.save(folder / "x.npy", data)
    np.save(folder / "y.npy", np.arange(12) % 5)
    onnx.save(proto, folder / "m.onnx")
    onnx.save(quantized(proto, [{"image": data}]).model, folder / "qd.onnx")
    quantlab.calibrate(proto, [{"image": data}], tensors="all").save(folder / "t.json")
    head = "import os, sys\nimport numpy as np\n"
    sources = {
        f"function that {what}": f"def wrong(outputs, labels):\n    {body}\n" for what, body in FUNCTIONS.items()
    }
    sources |= {
        f"set that {what}": f"class wrong:\n    def update(self, o, l): pass\n    def compute(self):\n        {body}\n"
        for what, body in VALUES.items()
    }
    sources |= {f"set that {what}": f"class wrong:\n    {body}\n" for what, body in SETS.items()}
    sources = {what: head + text for what, text in sources.items()} | FILES
    for k, (what, text) in enumerate(sources.items()):
        (folder / f"m{k}.py").write_text(text)
        labels = ["--data", "x.npy", "--labels", "y.npy", "--metric", f"m{k}.py:wrong"]
        argv = ["compare", "m.onnx", "qd.onnx", *labels, "--fail-under", "1%", "-o", "report"]
        yield Command(f"compare: {what}", argv, codes=(2,), says="metric|m[0-9]+.py", leaves=("report*", "report/*"))
        argv = ["sensitivity", "m.onnx", "--table", "t.json", *labels, "-o", "s.json"]
        yield Command(f"sensitivity: {what}", argv, codes=(2,), says="metric|m[0-9]+.py")
    for threshold in ("nan", "inf", "-1", "0", "101", "", " ", "1e-400", "%", "mlperf"):
        argv = ["compare", "m.onnx", "qd.onnx", "--data", "x.npy", "--labels", "y.npy", "--fail-under", threshold]
        yield Command(f"threshold {threshold!r}", [*argv, "-o", "report"], codes=(2,))
    argv = ["compare", "m.onnx", "qd.onnx", "--data", "x.npy", "--fail-under", "1%", "-o", "report"]
    yield Command("a threshold without labels", argv, codes=(2,), says="fail-under")
    for what, body in (
        ("exits", "sys.exit(0)"),
        ("leaves", "os._exit(0)"),
        ("gives None", "return None"),
        ("is empty", "return []"),
    ):
        (folder / f"s_{what.split()[0]}.py").write_text(f"{head}def load_data():\n    {body}\n")
        for command in (
            ["compare", "m.onnx", "qd.onnx", "-o", "report"],
            ["calibrate", "m.onnx", "-o", "o.json"],
            ["quantize", "m.onnx", "--table", "t.json", "--correct-bias", "-o", "o.onnx"],
        ):
            argv = [*command, "--data", f"s_{what.split()[0]}.py"]
            yield Command(f"{command[0]}: a script that {what}", argv, codes=(2,))
    for value in ("nan", "-1", "2", "95"):
        yield Command(
            f"audit --min-int8 {value}", ["audit", "a.engine", "m.onnx", "--min-int8", value], says="min-int8"
        )
    for value in ("nan", "inf"):
        argv = ["repair", "qd.onnx", "--min-sqnr", value, "-o", "o.onnx"]
        yield Command(f"repair --min-sqnr {value}", argv, says="min-sqnr")
