"""SQNR of the logits: quantlab's algorithms against those of others, same images, same judge.

    python tests/bench/bench_accuracy.py [DATA] [--zoo CACHE] [--peers PYTHON] [--only NAME] [-o FILE.json]

Every Q/DQ model runs on ONNX Runtime with graph optimisation off, on data that nothing was chosen by. See
tests/bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from references import ENVIRONMENTS, REFERENCES, SLOW

import quantlab
from quantlab.api import calibrate_all, quantize_closest
from quantlab.data import ArrayBatches, ImageBatches, read_arrays
from quantlab.data.folder import image_files
from quantlab.data.sample import PARTS, sample_batches, sample_folder
from quantlab.observers import OBSERVERS
from quantlab.onnx_model import input_specs, load_model, why_invalid
from quantlab.tune import calibrate_auto

ZOO, ZOO_SAMPLES = ("minilm", "text_direction"), 128
"""Of tests/zoo: a transformer encoder and a MobileNetV3; how many samples are made up for each part."""
PEERS = ("nvidia-modelopt[onnx]==0.47.0", "torch", "onnxruntime")


@dataclass(frozen=True)
class Case:
    model: Path
    calibration: ArrayBatches
    test: ArrayBatches


def in_memory(batches: ImageBatches) -> ArrayBatches:
    """All images preprocessed once."""
    parts = list(batches.labeled())
    x = np.concatenate([next(iter(b.values())) for b, _ in parts])
    labels = None if parts[0][1] is None else np.concatenate([y for _, y in parts if y is not None])
    return ArrayBatches({batches.input_name: x}, batch_size=batches.batch_size, labels=labels)


def sample_case() -> Case:
    return Case(sample_folder() / "model.onnx", *(in_memory(sample_batches(part)) for part in PARTS))


def resnet20_case(data: Path) -> Case:
    arrays, preset = read_arrays(data / "cifar10_jpeg.npz"), quantlab.PRESETS["cifar10"]

    def part(name: str) -> ArrayBatches:
        labels = arrays[f"{name}_labels"].astype(np.int64)
        return in_memory(ImageBatches(arrays[name], preset, input_name="input", batch_size=64, labels=labels))

    return Case(data / "models" / "resnet20_cifar10.onnx", part("calib"), part("test"))


def efficientnet_case(data: Path) -> Case:
    files = image_files(data / "imagenet_sample").files
    labels, preset = np.array([int(f.name[:4]) for f in files]), quantlab.PRESETS["imagenet-127"]

    def part(rows: slice) -> ArrayBatches:
        return in_memory(ImageBatches(files[rows], preset, input_name="input", batch_size=10, labels=labels[rows]))

    return Case(data / "models" / "efficientnet_lite0.onnx", part(slice(0, None, 2)), part(slice(1, None, 2)))


def zoo_case(name: str, cache: Path) -> Case:
    """A model of tests/zoo, on more of the data that are made up for it there."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "zoo"))
    from batches import batches
    from fetch import LISTED, fetch

    entry, model = LISTED["models"][name] | {"samples": ZOO_SAMPLES}, fetch(name, cache)

    def part(which: str) -> ArrayBatches:
        made = batches(entry, model, name, which, cache)
        return ArrayBatches({key: np.concatenate([b[key] for b in made]) for key in made[0]}, batch_size=entry["batch"])

    return Case(model, part("calibration"), part("test"))


def cases(data: Path | None, zoo: Path | None) -> dict[str, Case]:
    found = {"sample": sample_case()} | ({name: zoo_case(name, zoo) for name in ZOO} if zoo else {})
    if data is not None:
        found |= {"resnet20": resnet20_case(data), "efficientnet_lite0": efficientnet_case(data)}
    return found


def peers_python(given: Path | None) -> Path:
    """The interpreter of the peers' environment, made here if none is given."""
    return given or environment("peers", PEERS)


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment, which is made once."""
    folder = Path(f".venv-{name}")
    if not (folder / "done").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", *requirements], check=True)
        (folder / "done").touch()
    return folder / "bin" / "python"


def has_bias(model: Path) -> bool:
    """Whether a layer has one; those of MatMul are sums of their own."""
    return any(node.op_type in {"Conv", "Gemm"} for node in load_model(model).graph.node)


def measure(case: Case, python: Path) -> dict[str, dict[str, float | None]]:
    """Model name -> SQNR in dB and top-1."""
    run = calibrate_all(case.model, case.calibration, OBSERVERS)
    tables = dict(run.tables) | {"auto": calibrate_auto(case.model, case.calibration).table}
    everything = quantlab.Selection(include=("*",))  # as the peers do, whether or not INT8 pays
    quantized = {name: quantlab.quantize(case.model, table, selection=everything) for name, table in tables.items()}
    for name in ("auto", "mse") if has_bias(case.model) else ():
        quantized[f"{name}+bias"] = quantlab.correct_bias(case.model, quantized[name], case.calibration)
    quantized["closest"] = quantize_closest(case.model, case.calibration, everything).quantized
    models = {f"quantlab-{name}": result.model for name, result in quantized.items()}
    with tempfile.TemporaryDirectory() as folder:
        names = [spec.name for spec in input_specs(load_model(case.model))]
        given = {name: np.concatenate([b[name] for b in case.calibration]) for name in names}
        count = len(given[names[0]])
        batch = max(b for b in range(1, 17) if count % b == 0)  # a short last one stops ONNX Runtime's entropy
        np.savez(Path(folder) / "calib.npz", **{n: x.reshape(-1, batch, *x.shape[1:]) for n, x in given.items()})
        copy = shutil.copy(case.model, Path(folder) / "given.onnx")  # ModelOpt writes into the file it is given
        results = Path(folder) / "results"
        results.mkdir()
        runs: dict[Path, tuple[str, ...]] = {python: ("peers.py",)}
        for name, wanted in ENVIRONMENTS.items():
            runs[environment(name, wanted)] = ("references.py", *(n for n in REFERENCES[name] if n not in SLOW))
        for interpreter, (script, *some) in runs.items():
            command = [str(interpreter), str(Path(__file__).with_name(script)), str(copy), f"{folder}/calib.npz"]
            subprocess.run([*command, str(results), *some], check=True, stdout=sys.stderr)
        for file in sorted(results.glob("*.onnx")):
            if file.stem.endswith(".pre"):  # left by a peer that failed
                continue
            if reason := why_invalid(model := onnx.load(file)):
                print(f"{file.stem} is not valid ONNX: {reason.splitlines()[0]}", file=sys.stderr)
            else:
                models[file.stem] = model
    result = quantlab.compare(case.model, models, case.test)
    return {r.name: {"sqnr_db": r.worst_sqnr_db, "top1": r.top1} for r in result.results[1:]} | {
        "fp32": {"sqnr_db": None, "top1": result.fp32.top1}
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--peers", type=Path, help="Python of an environment that has the peers.")
    parser.add_argument("--zoo", type=Path, help="The cache of tests/zoo: measure some of its models too.")
    parser.add_argument("--only", help="One of sample, resnet20, efficientnet_lite0, minilm, text_direction.")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    python = peers_python(arguments.peers)
    results = {
        n: measure(c, python) for n, c in cases(arguments.data, arguments.zoo).items() if arguments.only in (None, n)
    }
    for name, rows in results.items():
        print(f"\n{name}")
        for model, row in sorted(rows.items(), key=lambda item: -(item[1]["sqnr_db"] or 999)):
            sqnr = "" if row["sqnr_db"] is None else f"{row['sqnr_db']:8.2f} dB"
            top1 = "" if row["top1"] is None else f"top-1 {row['top1']:.4f}"
            print(f"  {model:28s} {sqnr:11s} {top1}")
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
