"""`quantlab audit`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from quantlab import files
from quantlab.cli.options import PATH
from quantlab.cli.trt_options import made_up_batch


@click.command("audit")
@click.argument("engine", type=PATH)
@click.argument("model", type=PATH)
@click.option("--shapes", default="", help="input:64x3x32x32[,...] for dynamic shapes.  [default: profile 0's opt]")
@click.option(
    "--min-int8", type=float, help="Share (0..1) of Conv, Gemm and MatMul nodes; below it or unknown: exit code 3."
)
@click.option("-o", "--output", type=PATH, help="Also write the audit as JSON.")
@click.pass_context
def command(
    ctx: click.Context, engine: Path, model: Path, shapes: str, min_int8: float | None, output: Path | None
) -> None:
    """Show what of MODEL really runs in INT8 in the ENGINE that was built from it.

    \b
    Example:
      quantlab audit resnet.engine resnet.onnx --min-int8 0.95
    """
    if output is not None:
        files.check_writable(output)
    from quantlab.model import load_model
    from quantlab.trt.audit import REGION, audit
    from quantlab.trt.engine import Engine
    from quantlab.trt.run import Runner

    loaded, proto = Engine.load(engine), load_model(model)
    with Runner(loaded) as runner:
        batch = made_up_batch(runner, shapes)
    result = audit(loaded, proto, batch)
    total = sum(layer.time_ms for layer in result.layers)
    click.echo(f"{len(result.layers)} layers, {total:.4f} ms")
    for layer in result.layers:
        click.echo(
            f"  {layer.precision:6s} {layer.time_ms:9.4f} ms  {layer.kind:18s} {', '.join(layer.nodes) or layer.name}"
        )
    kinds = Counter(layer.kind for layer in result.layers)
    click.echo("kinds: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    if result.int8_share is None or result.int8_time_share is None:
        click.echo("INT8: cannot be told, " + REGION.format(len(result.hidden), len(result.weighted)))
    else:
        click.echo(
            f"INT8: {sum(p == 'int8' for p in result.weighted.values())} of {len(result.weighted)} "
            f"Conv, Gemm and MatMul nodes, {result.int8_time_share:.0%} of the time"
        )
    for fallback in result.fallbacks:
        click.echo(f"  not INT8: {fallback}")
    if output is not None:
        values = asdict(result) | {"int8_share": result.int8_share, "int8_time_share": result.int8_time_share}
        files.write_text(output, json.dumps(values, indent=1) + "\n")
    if min_int8 is not None and (result.int8_share is None or result.int8_share < min_int8):
        share = "the share cannot be told" if result.int8_share is None else f"{result.int8_share:.3f} < {min_int8:g}"
        click.echo(f"below the threshold: {share}", err=True)
        ctx.exit(3)
