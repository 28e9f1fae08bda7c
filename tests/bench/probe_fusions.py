"""What TensorRT fuses with what in INT8 on this GPU, and from how many channels on INT8 pays: measured, as tables.

    python tests/bench/probe_fusions.py RESULTS [--kinds NAME ...] [--channels | --readers | --isolated]

Each activation stands behind each kind of convolution twice: as it is, and with a Q/DQ pair between the two. What
`quantlab.qdq.measured` says is read off these tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import onnx
from probe_nets import KINDS, channel_net, fusion_net, isolated_net, reader_net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--channels", action="store_true", help="measure channels, not fusions")
    parser.add_argument("--isolated", action="store_true", help="measure single layers between float ones")
    parser.add_argument("--readers", action="store_true", help="measure what a second reader costs")
    parser.add_argument("--level", type=int, default=1)
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    if args.channels:
        nets = {"channels-int8": channel_net(True), "channels-fp16": channel_net(False)}
    elif args.isolated:
        nets = {"isolated-int8": isolated_net(True), "isolated-fp16": isolated_net(False)}
    elif args.readers:
        nets = {"readers-int8": reader_net()}
    else:
        nets = {f"fusions-{k}-{p}": fusion_net([k], p == "int8") for k in args.kinds for p in ("int8", "fp16")}
    for name, model in nets.items():
        measure(name, model, args.results, args.level)


def measure(name: str, model: onnx.ModelProto, results: Path, level: int) -> None:
    """Build, profile, and keep every layer that runs, by block."""
    from quantlab.engines.jobs import made_up_input
    from quantlab.engines.options import BuildOptions
    from quantlab.trt import open_runtime

    runtime = open_runtime()
    precision = "fp16" if name.endswith("fp16") else "best"
    cache = results / "timing.cache"
    engine = runtime.build(model, BuildOptions(precision, timing_cache=cache, optimization_level=level))
    batch = made_up_input(runtime, engine, {})
    inspection = runtime.inspect(engine, batch)
    rows = [{"time_us": 1000 * inspection.times_ms.get(str(r["Name"]), 0.0), **r} for r in inspection.rows]
    (results / f"{name}.layers.json").write_text(json.dumps(rows, indent=0))
    print(f"{name}: {engine.summary}, {sum(r['time_us'] for r in rows):.0f} us", flush=True)
    for block, total, layers in blocks(rows):
        print(f"{block:40s} {total:8.1f} us  {layers}", flush=True)


def blocks(rows: list[dict[str, object]]) -> Iterator[tuple[str, float, str]]:
    """(block, its microseconds, its layers)."""
    found: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        text = str(row["Name"])
        head = text.split("/")[0].split(" ")[-1].split("(")[-1]
        found.setdefault(head, []).append(row)
    for block, layers in found.items():
        parts = [f"{r.get('LayerType')} {r['time_us']:.1f}" for r in layers]
        yield block, sum(float(str(r["time_us"])) for r in layers), ", ".join(parts)


if __name__ == "__main__":
    main()
