"""Options that would do nothing where they are given are refused, and so are values that are none."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from attack import Attack, Command

import quantlab
from models import conv_net, floats, image_batches, quantized

IDLE = {
    "quantize --table t.json -o o.onnx": (
        "--preset imagenet", "--preset nonsense", "--preprocess none.json", "--batch-size 0", "--batch-size 4",
        "--limit 0", "--limit 5", "--skip-bad", "--data x.npy", "--correct-bias",
    ),
    "quantize m.onnx --closest -o o.onnx": (
        "--limit 3", "--batch-size 4", "--data none.npy", "--data x.npy --table t.json", "--data x.npy --correct-bias",
        "--data x.npy --requantize", "--data x.npy --preset nonsense", "--data x.npy --skip-bad",
        "--data x.npy --exclude op:Nonsense", "--data x.npy --batch-size 0",
    ),
    "quantize qd.onnx --closest --data x.npy -o o.onnx": ("--json", "-q"),
    "repair qd.onnx -o o.onnx": ("--preset nonsense", "--batch-size 4", "--limit 3", "--skip-bad", "--min-sqnr nan"),
    "migrate m.onnx --table t.json -o o.onnx": (
        "--preset nonsense", "--limit 3", "--calibrator MinMaxCalibration", "--tensorrt 10.3.0", "--calibrator Foo",
    ),
    "migrate m.onnx --table t.json -o o.flatbuffers": ("--tensorrt 10.3.0", "--data x.npy"),
    "migrate m.onnx --table t.json -o o.cache": ("--calibrator Foo", "--tensorrt 10", "--data x.npy", "--limit 3"),
    "calibrate m.onnx --data x.npy -o o.json": (
        "--tensorrt 10.3.0", "--skip-bad", "--limit 0", "--limit -1", "--batch-size 0", "--batch-size -3",
        "--preset nonsense", "--preset imagenet --preprocess p.json", "--algorithm nonsense",
        "--algorithm auto --order-independent", "--algorithm auto --tensors all",
    ),
    "calibrate m.onnx --data x.npy --order-independent -o o.npz": ("--algorithm mse", "--tensorrt 10.3.0"),
    "calibrate m.onnx --data s.py -o o.json": ("--batch-size 4", "--batch-size 0", "--skip-bad", "--preset imagenet"),
    "calibrate fixed.onnx --data x.npy -o o.json": ("--batch-size 0", "--batch-size 3"),
    "check-data m.onnx --data x.npy": (
        "--classes k.txt", "--skip-bad", "--limit 0", "--batch-size 0", "--algorithm auto",
    ),
    "merge a.json -o o.json": ("--algorithm mse", "--algorithm entropy"),
    "merge s.json -o o.json": ("--algorithm mse", "--algorithm minmax"),
    "compare m.onnx qd.onnx --data x.npy -o report": (
        "--skip-bad", "--limit 0", "--batch-size 0", "--fail-under 99%", "--timing-cache t.timing",
        "--builder-optimization-level 3", "--backends ort:fp32 --calibration x.npy",
        "--backends ort:qdq:mse --calibration x.npy --timing-cache t.timing", "--preset nonsense", "--labels none.txt",
    ),
    "sensitivity m.onnx --table t.json --data x.npy -o o.json": (
        "--method estimate --jobs 2", "--method estimate --keep kept", "--jobs 0", "--skip-bad", "--metric top-1",
        "--part 0/2", "--part 3/2",
    ),
    "build m.onnx -o o.engine": (
        "--preset nonsense", "--limit 3", "--calibrator minmax", "--trust-cache", "--dynamic-ranges",
        "--allow-gpu-fallback", "--precision-constraints obey", "--layer-precisions a:fp16",
        "--table t.json --cache c.cache", "--mem-pool-size workspace:nan",
    ),
    "bench a.engine": (
        "--device -1", "--plugins none.so", "--plugins k.txt", "--dump-profile --iterations 0", "--dumpProfile=3",
        "--device one", "--shapes image", "--batch-size 3",
        "--iterations 3 --duration 2", "--duration nan", "--duration inf", "--warm-up nan", "--streams 0",
    ),
    "trtexec qd.onnx --batch 4": ("--strongly-typed --no-fp16", "--tensorrt 11 --no-fp16"),
    "inspect t.json": ("--placement",),
    "audit a.engine m.onnx": ("--min-int8 nan", "--min-int8 2"),
    "compare m.onnx qd.onnx --data x.npy -o other": (
        "--winner w", "--device 0", "--device 7", "--plugins k.txt", "--plugins none.so",
        "--classes none.txt", "--data s.py --classes k.txt", "--backends ort:fp32 --winner w",
        "--backends ort:qdq:mse --winner w",
        "--backends ort:fp32 --calibration x.npy --winner w", "--backends ort:qdq:mse --calibration x.npy --device 0",
        "--backends ort:qdq:mse --calibration x.npy --winner m.onnx", "--winner=", "--threads 0", "--threads -3",
    ),
    "ptq m.onnx --data x.npy -o out": (
        "--classes none.txt", "--skip-bad", "--limit 0", "--batch-size 0", "--preset nonsense",
        "--labels none.txt", "--fail-under 99%", "--fail-under mlperf-99", "--config none.toml", "--config k.txt",
        "--config list.toml", "--config idle.toml", "--device -1", "--plugins none.so", "--plugins k.txt",
        "--plugins imgs", "--calibration none.npy", "--metric k.txt", "--data s.py", "--data x.npy:a",
        "--builder-optimization-level 9", "--builder-optimization-level -1", "--threads 0", "--preprocess none.json",
        "--preset imagenet --preprocess p.json", "--calibration x.npy --limit 0",
    ),
    "ptq qd.onnx --data x.npy -o out": ("--json", "-q"),
    "profile m.onnx --table t.json -o p2.json": (
        "--batch-size 0", "--device -2", "--plugins none.so", "--plugins k.txt", "--builder-optimization-level 9",
    ),
    "tune m.onnx --table t.json --data x.npy --latency-table a.json -o t": (
        "--device 0", "--plugins k.txt", "--budget 3min", "--timing-cache t.timing", "--classes k.txt",
    ),
    "run a.engine --data x.npy -o o.npz": ("--classes k.txt", "--device -1", "--plugins k.txt"),
    "sensitivity m.onnx --table t.json --data x.npy -o o2.json": ("--classes k.txt",),
    "demo --unpack u": ("-o out", "-o m.onnx"),
    "tune m.onnx --table t.json --data x.npy -o t": ("--max-drop nan", "--min-sqnr nan", "--objective accuracy"),
}  # fmt: skip
"""Command that works as it is, or lacks a GPU -> what must not be added to it."""
JSON = (
    "calibrate m.onnx --data x.npy -o o.json",
    "calibrate m.onnx --data x.npy --algorithm auto -o o.json",
    "calibrate m.onnx --data x.npy --order-independent -o o.npz",
    "check-data m.onnx --data x.npy",
    "merge a.json --algorithm minmax -o o.json",
    "merge s.json -o o.json",
    "quantize m.onnx --table t.json -o o.onnx",
    "quantize qd.onnx --requantize -o o.onnx",
    "sensitivity m.onnx --table t.json --data x.npy -o o.json",
    "lint qd.onnx",
    "lint m.onnx",
    "repair qd.onnx -o o.onnx",
    "migrate m.onnx --table t.json -o o.onnx",
    "migrate m.onnx --table t.json -o o.cache",
    "migrate qd.onnx -o o.flatbuffers",
    "fp16 qd.onnx -o o.onnx",
    "compare m.onnx qd.onnx --data x.npy -o report",
    "compare m.onnx --data x.npy --calibration x.npy --backends ort:qdq:mse,ort:qdq:minmax -o report --winner w",
    "ptq m.onnx --data x.npy -o out",
    "inspect m.onnx",
    "inspect m.onnx --placement",
    "inspect t.json",
    "inspect s.json",
    "presets",
    "presets imagenet",
    "trtexec qd.onnx --batch 4",
    "doctor",
    "demo --unpack u",
)
"""What works, to be told in one document."""
EMPTY = ("--data", "--preset", "--labels", "--metric", "--fail-under", "--backends", "--calibration", "--limit")


def _document(place: Path) -> str | None:
    """Standard output is one JSON document, without what JSON does not have."""
    text = place.with_name(f"{place.name}.stdout").read_text("utf-8")
    try:
        json.loads(text, parse_constant=lambda word: sys.exit(word))
    except (ValueError, SystemExit) as error:
        return f"no document ({error}): {text[:200]!r}"
    return None


def FAMILY(folder: Path) -> Iterator[Attack]:
    proto, data = conv_net(), image_batches()
    onnx.save(proto, folder / "m.onnx")
    onnx.save(conv_net("6"), folder / "fixed.onnx")
    onnx.save(quantized(proto, data).model, folder / "qd.onnx")
    np.save(folder / "x.npy", floats(24, 3, 8, 8))
    (folder / "p.json").write_text("{}")
    (folder / "s.py").write_text(
        "import numpy as np\ndef load_data():\n    yield {'image': np.ones((2,3,8,8), np.float32)}\n"
    )
    quantlab.calibrate(proto, data, tensors="all").save(folder / "t.json")
    quantlab.calibrate(proto, data, "minmax").save(folder / "a.json")
    (folder / "a.engine").write_bytes(b"")
    (folder / "k.txt").write_text("zero\none\ntwo\nthree\nfour\n")
    (folder / "list.toml").write_text('limit = ["2"]\n')
    (folder / "idle.toml").write_text('min-sqnr = "2"\n')
    (folder / "imgs").mkdir()
    from quantlab.tune import measure_sensitivity

    measure_sensitivity(proto, quantlab.calibrate(proto, data), data).save(folder / "s.json")
    for command, additions in IDLE.items():
        for more in additions:
            yield Command(f"{command.split()[0]} {more}", [*command.split(), *more.split()], codes=(2,))
    for option in EMPTY:
        argv = ["compare", "m.onnx", "qd.onnx", "--data", "x.npy", "-o", "report"]
        yield Command(f"{option} with nothing", [*argv, option, ""], codes=(2,), says="empty")
        yield Command(f"{option}= with nothing", [*argv, f"{option}="], codes=(2,), says="empty")
    yield Command("an empty model", ["inspect", ""], codes=(2,), says="empty")
    works = {
        "a part with all tensors": "calibrate m.onnx --data x.npy --order-independent --tensors all -o o.npz",
        "a cache for a version": "calibrate m.onnx --data x.npy --tensorrt 10.16.1 -o o.cache",
        "a cache of a calibrator": "migrate m.onnx --table t.json --calibrator MinMaxCalibration -o o.cache",
        "tables of min-max": "merge a.json --algorithm minmax -o o.json",
        "a bias corrected": "quantize m.onnx --table t.json --correct-bias --data x.npy --limit 6 -o o.onnx",
    }
    for name, line in works.items():
        yield Command(f"works: {name}", line.split(), codes=(0,))
    for line in JSON:
        for more in ("", "-q", "-vv", "--log-file log.txt"):
            yield Command(f"JSON: {line} {more}", [*line.split(), "--json", *more.split()], (0, 3), check=_document)
    # what was made from something else
    presets = {name: ["--preprocess", f"{name}.json", "--data", "u8.npy"] for name in ("one", "two")}
    for name, scale in (("one", 0.01), ("two", 0.02)):
        (folder / f"{name}.json").write_text(f'{{"scale": {scale}}}')
    np.save(folder / "u8.npy", np.random.default_rng(0).integers(0, 255, (12, 8, 8, 3)).astype(np.uint8))
    from quantlab.data import Preprocess, open_data

    one = open_data(folder / "u8.npy", ["image"], Preprocess(scale=0.01))
    table = quantlab.calibrate(proto, one)
    table.save(folder / "one_table.json")
    onnx.save(quantlab.quantize(proto, table).model, folder / "one.onnx")
    for name, argv in {
        "bias correction": ["quantize", "m.onnx", "--table", "one_table.json", "--correct-bias", "-o", "o.onnx"],
        "sensitivity": ["sensitivity", "m.onnx", "--table", "one_table.json", "-o", "o.json"],
        "migration": ["migrate", "m.onnx", "--table", "one_table.json", "-o", "o.onnx"],
        "comparison": ["compare", "m.onnx", "one.onnx", "-o", "report"],
    }.items():
        yield Command(
            f"{name} with another preprocess", [*argv, *presets["two"]], codes=(0,), says="another preprocess"
        )
    other = conv_net()
    other.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(floats(8, 3, 3, 3, seed=99), "w1"))
    onnx.save(other, folder / "other.onnx")
    argv = ["compare", "other.onnx", "one.onnx", "--data", "x.npy", "-o", "report"]
    yield Command("comparison with another FP32 model", argv, codes=(0,), says="another FP32 model")
