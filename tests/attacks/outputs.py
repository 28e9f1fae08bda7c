"""Every output of every command, named as each of its inputs and as its other outputs, in every spelling."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import onnx
from attack import Attack, Command
from output_cases import ALSO, CASES, IN_FOLDERS, NAMES, prepare
from PIL import Image

from models import conv_net

SPELLINGS = ("same", "dot", "up", "absolute", "link", "link to a link", "folder link", "hard link")


def FAMILY(folder: Path) -> Iterator[Attack]:
    inputs = prepare(folder)
    yield from replaced_inputs(folder, inputs)
    yield from one_output_twice(inputs)
    yield from in_folders()
    yield from neighbours(folder)
    yield from inside_the_data(folder)


def replaced_inputs(folder: Path, inputs: dict[str, Path]) -> Iterator[Attack]:
    """Every output x every input x every spelling."""
    for case, text in CASES.items():
        words = text.split()
        for at, word in enumerate(words):
            for option, taken in inputs_of(words) if word.startswith("<") else ():
                names = NAMES.get(case, NAMES.get(case.split()[0], ())) if word == "<folder>" else (f"in{word[1:-1]}",)
                suffix = inputs[taken].suffix
                name = next((n for n in names if Path(n).suffix == suffix), names[0])
                if word == "<folder>" and Path(name).suffix != suffix and not fits(taken, suffix, Path(name).suffix):
                    continue  # nothing of that suffix is written there
                if not fits(taken, suffix, Path(name).suffix):
                    name = inputs[taken].name
                for spelling in SPELLINGS:
                    if word == "<folder>" and spelling in ("dot", "link to a link"):
                        continue
                    output, prepare = as_output(folder, name, spelling, word, inputs[taken])
                    argv = [case.split()[0], *ALSO.get(case, ())]
                    for k, other in enumerate(words):
                        suffix_of_other = "" if other == "<folder>" else other[1:-1]
                        given = (
                            f"d/{name}"
                            if other == option
                            else inputs[next(inputs_of([other]))[1]].name
                            if ("{" in other)
                            else ""
                        )
                        argv.append(
                            output if k == at else f"fresh{k}{suffix_of_other}" if other.startswith("<")
                            else filled(other, given)
                        )  # fmt: skip
                    yield Command(f"{case}: {word} is {taken}, {spelling}", argv, says=REFUSED, prepare=prepare)


def filled(word: str, name: str) -> str:
    """A word with the name of its file."""
    return f"{word.split('{')[0]}{name}{word.split('}')[1]}" if "{" in word else word


REFUSED = "is the input|come and go|is one of the inputs|are one file|would replace the input"


def fits(taken: str, suffix: str, wanted: str) -> bool:
    """Whether an input can be given under another suffix."""
    by_suffix = {"x", "x2", "z", "lz", "pixels", "s", "l"}
    return suffix == wanted or (taken not in by_suffix)


def inputs_of(words: list[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        if "{" in word:
            yield word, word.split("{")[1].split("}")[0]


def as_output(folder: Path, name: str, spelling: str, word: str, source: Path) -> tuple[str, Callable[[Path], object]]:
    """How the output is written, and what makes that place of the input in the folder of the attack."""
    written = name if spelling != "absolute" else str(folder / "d" / name)
    if word == "<folder>":
        written = {"absolute": str(folder / "d"), "up": "d/sub/..", "folder link": "here/d", "same": "d"}.get(
            spelling, "d/out"
        )
    elif spelling != "absolute":
        stem, dot, suffix = name.rpartition(".")
        other = {"dot": f"./{name}", "up": f"sub/../{name}", "folder link": f"here/{name}", "same": name}
        written = f"d/{other.get(spelling, f'{stem}-2{dot}{suffix}')}"

    def prepare(copy: Path) -> None:
        (copy / "d" / "sub").mkdir(parents=True)
        shutil.copy(copy / source.name, copy / "d" / name)
        if source.suffix == ".engine":
            shutil.copy(copy / f"{source.name}.json", copy / "d" / f"{name}.json")
        if word == "<folder>":
            (copy / "d" / "out").mkdir()
            os.symlink(".", copy / "here")
            other, target = copy / "d" / "out" / name, f"../{name}"
        else:
            os.symlink(".", copy / "d" / "here")
            other, target = copy / written, name
        if spelling == "hard link":
            os.link(copy / "d" / name, other)
        elif spelling == "link to a link":
            os.symlink(target, copy / "d" / "between")
            os.symlink("between", other)
        elif spelling == "link":
            os.symlink(target, other)

    return written, prepare


def one_output_twice(inputs: dict[str, Path]) -> Iterator[Attack]:
    """Two outputs of a command, one name or names that differ in case alone."""
    for case, text in CASES.items():
        words = text.split()
        places = [k for k, word in enumerate(words) if word.startswith("<") and word != "<folder>"]
        for first in places:
            for second in [k for k in places if k > first]:
                for how, other in (("same", "one.json"), ("dot", "./one.json"), ("case", "ONE.json")):
                    argv = [case.split()[0]]
                    for k, word in enumerate(words):
                        for key, path in inputs.items():
                            word = word.replace(f"{{{key}}}", path.name)
                        argv.append(
                            "one.json" if k == first else other if k == second else f"f{k}{word[1:-1]}"
                            if word.startswith("<") else word
                        )  # fmt: skip
                    yield Command(f"{case}: outputs {first} and {second}, {how}", argv)


def in_folders() -> Iterator[Attack]:
    """Every file of a folder of results, named as another output or as an input, new and old."""
    inputs = {
        "compare": ("--labels", "--classes", "--calibration", "--baseline", "--preprocess", "--plugins"),
        "ptq": ("--labels", "--classes", "--calibration", "--preprocess", "--plugins", "--config"),
        "tune": ("--labels", "--classes", "--preprocess", "--plugins", "--latency-table"),
        "demo": (),
    }
    for line, names in IN_FOLDERS.items():
        command, *rest = line.split()
        files = [] if command == "demo" else ["m.onnx", "--data", "x.npy"]
        if command == "compare":
            files += ["--calibration", "x2.npy", "--backends", "ort:qdq:mse"] if "--winner" in line else ["q.onnx"]
        argv = [command, *files, *rest]
        for name in names:
            there = partial(_put, name=f"d/{name}")
            for option in ("--log-file",) if command == "demo" else ("--log-file", "--timing-cache"):
                says = "are one file|does nothing|come and go"
                yield Command(f"{line}: {option} is its {name}", [*argv, option, f"d/{name}"], says=says)
            for option in inputs[command]:
                if (option, name) in (("--config", "ptq.toml"), ("--preprocess", "preprocess.json")):
                    continue  # of a run that is repeated in its own folder
                if "--calibration" in argv and option == "--calibration":
                    continue
                yield Command(
                    f"{line}: {option} is its {name}", [*argv, option, f"d/{name}"], says=REFUSED, prepare=there
                )


def _put(copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_text('batch-size = "2"\n')  # a configuration too


def neighbours(folder: Path) -> Iterator[Attack]:
    """Files that stand beside an input or an output without being named."""
    onnx.save(
        conv_net(), folder / "big.onnx", save_as_external_data=True, location="big.onnx.data", size_threshold=0
    )  # fmt: skip
    onnx.save(conv_net(), folder / "moved.onnx", save_as_external_data=True, location="w.json", size_threshold=0)
    (folder / "out.engine.json").write_text('{"width": 8, "height": 8}')
    (folder / "new.cache.json").write_text('{"width": 8, "height": 8}')
    shutil.copy(folder / "x.npy", folder / "e3.engine.npy")
    os.link(folder / "w.json", folder / "hard.json")
    os.symlink("w.json", folder / "soft.json")
    for output in ("w.json", "hard.json", "soft.json", "./w.json"):
        yield Command(
            f"calibrate: weights beside the model, {output}",
            ["calibrate", "moved.onnx", "--data", "x.npy", "-o", output], says=REFUSED,
        )  # fmt: skip
    yield Command(
        "quantize: weights beside the model",
        ["quantize", "big.onnx", "--table", "t.json", "-o", "q2.onnx", "--placement", "big.onnx.data"], says=REFUSED,
    )  # fmt: skip
    yield Command(
        "quantize: weights of the output are the placement",
        ["quantize", "m.onnx", "--table", "t.json", "-o", "q2.onnx", "--placement", "q2.onnx.data"], says=REFUSED,
    )  # fmt: skip
    yield Command(
        "compare: weights of the second model",
        ["compare", "m.onnx", "moved.onnx", "--data", "x.npy", "--timing-cache", "w.json", "-o", "r"], says=REFUSED,
    )  # fmt: skip
    yield Command("run: record of the engine", ["run", "e.engine", "--data", "x.npy", "-o", "e.engine.json"])
    yield Command("audit: record", ["audit", "e.engine", "m.onnx", "-o", "e.engine.json"], says=REFUSED)
    yield Command("bench: record", ["bench", "e.engine", "-o", "e.engine.json"], says=REFUSED)
    yield Command(
        "build: the record of the output is the preprocess",
        ["build", "m.onnx", "--int8", "--data", "pixels.npy", "--preprocess", "out.engine.json", "-o", "out.engine"],
        says=REFUSED,
    )  # fmt: skip
    yield Command(
        "build: the record of the cache is the preprocess",
        ["build", "m.onnx", "--int8", "--data", "pixels.npy", "--preprocess", "new.cache.json", "--cache", "new.cache",
         "-o", "out2.engine"],
        says=REFUSED,
    )  # fmt: skip
    for words in (["--cache", "a.engine.json"], ["--timing-cache", "a.engine.json"], ["--cache", "a.engine"]):
        yield Command(
            f"build: {words}",
            ["build", "m.onnx", "--int8", "--data", "x.npy", *words, "-o", "a.engine"], says=REFUSED,
        )  # fmt: skip


def inside_the_data(folder: Path) -> Iterator[Attack]:
    """Images of the data, by any name, and new files that the next run would take for images."""
    for name in ("imgs/a/0.png", "imgs/a/1.png", "imgs/b/2.png", "imgs/b/3.png", "elsewhere/4.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (len(name), 9, 9)).save(path)
    os.symlink("../../elsewhere/4.png", folder / "imgs/b/4.png")
    os.link(folder / "imgs/a/0.png", folder / "twin.png")
    os.symlink("imgs", folder / "photos")
    (folder / "imgs/table.png").write_bytes((folder / "t.json").read_bytes())
    (folder / "imgs8.json").write_text('{"width": 8, "height": 8}')
    images = ["--data", "imgs", "--preprocess", "p.json"]
    plot = ["sensitivity", "m.onnx", "--table", "t.json", *images, "-o", "s.json", "--plot"]
    for output in ("imgs/a/0.png", "photos/a/0.png", "twin.png", "elsewhere/4.png", "imgs/a/../b/2.png"):
        yield Command(f"sensitivity: plot over {output}", [*plot, output], says=REFUSED)
    for output in ("imgs/a/new.png", "photos/b/new.svg", "imgs/new.png"):
        yield Command(
            f"sensitivity: plot among the images, {output}", [*plot, output], says="is in the data|data folder"
        )
    placement = ["quantize", "m.onnx", "--table", "t.json", "--correct-bias", *images, "-o", "n.onnx", "--placement"]
    for output in ("imgs/a/0.png", "twin.png", "elsewhere/4.png"):
        yield Command(f"quantize: placement over {output}", [*placement, output], says=REFUSED)
    (folder / "list.txt").write_text("imgs/a/0.png\nelsewhere/4.png\n")
    (folder / "own.py").write_text("from quantlab.observers import MinMaxObserver as Mine\n")
    listed = ["calibrate", "m.onnx", "--data", "list.txt", "--preprocess", "p.json", "-o", "n.json", "--log-file"]
    for output in ("imgs/a/0.png", "photos/a/0.png", "twin.png", "elsewhere/4.png", "list.txt"):
        yield Command(f"calibrate: a log over the listed {output}", [*listed, output], says=REFUSED)
    for words in (
        ["calibrate", "m.onnx", "--data", "x.npy", "--algorithm", "own.py:Mine", "-o", "n.json"],
        ["check-data", "m.onnx", "--data", "x.npy", "--algorithm", "./own.py:Mine"],
        ["merge", "t.json", "--algorithm", "own.py:Mine", "-o", "n.json"],
        ["compare", "m.onnx", "--data", "x.npy", "--calibration", "x2.npy", "--backends",
         "ort:qdq:mse,ort:qdq:own.py:Mine", "-o", "n"],
    ):  # fmt: skip
        yield Command(f"{words[0]}: a log over the algorithm", [*words, "--log-file", "own.py"], says=REFUSED)
    for command in (["tune", "m.onnx", "--table", "t.json", "--latency-table", "t2.json"],):
        yield Command("tune: a picture among the images", [*command, *images, "-o", "imgs"], says="data")
