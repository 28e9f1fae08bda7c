"""From a PyTorch module to an engine: ResNet-18 with made-up weights, in two steps that need not share an interpreter.

    python torch_to_engine.py export FOLDER [--exporter dynamo]   # PyTorch, torchvision: Q/DQ model, outputs
    python torch_to_engine.py engine FOLDER [--level 1]           # TensorRT and a GPU: engines against those

Both print what they measured as JSON: SQNR in dB of each output against the others, latency in ms.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

SIZE = 224


def sqnr_db(wanted: Any, found: Any) -> float:
    noise = np.square(wanted - found, dtype=np.float64).sum()
    return float(10 * np.log10(np.square(wanted, dtype=np.float64).sum() / noise)) if noise else float("inf")


def export(folder: Path, exporter: Any, batch: int) -> dict[str, Any]:
    """The module, its Q/DQ model, and what module, fake-quantized module and Q/DQ model compute."""
    import torch
    import torchvision

    import quantlab.torch
    from quantlab.ort import Session

    torch.manual_seed(0)
    module = torchvision.models.resnet18(weights=None).train()
    with torch.no_grad():  # statistics of BatchNorm from data: with those that it is made with, activations explode
        for _ in range(8):
            module(torch.randn(16, 3, SIZE, SIZE))
    module.eval()
    images = torch.randn(4 * batch, 3, SIZE, SIZE)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size=batch)
    result = quantlab.torch.quantize(module, loader, "entropy", exporter=exporter)
    result.save(folder / "resnet18.qdq.onnx")
    result.exported.save(folder / "resnet18.onnx")
    fake, test = result.fake_quantized(), torch.randn(2 * batch, 3, SIZE, SIZE)
    with torch.no_grad():
        found = {name: np.concatenate([net(x).numpy() for x in test.split(batch)]) for name, net in
                 (("fp32", module), ("fake", fake))}  # fmt: skip
    session = Session(result.model, optimize=False)
    found["qdq"] = np.concatenate([session.run({"x": x.numpy()})["output"] for x in test.split(batch)])
    np.savez(folder / "outputs.npz", x=test.numpy(), **found)
    return {"torch": torch.__version__, "exporter": exporter, "pairs": len(result.placement.tensors)} | {
        f"{b} to {a}": sqnr_db(found[a], found[b]) for a, b in (("fp32", "qdq"), ("fp32", "fake"), ("qdq", "fake"))
    }


def engine(folder: Path, level: int, batch: int) -> dict[str, Any]:
    """Engines of the Q/DQ model and of the float one, against what was exported."""
    from quantlab.engines.bench import BenchOptions
    from quantlab.engines.measure import bench
    from quantlab.engines.options import BuildOptions, Profile
    from quantlab.onnx_model import load_model
    from quantlab.trt import open_runtime

    runtime, cache = open_runtime(), folder / "timing.cache"
    with np.load(folder / "outputs.npz") as stored:
        values = dict(stored)
    x = values.pop("x")
    profile = Profile(*({"x": (n, 3, SIZE, SIZE)} for n in (1, batch, batch)))
    engines = {
        name: runtime.build(
            load_model(folder / file),
            BuildOptions(precision, (profile,), timing_cache=cache, optimization_level=level),
        )
        for name, file, precision in (("fp16", "resnet18.onnx", "fp16"), ("int8", "resnet18.qdq.onnx", "best"))
    }
    facts: dict[str, Any] = {}
    for name, built in engines.items():
        with runtime.open(built) as run:
            got = np.concatenate([run({"x": x[k : k + batch]})["output"] for k in range(0, len(x), batch)])
        facts |= {f"{name} engine to {other}": sqnr_db(value, got) for other, value in values.items()}
    rows = bench(runtime, engines, {"x": x[:batch]}, BenchOptions(cuda_graph=True, transfers=False))
    return facts | {f"{row.name} ms": row.p50_ms for row in rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["export", "engine"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--exporter", choices=["torchscript", "dynamo"], default="torchscript")
    parser.add_argument("--level", type=int, default=1, help="of the builder")
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.step == "export":
        print(json.dumps(export(given.folder, given.exporter, given.batch), indent=1))
    else:
        print(json.dumps(engine(given.folder, given.level, given.batch), indent=1))
