"""`quantlab bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_types import NAMED, OUTPUT
from quantlab.cli.options import DATA_DETAILS, named_paths, open_source, optional_data_options, refuse_idle
from quantlab.cli.say import echo
from quantlab.cli.tables import Table, print_table
from quantlab.cli.trt_options import parse_shapes
from quantlab.cli.trtexec_names import EngineCommand
from quantlab.errors import DataError
from quantlab.files import write_text

if TYPE_CHECKING:
    from quantlab.data import Batch
    from quantlab.engines.bench import BenchRow
    from quantlab.engines.engine import Engine
    from quantlab.engines.runtime import Runtime


@click.command("bench", cls=EngineCommand)
@click.argument("engines", nargs=-1, required=True, type=NAMED)
@click.option("--shapes", default="", help="input:64x3x32x32[,...] for dynamic shapes.  [default: profile 0's opt]")
@optional_data_options
@click.option("--warm-up", type=float, default=200.0, show_default=True, help="Milliseconds per engine.")
@click.option("--duration", type=float, default=3.0, show_default=True, help="Seconds per engine.")
@click.option("--iterations", type=int, help="Runs per engine in place of a duration.")
@click.option("--streams", type=int, default=1, show_default=True, help="Contexts at work at once, for the throughput.")
@click.option("--use-cuda-graph", is_flag=True, help="Replay a captured graph.")
@click.option("--no-data-transfers", is_flag=True, help="Do not measure the copies.")
@click.option("--dump-profile", is_flag=True, help="Also the time of every layer, in runs of their own.")
@json_option
@click.option("-o", "--output", type=OUTPUT, help="Also write the results as JSON.")
def command(engines: tuple[str, ...], shapes: str, output: Path | None, **v: Any) -> None:
    """Measure ENGINES (paths, or name=path) interleaved; the first is the base of the ratios.

    Inputs are the first batch of --data, or seeded random values: good for speed, not for accuracy. --dump-profile
    shows the time of every layer, `quantlab audit` also what it costs that a layer is not in INT8.

    \b
    Example:
      quantlab bench fp16=a.engine int8=b.engine --use-cuda-graph
    """
    from quantlab.cli.engine_runtime import runtime
    from quantlab.engines.bench import BenchOptions
    from quantlab.engines.engine import Engine
    from quantlab.engines.jobs import bench_engines

    if v["iterations"] is not None:
        refuse_idle(["duration"], "--iterations say how long is measured")
    options = BenchOptions(
        v["warm_up"], v["duration"], v["iterations"], streams=v["streams"],
        cuda_graph=v["use_cuda_graph"], transfers=not v["no_data_transfers"], layers=v["dump_profile"],
    )  # fmt: skip
    chosen = parse_shapes(shapes)
    loaded = {name: Engine.load(path) for name, path in named_paths(engines).items()}
    device = runtime()
    if v["data"] is None:
        refuse_idle(DATA_DETAILS, "there is no --data")
        batch = None
    else:
        refuse_idle(["shapes"], "the shapes are those of --data")
        batch = _first_batch(device, next(iter(loaded.values())), v)
    rows = bench_engines(device, loaded, chosen, options, batch)
    found = [row.to_dict() for row in rows]
    if v["as_json"]:
        print_json(found)
    else:
        print_table(_table(rows))
        for row in rows:
            _print_layers(row)
    if output is not None:
        write_text(output, json.dumps(found, indent=1) + "\n")


def _first_batch(device: Runtime, engine: Engine, v: dict[str, Any]) -> Batch:
    with device.open(engine) as running:
        batches = open_source([spec.name for spec in running.inputs], running.batch_size.fixed, v, None)
        for batch in batches:
            return running.batch_size.filled(batch)
    raise DataError(f"{v['data']} has no batch", hint="give at least one")


def _print_layers(row: BenchRow) -> None:
    total_ms = sum(layer.time_ms for layer in row.layers)
    if row.layers:
        echo(f"{row.result.name}: {len(row.layers)} layers, {total_ms:.4f} ms (profiled layer by layer, with gaps)")
    for layer in row.layers:
        share = layer.time_ms / total_ms if total_ms else 0.0
        nodes = ", ".join(layer.nodes) or layer.name
        echo(f"  {layer.precision:6s} {layer.time_ms:9.4f} ms {share:6.1%}  {layer.kind:18s} {nodes}")


def _table(rows: list[BenchRow]) -> Table:
    table = Table(title=f"batch {rows[0].result.batch_size}, device time in ms")
    for column in ("engine", "p50", "p99", "ratio (95 %)", "samples/s", "mJ/sample", "MiB", "engine MiB", "build s"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for r, q in ((row.result, row.ratio) for row in rows):
        energy = "–" if r.energy_mj is None else f"{r.energy_mj:.4f}"
        table.add_row(
            r.name, f"{r.p50_ms:.4f}", f"{r.p99_ms:.4f}", f"{q.ratio:.3f} ({q.low:.3f}-{q.high:.3f})",
            f"{r.samples_per_s:,.0f}", energy, f"{r.memory_mib:.0f}", f"{r.engine_mib:.1f}", f"{r.build_s:.1f}",
        )  # fmt: skip
    return table
