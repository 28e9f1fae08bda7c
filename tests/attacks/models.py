"""Every command over every model of `corpus.py`: each does its work, or says which node or tensor it is about."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from attack import Attack, Command
from corpus import Case, corpus

from quantlab import calibrate, quantize
from quantlab.data import BatchSize, DataOptions, open_data
from quantlab.onnx_model import input_specs, load_model, save_model

DATA = "--data data.npz --limit 8"
COMMANDS = {
    "inspect": "inspect model.onnx",
    "placement": "inspect model.onnx --placement",
    "lint": "lint model.onnx",
    "lint-json": "lint model.onnx --json",
    "check-data": f"check-data model.onnx {DATA} --batch-size 2",
    "calibrate": f"calibrate model.onnx {DATA} --algorithm minmax -o out.json",
    "entropy-all": f"calibrate model.onnx {DATA} --tensors all -o out.cache",
    "calibrate-part": f"calibrate model.onnx {DATA} --order-independent -o out.npz",
    "auto": f"calibrate model.onnx {DATA} --batch-size 2 --algorithm auto -o out.json",
    "quantize": "quantize model.onnx --table table.json --include * --placement out.txt -o out.onnx",
    "float-weights": "quantize model.onnx --table table.json --weights per-tensor --float-weights -o out.onnx",
    "correct-bias": f"quantize model.onnx --table table.json --include * --correct-bias {DATA} -o out.onnx",
    "closest": f"quantize model.onnx --closest --include * {DATA} --batch-size 2 -o out.onnx",
    "requantize": "quantize model.onnx --requantize -o out.onnx",
    "repair": "repair model.onnx --min-sqnr -100 -o out.onnx",
    "repair-data": f"repair model.onnx {DATA} --min-sqnr -100 -o out.onnx",
    "migrate": "migrate model.onnx --table table.json -o out.onnx",
    "migrate-cache": "migrate model.onnx --table table.json -o out.cache",
    "migrate-own": "migrate model.onnx -o out.flatbuffers",
    "fp16": "fp16 model.onnx -o out.onnx",
    "fp16-io": "fp16 model.onnx --io float16 -o out.onnx",
    "fp16-qdq": "fp16 qdq.onnx -o out.onnx",
    "compare": f"compare model.onnx int8=qdq.onnx {DATA} -o out",
    "compare-self": f"compare model.onnx same=model.onnx {DATA} -o out",
    "compare-ort": f"compare model.onnx --backends ort:qdq:minmax --calibration data.npz {DATA} -o out",
    "sensitivity": f"sensitivity model.onnx --table table.json {DATA} -o out.json",
    "merge": "merge part.npz part.npz --algorithm mse -o out.json",
    "trtexec": "trtexec model.onnx",
    "build": "build model.onnx -o out.engine",
    "tune": f"tune model.onnx --table table.json {DATA} -o out",
}
"""By the name that `Case.works` has: the words of a command in the folder of a case."""
FLOW = ("calibrate", "quantize", "compare")
"""The commands that say what is peculiar about a model."""
OF_ANOTHER = ("fp16-qdq", "merge")
"""Commands that do not read the model of the case."""
MAY_FAIL = {"lint": (0, 3), "lint-json": (0, 3), "compare": (0, 3), "compare-self": (0, 3), "compare-ort": (0, 3)}
"""Exit codes of a command that has done its work; only 0 for the others."""


def prepare(case: Case, folder: Path) -> None:
    """The files of a case: with the table and the Q/DQ model that quantlab makes of it, or else those of another."""
    case.write(folder)
    os.chdir(folder)  # in a process of the pool; models and data are named from here, as by a user
    with contextlib.suppress(Exception):  # the commands say what is wrong
        proto = load_model("model.onnx")
        specs = input_specs(proto)
        size = BatchSize.of(specs)
        options = DataOptions(size.fixed or 8, axes=size.axes)
        batches = open_data("data.npz", [spec.name for spec in specs], None, options)
        table = calibrate(proto, batches, "minmax")
        table.save(Path("table.json"))
        save_model(quantize(proto, table).model, Path("qdq.onnx"))
    for name in ("table.json", "qdq.onnx"):
        if not (folder / name).exists():
            shutil.copy(folder.parent / "any" / name, folder / name)


def attacks_on(case: Case) -> Iterator[Attack]:
    """Every command on a case."""
    works = case.works.split()
    for name, words in COMMANDS.items():
        done = MAY_FAIL.get(name, (0,))
        if name in OF_ANOTHER:
            codes, says = (*done, 2), ""
        elif name in works:
            codes, says = done, case.says if name in FLOW else ""
        elif case.says and (not works or (name == "calibrate" and not set(FLOW) & set(works))):
            codes, says = (2,), case.says
        else:
            codes, says = (*done, 2), ""
        yield Command(f"{case.name}: {name}", words.split(), codes, says, within=case.name, timeout_s=60)


def _prepared(name: str, folder: Path) -> None:
    case = next(case for case in corpus() if case.name == name)
    prepare(case, folder / case.name)


def FAMILY(folder: Path) -> Iterator[Attack]:
    only = os.environ.get("MODELS", "").split()
    cases = [case for case in corpus() if not only or any(word in case.name for word in only)]
    with multiprocessing.get_context("fork").Pool() as pool:  # what forks later must not have run a network itself
        pool.apply(_any, (folder,))
        pool.starmap(_prepared, [(case.name, folder) for case in cases])
    for case in cases:
        yield from attacks_on(case)


def _any(folder: Path) -> None:
    prepare(next(case for case in corpus() if case.name == "shared_weights"), folder / "any")
