"""Names that are Markdown, HTML, formulas or commands of a terminal: they are text wherever they are written."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from attack import Attack, Call, Command

import quantlab
from models import coloured, conv_net, quantized
from quantlab.comparison import Backend, compare_models
from quantlab.data.shown import ShownSample
from quantlab.ort import Session
from quantlab.report import write_document
from quantlab.report.document import build_document

NAMES = (
    "# heading",
    "[a](javascript:alert)",
    "![i](http://x/y.png)",
    "a|b",
    "a\nb\n\n# c",
    "<img src=x onerror=alert(1)>",
    "`code`",
    "**b**",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\x1b[2J\x1b[31m",
    "\u202egnp",
    "- item",
    "1. item",
    "> quote",
    "$x^$",
    "\udcff",
)
"""Of backends."""
LATER = "raise SystemExit('code of the user ran before the cheap checks')\n"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def FAMILY(folder: Path) -> Iterator[Attack]:
    proto, x = conv_net(), coloured(6)
    onnx.save(proto, folder / "m.onnx")
    onnx.save(quantized(proto, [{"image": x}]).model, folder / "q.onnx")
    np.save(folder / "x.npy", x)
    quantlab.calibrate(proto, [{"image": x}]).save(folder / "t.json")
    (folder / "code.py").write_text(LATER)
    (folder / "bad.json").write_text('{"format": "quantlab.report", "version": 3}')
    far = Session(quantized(proto, [{"image": x}]).model, optimize=False)
    found = compare_models(proto, [Backend(name, far.run) for name in NAMES], [{"image": x}])
    shown = {k: ShownSample(name, b"") for k, name in enumerate(NAMES)}
    found = dataclasses.replace(found, class_names=dict(enumerate(NAMES)), shown=shown, metric_name=NAMES[0])

    def written() -> None:
        paths = write_document(build_document("# t\n[a](b)", found), Path("report"))
        page, table = paths.markdown.read_text("utf-8"), paths.csv.read_text("utf-8")
        table += paths.samples.read_text("utf-8")
        assert "<img src=x" not in paths.html.read_text("utf-8")
        page = page.replace("\\]", "").replace("\\[", "")
        heads = [line for line in page.splitlines() if line.startswith("#")]
        assert len(heads) == 1, heads
        assert not any(mark in page for mark in ("](java", "![", "<img", "\x1b", "\u202e"))
        cells = [cell for row in csv.reader(io.StringIO(table)) for cell in row]
        assert not any(cell[:1] in tuple("=+-@\t") and not _is_number(cell) for cell in cells), table
        assert b"\\xff" in paths.json.read_bytes()

    yield Call("names in a report", written, returns=True)
    for name in ("../x", "a/b", "", "..", "/tmp/x", "a\\b"):
        yield Call(
            f"a report named {name!r}",
            lambda name=name: write_document(build_document("t", found), Path("r"), name),
            "name",
        )
    ran = ["--metric", "code.py:metric"]
    compare = ["compare", "m.onnx", "--data", "x.npy", "-o", "report", *ran]
    for what, argv, says in (
        ("no model", ["compare", "none.onnx", "q.onnx", "--data", "x.npy", "-o", "report", *ran], "none.onnx"),
        ("no quantized model", [*compare, "none.onnx"], "none.onnx"),
        ("no baseline", [*compare, "q.onnx", "--baseline", "bad.json"], "bad.json"),
        ("no folder", [*compare[:4], "-o", "m.onnx/x", "q.onnx", *ran], "m.onnx"),
        (
            "no table",
            ["sensitivity", "m.onnx", "--table", "none.json", "--data", "x.npy", "-o", "s.json", *ran],
            "none.json",
        ),
        (
            "another table",
            ["tune", "q.onnx", "--table", "t.json", "--data", "x.npy", "-o", "t", *ran],
            "another model|q.onnx|Q/DQ",
        ),
        (
            "no table for a script",
            ["quantize", "m.onnx", "--table", "none.json", "--correct-bias", "--data", "code.py", "-o", "o.onnx"],
            "none.json",
        ),
    ):
        yield Command(f"user code and {what}", argv, says=says)
