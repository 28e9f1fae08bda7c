"""A zoo of ONNX models that makes itself: exported from PyTorch with seeded weights, nothing is downloaded.

    python zoo.py FOLDER [--only NAME ...] [--again]

Per model FOLDER gets NAME.onnx (a skeleton, see skeleton.py), NAME.json (quantlab's table of all tensors),
NAME.modelopt.onnx (ModelOpt's Q/DQ model of the same weights, a skeleton too) or NAME.modelopt.txt (why there is none).
What is there already is left. ModelOpt's model is for latency only: its integer weights are made up.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import skeleton
from zoo_registry import ZOO, Bert, seeded, torch

HERE = Path(__file__).resolve().parent
LIMITS = {"export": 300, "table": 300, "modelopt": 360}
"""Seconds of each step, in a process of its own."""


def export(name: str, folder: Path) -> None:
    """Write NAME.onnx."""
    entry = ZOO[name]
    net, inputs = seeded(name, entry)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(scratch) / "model.onnx"
        more: dict[str, Any] = {"external_data": False} if entry.dynamo else {}
        torch.onnx.export(
            net, tuple(inputs.values()), path, input_names=list(inputs), opset_version=entry.opset, dynamo=entry.dynamo,
            **more,
        )  # fmt: skip
        model = onnx.load(path)
    write(skeleton.strip(model), folder / f"{name}.onnx")


def table(name: str, folder: Path, python: str) -> None:
    """Write NAME.json: the min-max of every tensor over one made-up batch, for the filled model."""
    with tempfile.TemporaryDirectory() as scratch:
        model, data, out = Path(scratch) / f"{name}.onnx", Path(scratch) / "batch.npz", Path(scratch) / f"{name}.json"
        stripped = onnx.load(folder / f"{name}.onnx")
        write(skeleton.fill(stripped), model)
        batch: dict[str, Any] = skeleton.made_up_batch(stripped, 0)
        np.savez(data, **batch)
        ask(python, "calibrate", model, "--data", data, "--algorithm", "minmax", "--tensors", "all", "-o", out)
        move(out, folder / f"{name}.json")
        # the table has to fit the model, whose weights come back from the skeleton
        ask(python, "quantize", model, "--table", folder / f"{name}.json", "-o", Path(scratch) / "qdq.onnx")


def ask(python: str, *arguments: str | Path) -> None:
    """Run quantlab's command line; RuntimeError with its last line if it fails."""
    command = [python, "-m", "quantlab", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(arguments[1]).parent)
    if done.returncode:
        print(done.stderr)
        raise RuntimeError(f"quantlab {arguments[0]}: {(done.stderr.strip() or 'crashed').splitlines()[-1]}")


def modelopt(name: str, folder: Path) -> None:
    """Write NAME.modelopt.onnx, or NAME.modelopt.txt if it fails."""
    from modelopt.onnx.quantization import quantize

    with tempfile.TemporaryDirectory() as scratch:
        model, out = Path(scratch) / f"{name}.onnx", Path(scratch) / f"{name}.modelopt.onnx"
        base = onnx.load(folder / f"{name}.onnx")
        write(skeleton.fill(base), model)
        quantize(
            str(model), quantize_mode="int8", calibration_data=skeleton.made_up_batch(base, 0),
            calibration_method="max", output_path=str(out), high_precision_dtype="fp32", calibration_eps=["cpu"],
        )  # fmt: skip
        write(skeleton.strip(onnx.load(out), base), folder / f"{name}.modelopt.onnx")
    (folder / f"{name}.modelopt.txt").unlink(missing_ok=True)


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write a model file that is never seen half written."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(model.SerializeToString(deterministic=True))
    partial.replace(path)


def move(source: Path, target: Path) -> None:
    """Move a file from another file system, never seen half written."""
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(source.read_bytes())
    partial.replace(target)


def step(kind: str, name: str, folder: Path, python: str) -> str:
    """Run one step in a process of its own, so that a crash or a hang does not stop the rest; what came of it."""
    target = folder / {"export": f"{name}.onnx", "table": f"{name}.json", "modelopt": f"{name}.modelopt.onnx"}[kind]
    if target.exists():
        return "there"
    started = time.perf_counter()
    command = [sys.executable, __file__, str(folder), "--only", name, "--step", kind, "--quantlab", python]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMITS[kind])
        failed, said = done.returncode != 0, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        failed, said = True, f"no result after {LIMITS[kind]} s"
    took = f"{time.perf_counter() - started:.0f} s"
    if not failed:
        return f"ok {took}"
    lines = [line for line in said.splitlines() if line.strip()] or ["crashed without a word"]
    (folder / f"{name}.{kind}.txt").write_text("\n".join([lines[-1], *lines[-25:]]) + "\n")
    return f"FAILED {took}: {lines[-1][:160]}"


def facts(name: str, folder: Path) -> str:
    """One row of the closing table."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        return f"| {name} | no export |"
    model = onnx.load(path)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    count = sum(int(np.prod(t.dims)) for t in model.graph.initializer)
    peer = folder / f"{name}.modelopt.onnx"
    why = folder / f"{name}.modelopt.txt"
    came = "none"
    if peer.exists():
        quantized = onnx.load(peer)
        pairs = sum(n.op_type == "QuantizeLinear" for n in quantized.graph.node)
        version = next(o.version for o in quantized.opset_import if o.domain in ("", "ai.onnx"))
        came = f"{pairs} QuantizeLinear, opset {version}, {peer.stat().st_size / 1024:.0f} KiB"
    elif why.exists():
        came = f"failed: {why.read_text().splitlines()[0][:200]}"
    kind = "dynamo" if ZOO[name].dynamo else "TorchScript"
    shape = "x".join(map(str, ZOO[name].shape or (Bert.BATCH, Bert.LENGTH)))
    ranges = "yes" if (folder / f"{name}.json").exists() else "no"
    size = f"{path.stat().st_size / 1024:.0f} KiB"
    nodes = len(model.graph.node)
    return f"| {name} | {shape} | {kind} | {opset} | {nodes} | {count / 1e6:.2f} M | {size} | {ranges} | {came} |"


def main() -> None:
    """See the top of the file."""
    repository = HERE.parents[1] / ".venv" / "bin" / "python"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", default=list(ZOO), metavar="NAME", choices=list(ZOO))
    parser.add_argument("--again", action="store_true", help="make also what is there")
    parser.add_argument("--list", action="store_true", help="make nothing, say what is there")
    parser.add_argument("--quantlab", default=str(repository), help="the interpreter that has quantlab")
    parser.add_argument("--step", choices=list(LIMITS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if options.step:
        torch.set_num_threads(2)
        try:
            steps: dict[str, Callable[[str], None]] = {
                "export": lambda name: export(name, folder),
                "table": lambda name: table(name, folder, options.quantlab),
                "modelopt": lambda name: modelopt(name, folder),
            }
            steps[options.step](options.only[0])
        except Exception as error:
            traceback.print_exc()
            sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
        return
    for name in options.only if not options.list else []:
        if options.again:
            for suffix in ("onnx", "json", "modelopt.onnx", "modelopt.txt", "export.txt", "table.txt"):
                (folder / f"{name}.{suffix}").unlink(missing_ok=True)
        for kind in LIMITS:
            print(f"{name} {kind}: {step(kind, name, folder, options.quantlab)}", flush=True)
            if not (folder / f"{name}.onnx").exists():
                break
    print("| model | input | exporter | opset | nodes | parameters | skeleton | table | ModelOpt |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.only:
        print(facts(name, folder))


if __name__ == "__main__":
    main()
