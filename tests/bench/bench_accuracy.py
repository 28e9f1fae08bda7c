"""SQNR of the logits: quantlab's algorithms against ONNX Runtime and ModelOpt, same images, same judge.

    python tests/bench/bench_accuracy.py [DATA] [--peers PYTHON] [--only NAME] [-o FILE.json]

Every Q/DQ model runs on ONNX Runtime with graph optimisation off. See tests/bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import quantlab
from quantlab.api import calibrate_all
from quantlab.data import ArrayBatches, ImageBatches, read_arrays
from quantlab.data.folder import image_files
from quantlab.data.sample import PARTS, sample_batches, sample_folder
from quantlab.observers import OBSERVERS
from quantlab.onnx_model import input_specs, load_model
from quantlab.tune import calibrate_auto

PEERS = ("nvidia-modelopt[onnx]==0.47.0", "torch", "onnxruntime")


@dataclass(frozen=True)
class Case:
    model: Path
    calibration: ArrayBatches
    test: ArrayBatches

    @property
    def input(self) -> str:
        return input_specs(load_model(self.model))[0].name


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

    return Case(data / "models" / "efficientnet_lite0.onnx", part(slice(0, 240, 2)), part(slice(0, None)))


def cases(data: Path | None) -> dict[str, Case]:
    found = {"sample": sample_case()}
    if data is not None:
        found |= {"resnet20": resnet20_case(data), "efficientnet_lite0": efficientnet_case(data)}
    return found


def peers_python(given: Path | None) -> Path:
    """The interpreter of the peers' environment, made here if none is given."""
    if given is not None:
        return given
    folder = Path(".venv-peers")
    if not (folder / "done").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", *PEERS], check=True)
        (folder / "done").touch()
    return folder / "bin" / "python"


def measure(case: Case, python: Path) -> dict[str, dict[str, float | None]]:
    """Model name -> SQNR in dB and top-1."""
    run = calibrate_all(case.model, case.calibration, OBSERVERS)
    tables = dict(run.tables) | {"auto": calibrate_auto(case.model, case.calibration).table}
    everything = quantlab.Selection(include=("*",))  # as the peers do, whether or not INT8 pays
    quantized = {name: quantlab.quantize(case.model, table, selection=everything) for name, table in tables.items()}
    for name in ("auto", "mse"):
        quantized[f"{name}+bias"] = quantlab.correct_bias(case.model, quantized[name], case.calibration)
    models = {f"quantlab-{name}": result.model for name, result in quantized.items()}
    with tempfile.TemporaryDirectory() as folder:
        x = np.concatenate([b[case.input] for b in case.calibration])
        batch = max(b for b in range(1, 17) if len(x) % b == 0)  # a short last one stops ONNX Runtime's entropy
        np.savez(Path(folder) / "calib.npz", **{case.input: x.reshape(-1, batch, *x.shape[1:])})
        copy = shutil.copy(case.model, Path(folder) / "given.onnx")  # ModelOpt writes into the file it is given
        results = Path(folder) / "results"
        results.mkdir()
        command = [str(python), str(Path(__file__).with_name("peers.py")), str(copy)]
        subprocess.run([*command, f"{folder}/calib.npz", str(results)], check=True, stdout=sys.stderr)
        models |= {file.stem: onnx.load(file) for file in sorted(results.glob("*.onnx"))}
    result = quantlab.compare(case.model, models, case.test)
    return {r.name: {"sqnr_db": r.worst_sqnr_db, "top1": r.top1} for r in result.results[1:]} | {
        "fp32": {"sqnr_db": None, "top1": result.fp32.top1}
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--peers", type=Path, help="Python of an environment that has the peers.")
    parser.add_argument("--only", help="One of sample, resnet20, efficientnet_lite0.")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    python = peers_python(arguments.peers)
    results = {n: measure(c, python) for n, c in cases(arguments.data).items() if arguments.only in (None, n)}
    for name, rows in results.items():
        print(f"\n{name}")
        for model, row in sorted(rows.items(), key=lambda item: -(item[1]["sqnr_db"] or 999)):
            sqnr = "" if row["sqnr_db"] is None else f"{row['sqnr_db']:8.2f} dB"
            print(f"  {model:28s} {sqnr:11s} top-1 {row['top1']:.4f}")
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
