"""Labels in every spelling: what is a header, a number, a column; nothing is shifted, cut or taken twice in silence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from attack import Attack, Command
from PIL import Image

import quantlab
from models import coloured, conv_net, quantized

FIRST = ("1.5", "+3.5", "nan", "inf", "0x10", "1_0", "1e3", "٣", "three", "cat", "-", "NaN", "1,5", "#1", "0.5", "一")
"""First lines that are no labels and no headers."""
HEADERS = ("label", "Label", "class", "target", "y", "category", "class_id", "Class ID", "labels")
PAIR_HEADERS = ("file,label", "filename,class", "image,target", "Image Path,Class ID", "path,y", "name,category")


def FAMILY(folder: Path) -> Iterator[Attack]:
    proto, count = conv_net(), 12
    np.save(folder / "x.npy", coloured(count))
    onnx.save(proto, folder / "m.onnx")
    onnx.save(quantized(proto, [{"image": coloured(count)}]).model, folder / "qd.onnx")
    (folder / "metric.py").write_text(
        "import json, numpy as np\n"
        "def seen(outputs, labels):\n"
        "    open('seen.json', 'w').write(json.dumps(labels.tolist()))\n"
        "    return np.ones(len(labels))\n"
    )
    truth = [k % 5 for k in range(count)]
    arrays = ["compare", "m.onnx", "qd.onnx", "--data", "x.npy", "-o", "report", "--metric", "metric.py:seen"]

    def right(wanted: list[int]):
        def check(place: Path) -> str | None:
            import json

            got = json.loads((place / "seen.json").read_text())
            return None if got == wanted else f"labels {got}, wanted {wanted}"

        return check

    def put(name: str, text: str) -> str:
        (folder / name).write_text(text, "utf-8")
        return name

    lines = [str(k) for k in truth]
    for k, first in enumerate(FIRST):
        file = put(f"first{k}.txt", "\n".join([first, *lines]) + "\n")
        yield Command(f"first line {first!r}, one line too many", [*arrays, "--labels", file], says="line [12]")
        file = put(f"instead{k}.txt", "\n".join([first, *lines[1:]]) + "\n")
        yield Command(f"first line {first!r} in place of a label", [*arrays, "--labels", file], says="line [12]")
        file = put(f"middle{k}.txt", "\n".join([*lines[:4], first, *lines[5:]]) + "\n")
        yield Command(f"line 5 is {first!r}", [*arrays, "--labels", file], says="line 5")
    for k, header in enumerate(HEADERS):
        file = put(f"header{k}.txt", "\n".join([header, *lines]) + "\n")
        yield Command(f"header {header!r}", [*arrays, "--labels", file], codes=(0,), check=right(truth))
        file = put(f"twice{k}.txt", "\n".join([header, header, *lines]) + "\n")
        yield Command(f"header {header!r} twice", [*arrays, "--labels", file], says="line 2")
    plain = "\n".join(lines)
    for name, text in {
        "no end of line": plain,
        "windows": plain.replace("\n", "\r\n") + "\r\n",
        "old mac": plain.replace("\n", "\r") + "\r",
        "byte order mark": "\ufeff" + plain,
        "blank lines at the end": plain + "\n\n\n",
        "a blank line in the middle": "\n".join([*lines[:5], "", *lines[5:]]),
        "spaces around": "\n".join(f"  {line} " for line in lines),
        "plus signs": "\n".join(f"+{line}" for line in lines),
        "quoted": "\n".join(f'"{line}"' for line in lines),
        "a column that counts": "\n".join(f"{k},{line}" for k, line in enumerate(lines)),
    }.items():
        file = put(f"fine {name}.txt".replace(" ", "_"), text)
        yield Command(f"labels with {name}", [*arrays, "--labels", file], codes=(0,), check=right(truth))
    for name, text in {
        "one too few": "\n".join(lines[:-1]),
        "one too many": "\n".join([*lines, "0"]),
        "floats": "\n".join(f"{k}.5" for k in truth),
        "three columns": "\n".join(f"a{k}.png,{line},{line}" for k, line in enumerate(lines)),
        "nothing": "",
        "a header only": "label\n",
        "an open quote": '"' + plain,
        "a quote in the middle": plain.replace("2", '"2', 1),
        "a number beyond int64": plain + "\n99999999999999999999",
        "a class beyond the model's": "\n".join([*lines[:-1], "5"]),
        "a negative class": "\n".join([*lines[:-1], "-1"]),
        "a long line": "\n".join([*lines[:-1], "1" * 200_000]),
        "NUL": plain + "\n\0",
        "semicolons": "\n".join(f"a{k}.png;{line}" for k, line in enumerate(lines)),
        "tabs": "\n".join(f"a{k}.png\t{line}" for k, line in enumerate(lines)),
        "comments": "# made by hand\n" + plain,
    }.items():
        file = put(f"bad {name}.txt".replace(" ", "_"), text)
        yield Command(f"labels with {name}", [*arrays, "--labels", file], says="label")
    (folder / "latin.txt").write_bytes(plain.encode() + b"\n\xff\n")
    yield Command("labels that are not UTF-8", [*arrays, "--labels", "latin.txt"], says="UTF-8")

    for name, values in {
        "float": np.array(truth, np.float32),
        "half": np.array(truth) + 0.5,
        "bool": np.array(truth, bool),
        "text": np.array(lines),
        "rows": np.array(truth)[:, None],
        "one_hot": np.eye(5, dtype=np.int64)[truth],
        "complex": np.array(truth, complex),
        "short": np.array(truth[:-1]),
        "long": np.array([*truth, 0]),
        "unsigned": np.array(truth, np.uint64) + np.uint64(2**63),
        "scalar": np.array(3),
    }.items():
        np.save(folder / f"l_{name}.npy", values)
        yield Command(f"labels as {name} array", [*arrays, "--labels", f"l_{name}.npy"], says="label|array")
        limited = [*arrays, "--labels", f"l_{name}.npy", "--limit", "6"]
        yield Command(f"labels as {name} array, limited", limited, says="label|array")

    # images by name
    images = folder / "flat"
    images.mkdir()
    for k in range(count):
        Image.new("RGB", (8, 8), (20 * k, 255 - 20 * k, 5 * k)).save(images / f"{k:03d}.png")
    (folder / "p.json").write_text('{"resize": "exact", "size": [8, 8], "scale": 0.01}')
    base = ["compare", "m.onnx", "qd.onnx", "--preprocess", "p.json", "-o", "report", "--metric", "metric.py:seen"]
    flat = [*base, "--data", "flat"]
    rows = [f"{k:03d}.png,{line}" for k, line in enumerate(lines)]
    for k, header in enumerate(PAIR_HEADERS):
        file = put(f"pairs{k}.csv", "\n".join([header, *rows]))
        yield Command(f"header {header!r}", [*flat, "--labels", file], codes=(0,), check=right(truth))
    turned = put("turned.csv", "\n".join(",".join(reversed(row.split(","))) for row in rows))
    yield Command(
        "file labels with the columns changed over", [*flat, "--labels", turned], codes=(0,), check=right(truth)
    )
    for name, text in {
        "a file twice": "\n".join([*rows, rows[0]]),
        "three columns": "\n".join(f"{row},{row[:3]}" for row in rows),
        "a file missing": "\n".join(rows[1:]),
        "one column in one line": "\n".join([*rows[:-1], "3"]),
        "no label": "\n".join(row.split(",")[0] + "," for row in rows),
        "float labels": "\n".join(row + ".5" for row in rows),
        "a first line of data that is no number": "\n".join(["000.png,one", *rows[1:]]),
    }.items():
        file = put(f"bad {name}.csv".replace(" ", "_"), text)
        yield Command(f"file labels with {name}", [*flat, "--labels", file], says="label|line")
    shuffled = put("shuffled.csv", "\n".join(reversed(rows)))
    yield Command("rows in another order", [*flat, "--labels", shuffled], codes=(0,), check=right(truth))
    yield Command(
        "one per line for a flat folder", [*flat, "--labels", "fine_windows.txt"], codes=(0,), check=right(truth)
    )
    short = [*flat, "--labels", "bad_one_too_few.txt", "--limit", "5"]
    yield Command("one line too few for a flat folder, limited", short, says="label")

    # the same name in two folders, numbers that sort otherwise
    for name in ("one", "two"):
        (folder / "same" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "same" / name / "a.png")
    same = [*base, "--data", "same"]
    yield Command("one row for two files of one name", [*same, "--labels", put("same.csv", "a.png,1\n")], says="a.png")
    yield Command("one per line for class folders", [*same, "--labels", put("two.txt", "1\n0\n")], says="label")
    both = put("both.csv", "one/a.png,1\ntwo/a.png,0\n")
    yield Command(
        "file labels for class folders", [*same, "--labels", both], codes=(0,), check=right([1, 0]), says="class folder"
    )
    (folder / "unpadded").mkdir()
    for k in range(count):
        Image.new("RGB", (8, 8), (20 * k, 0, 0)).save(folder / "unpadded" / f"img{k}.png")
    unpadded = [*base, "--data", "unpadded", "--labels", "fine_windows.txt"]
    yield Command("one per line for img0, img1, img10, img2", unpadded, says="order")

    # other commands that read labels
    quantlab.calibrate(proto, [{"image": coloured(count)}]).save(folder / "t.json")
    for file in ("first0.txt", "bad_floats.txt", "bad_three_columns.txt", "l_half.npy", "l_long.npy"):
        argv = ["sensitivity", "m.onnx", "--table", "t.json", "--data", "x.npy", "--labels", file, "-o", "s.json"]
        yield Command(f"sensitivity with {file}", argv, says="label")
