"""Folders of images: links, empty classes, strays, copies, frames, dead channels. Nothing moves a label in silence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from attack import Attack, Command
from PIL import Image

from models import conv_net, image_batches, quantized

METRIC = """import json, numpy as np
def seen(outputs, labels):
    open('seen.json', 'w').write(json.dumps(None if labels is None else labels.tolist()))
    return np.ones(len(outputs['logits']))
"""


def save(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, 255 - value, value // 2)).save(path)


def right(wanted: list[int] | None) -> Callable[[Path], str | None]:
    """A check that the metric has seen these labels."""

    def check(place: Path) -> str | None:
        got = json.loads((place / "seen.json").read_text())
        return None if got == wanted else f"labels {got}, wanted {wanted}"

    return check


def FAMILY(folder: Path) -> Iterator[Attack]:
    proto = conv_net()
    onnx.save(proto, folder / "m.onnx")
    onnx.save(quantized(proto, image_batches()).model, folder / "qd.onnx")
    (folder / "p.json").write_text('{"resize": "exact", "size": [8, 8], "scale": 0.01}')
    (folder / "metric.py").write_text(METRIC)

    def compare(data: str, *more: str) -> list[str]:
        base = ["compare", "m.onnx", "qd.onnx", "--preprocess", "p.json", "--metric", "metric.py:seen", "-o", "report"]
        return [*base, "--data", data, *more]

    def classes(name: str, of: dict[str, int]) -> Path:
        for k, (label, count) in enumerate(of.items()):
            (folder / name / label).mkdir(parents=True)
            for n in range(count):
                save(folder / name / label / f"{n}.png", 40 * k + n)
        return folder / name

    classes("plain", {"a": 2, "b": 2, "c": 2})
    yield Command("class folders", compare("plain"), codes=(0,), check=right([0, 1, 2] * 2))
    linked = classes("linked", {"a": 2, "c": 2})
    (classes("aside", {"b": 2}) / "b").rename(folder / "aside_b")
    (linked / "b").symlink_to(folder / "aside_b")
    yield Command("a class behind a link", compare("linked"), codes=(0,), check=right([0, 1, 2] * 2))
    files = classes("files", {"a": 1, "b": 1})
    (files / "b" / "1.png").symlink_to(folder / "plain" / "b" / "1.png")
    (files / "a" / "1.png").symlink_to(folder / "plain" / "a" / "1.png")
    yield Command("images behind links", compare("files"), codes=(0,), check=right([0, 1] * 2))
    os.symlink("plain", folder / "way")
    yield Command("the folder behind a link", compare("way"), codes=(0,), check=right([0, 1, 2] * 2))
    for name in ("dangling_file", "dangling_class"):
        at = classes(name, {"a": 2, "b": 2})
        (at / ("a/9.png" if name == "dangling_file" else "bb")).symlink_to("nowhere")
        yield Command(name, compare(name), says="link")
        yield Command(f"{name}, skipped", compare(name, "--skip-bad"), codes=(0,), says="link|folders")
    (classes("round", {"a": 2, "b": 2}) / "b" / "up").symlink_to("..")
    yield Command("a link upwards", compare("round"), says="link")
    (classes("self", {"a": 2, "b": 2}) / "b" / "x").symlink_to("x")
    yield Command("a link to itself", compare("self"), says="x")
    os.mkfifo(classes("pipe", {"a": 2, "b": 2}) / "b" / "p.png")
    yield Command("a pipe among the images", compare("pipe"), says="p.png")

    classes("empty", {"a": 2, "b": 0, "c": 2})
    yield Command("a class without images", compare("empty"), says="b has no images")
    classes("numbered", {"0_a": 2, "1_b": 0, "2_c": 2})
    yield Command("a numbered class without images", compare("numbered"), codes=(0,), check=right([0, 2] * 2))
    texts = classes("texts", {"a": 2, "b": 0, "c": 2})
    (texts / "b" / "notes.txt").write_text("x")
    yield Command("a class with texts only", compare("texts"), says="b has no images")
    save(classes("stray", {"a": 2, "b": 2}) / "stray.png")
    yield Command("an image beside the classes", compare("stray"), codes=(0,), says="stray.png", check=right(None))
    (classes("thumbs", {"a": 2, "b": 2}) / "Thumbs.db").write_bytes(b"\0" * 99)
    yield Command("what Windows leaves beside the classes", compare("thumbs"), codes=(0,), check=right([0, 1] * 2))
    (classes("other", {"a": 2, "b": 2}) / "notes.bin").write_bytes(b"\0" * 99)
    yield Command("a file beside the classes", compare("other"), says="notes.bin")
    classes("mixed_case", {"A": 1, "b": 1, "C": 1})
    yield Command("classes in two cases", compare("mixed_case"), codes=(0,), check=right([0, 1, 2]))
    (folder / "nothing").mkdir()
    yield Command("an empty folder", compare("nothing"), says="no images")
    yield Command("no folder", compare("missing"), says="does not exist")

    frames = folder / "frames"
    frames.mkdir()
    pictures = [Image.new("RGB", (8, 8), (k, 9, 9)) for k in (0, 90, 200)]
    for suffix in ("gif", "tiff", "png", "webp"):
        pictures[0].save(frames / f"x.{suffix}", save_all=True, append_images=pictures[1:])
    yield Command("images of several frames", compare("frames"), codes=(0,), says="several frames.*x.gif")
    argv = ["calibrate", "m.onnx", "--data", "frames", "--preprocess", "p.json", "-o", "o.json"]
    yield Command("calibration on several frames", argv, codes=(0,), says="several frames")
    check_data = ["check-data", "m.onnx", "--preprocess", "p.json", "--batch-size", "2"]
    for k in range(8):
        save(folder / "copies" / f"{k}.png", 30 * (k % 4))
    yield Command("copies", [*check_data, "--data", "copies"], codes=(0,), says="4 of 8 samples are copies")
    x = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    x[:, 1] = 0.5
    np.save(folder / "dead.npy", x)
    argv = ["check-data", "m.onnx", "--data", "dead.npy", "--batch-size", "2"]
    yield Command("a dead channel", argv, codes=(0,), says="channel 1 of input 'image' is 0.5")
    yield Command("a dead channel, as JSON", [*argv, "--json"], codes=(0,), says="constant")

    if os.geteuid():
        locked = classes("locked", {"a": 2, "b": 2}) / "b"
        locked.chmod(0)
        yield Command("a class that must not be read", compare("locked"), says="b")
