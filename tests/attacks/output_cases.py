"""The commands that write, with all that they read and write; for `outputs.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

import quantlab
from models import conv_net, floats, image_batches

# command -> its words, {FILE} standing for inputs and <SUFFIX> for outputs. An input is given under a name with the
# suffix of the output that is to replace it, so that it is not the suffix that is refused.
CASES = {
    "calibrate": "{m} --data {x} -o <.json>",
    "calibrate data array": "{m} --data {z}:x -o <.json>",
    "calibrate cache": "{m} --data {x} -o <.cache>",
    "calibrate table of ONNX Runtime": "{m} --data {x} -o <.flatbuffers>",
    "calibrate part": "{m} --data {z} --order-independent -o <.npz>",
    "calibrate preprocess": "{m} --data {pixels} --preprocess {p} -o <.json>",
    "calibrate script": "{m} --data {s}:load_data -o <.json>",
    "merge": "{t} {t2} --algorithm minmax -o <.json>",
    "quantize": "{m} --table {t} -o <.onnx>",
    "quantize placement": "{m} --table {t} --placement <.txt> -o out.onnx",
    "quantize bias": "{m} --table {t} --correct-bias --data {x} --placement <.txt> -o <.onnx>",
    "quantize closest": "{m} --closest --data {x} --batch-size 2 --placement <.txt> -o <.onnx>",
    "quantize closest pixels": "{m} --closest --data {pixels} --preprocess {p} --batch-size 2 --json --log-file <.log> "
    "-o <.onnx>",
    "quantize anew": "{q} --requantize -o <.onnx>",
    "sensitivity": "{m} --table {t} --data {x} --labels {l} --metric {s}:metric -o <.json> --csv <.csv> --plot <.png>",
    "tune": "{m} --table {t} --data {x} --labels {l} --metric {s}:metric --latency-table {t2} --timing-cache <.tc> "
    "-o <folder>",
    "profile": "{m} --table {t} --timing-cache <.tc> -o <.json>",
    "repair": "{q} --data {x} -o <.onnx>",
    "migrate": "{m} --table {t} --data {x} -o <.onnx>",
    "migrate to a cache": "{m} --table {all} -o <.cache>",
    "fp16": "{q} -o <.onnx>",
    "compare": "{m} q={q} --data {x} --labels {l} --metric {s}:metric --calibration {x2} --backends ort:qdq:mse "
    "--baseline {b} --timing-cache <.tc> -o <folder>",
    "compare labels array": "{m} q={q} --data {x} --labels {lz}:y -o <folder>",
    "compare winner": "{m} --data {x} --labels {l} --classes {k} --metric {s}:metric --calibration {x2} "
    "--plugins {lib} --backends ort:qdq:mse --baseline {b} --json --log-file <.log> --winner <folder>",
    "compare images": "{m} q={q} --data {pixels} --preprocess {p} --plugins {lib} --json -o <folder>",
    "ptq": "{m} --data {x} --labels {l} --classes {k} --calibration {x2} --metric {s}:metric --plugins {lib} "
    "--config {c0} --json --timing-cache <.tc> --log-file <.log> -o <folder>",
    "ptq pixels": "{m} --data {pixels} --preprocess {p} --json -o <folder>",
    "tune plugins": "{m} --table {t} --data {x} --classes {k} --labels {l} --plugins {lib} --json -o <folder>",
    "profile plugins": "{m} --table {t} --plugins {lib} --json --log-file <.log> -o <.json>",
    "bench profile": "{e} e2={e2} --data {x} --plugins {lib} --dump-profile --json --log-file <.log> -o <.json>",
    "run plugins": "{e} --data {x} --labels {l} --classes {k} --plugins {lib} --json --log-file <.log> -o <.npz>",
    "lint log": "{q} --json --log-file <.onnx>",
    "inspect log": "{t} --json --log-file <.json>",
    "check-data log": "{m} --data {x} --labels {l} --json --log-file <.json>",
    "build": "{m} --int8 --table {t} --data {x} --preprocess {p} --timing-cache <.tc> -o <.engine>",
    "build cache": "{m} --int8 --data {x} --cache <.cache> -o <.engine>",
    "run": "{e} --data {x} --labels {l} -o <.npz>",
    "bench": "{e} e2={e2} -o <.json>",
    "audit": "{e} {m} -o <.json>",
    "trtexec": "{m} --cache {c} --timing-cache <.tc> --save-engine <.engine>",
}
NAMES = {
    "compare": ("report.json", "report.csv", "report.samples.csv"),
    "compare winner": ("table.json", "model.qdq.onnx", "placement.txt", "model.cache"),
    "ptq": ("table.json", "preprocess.json", "model.qdq.onnx", "placement.txt", "model.cache"),
    "ptq pixels": ("table.json", "preprocess.json", "model.qdq.onnx"),
    "tune": ("tuned.json", "tuned.onnx", "tuned.engine", "journal.jsonl"),
}
"""What is written in a folder."""
ALSO = {"compare winner": ("-o", "r")}
"""Words of a case that are the same in all of its attacks."""
IN_FOLDERS = {
    "compare -o d": [f"report.{suffix}" for suffix in ("json", "md", "html", "csv", "samples.csv")],
    "compare -o r --winner d": [
        "model.qdq.onnx", "model.qdq.onnx.data", "table.json", "placement.txt", "model.cache", "model.cache.json",
    ],
    "ptq -o d": [
        *(f"report.{suffix}" for suffix in ("json", "md", "html", "csv", "samples.csv")), "ptq.toml", "preprocess.json",
        *(f"engines/report.{suffix}" for suffix in ("json", "md", "html", "csv", "samples.csv")),
        "model.qdq.onnx", "model.qdq.onnx.data", "table.json", "placement.txt", "model.cache", "model.cache.json",
        "model.engine", "model.engine.json", "fp16.engine", "fp16.engine.json",
        *(f"work/{name}" for name in ("made-from.json", "auto.json", "mse.json", "auto-corrected.onnx")),
    ],
    "tune --table t.json -o d": [
        "tuned.onnx", "tuned.onnx.data", "tuned.engine", "tuned.engine.json", "tuned.json", "tuned.html", "tuned.md",
        "front.png", "journal.jsonl",
    ],
    "demo -o d": [
        *(f"report.{suffix}" for suffix in ("json", "md", "html", "csv", "samples.csv")), "table.json",
        "model.qdq.onnx",
    ],
}  # fmt: skip
"""Command -> all that it writes in the folder `d`."""


def prepare(folder: Path) -> dict[str, Path]:
    """The inputs."""
    table = quantlab.calibrate(conv_net(), image_batches(2), "minmax", tensors="all")
    onnx.save(conv_net(), folder / "m.onnx")
    onnx.save(quantlab.quantize(conv_net(), table).model, folder / "q.onnx")
    x = floats(8, 3, 8, 8)
    np.save(folder / "x.npy", x)
    np.save(folder / "x2.npy", x[::-1])
    np.savez(folder / "z.npz", x=x)
    np.savez(folder / "lz.npz", y=np.arange(8) % 4)
    np.save(folder / "pixels.npy", np.full((4, 8, 8, 3), 7, np.uint8))
    for name, part in (("t", slice(0, 4)), ("t2", slice(4, 8))):
        batches = quantlab.IterableBatches([{conv_net().graph.input[0].name: x[part]}])
        quantlab.calibrate(conv_net(), batches, "minmax", order_independent=True).save(folder / f"{name}.json")
    table.save(folder / "all.json")
    (folder / "p.json").write_text('{"width": 8, "height": 8}')
    (folder / "l.txt").write_text("0\n1\n2\n3\n" * 2)
    (folder / "c.cache").write_text("TRT-8600-EntropyCalibration2\nx: 3c010a14\n")
    (folder / "s.py").write_text(
        "import numpy as np\n\ndef load_data():\n    yield {'x': np.ones((2, 3, 8, 8), np.float32)}\n\n"
        "def metric(outputs, labels):\n    return 1.0\n"
    )
    (folder / "k.txt").write_text("zero\none\ntwo\nthree\nfour\n")
    (folder / "c0.toml").write_text('batch-size = "2"\n')
    (folder / "lib.so").write_bytes(b"no library")
    (folder / "b.json").write_text('{"format": "quantlab.report"}')
    for name in ("e.engine", "e2.engine"):
        (folder / name).write_bytes(b"plan")
        (folder / f"{name}.json").write_text("{}")
    return {path.name.split(".")[0]: path for path in sorted(folder.iterdir()) if path.name.count(".") == 1}
