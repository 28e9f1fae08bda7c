"""`quantlab audit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_types import ENGINE, MODEL, OUTPUT
from quantlab.cli.options import print_warnings
from quantlab.cli.say import echo
from quantlab.cli.trt_options import parse_shapes
from quantlab.cli.trtexec_names import EngineCommand
from quantlab.errors import ConfigError
from quantlab.files import write_text

if TYPE_CHECKING:
    from quantlab.engines.audit import Audit

SHOWN = 10
"""Costs that are printed."""


@click.command("audit", cls=EngineCommand)
@click.argument("engine", type=ENGINE)
@click.argument("model", type=MODEL)
@click.option("--shapes", default="", help="input:64x3x32x32[,...] for dynamic shapes.  [default: profile 0's opt]")
@click.option(
    "--min-int8", type=float, help="Share (0..1) of Conv, Gemm and MatMul nodes; below it or unknown: exit code 3."
)
@click.option("-o", "--output", type=OUTPUT, help="Also write the audit as JSON.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, engine: Path, model: Path, shapes: str, min_int8: float | None, output: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show what of MODEL really runs in INT8 in the ENGINE that was built from it, and which layers cost needless time.

    \b
    Example:
      quantlab audit resnet.engine resnet.onnx --min-int8 0.95
    """
    from quantlab.cli.engine_runtime import runtime
    from quantlab.engines.engine import Engine
    from quantlab.engines.jobs import audit_engine
    from quantlab.onnx_model import load_model

    if min_int8 is not None and not 0 <= min_int8 <= 1:
        raise ConfigError(f"--min-int8 {min_int8} is no share", hint="0 to 1: 0.95 for 95 %")
    chosen = parse_shapes(shapes)
    loaded, proto = Engine.load(engine), load_model(model)
    audit = audit_engine(runtime(), loaded, proto, chosen)
    print_warnings([audit.other_model] if audit.other_model else [])
    if as_json:
        print_json(audit.to_dict())
    else:
        _print(audit)
    if output is not None:
        write_text(output, json.dumps(audit.to_dict(), indent=1) + "\n")
    if min_int8 is not None and (shortfall := audit.shortfall(min_int8)):
        echo(f"below the threshold: {shortfall}", err=True)
        ctx.exit(3)


def _print(audit: Audit) -> None:
    echo(f"{len(audit.layers)} layers, {audit.total_ms:.4f} ms")
    for layer in audit.layers:
        nodes = ", ".join(layer.nodes) or layer.name
        echo(f"  {layer.precision:6s} {layer.time_ms:9.4f} ms  {layer.kind:18s} {nodes}")
    echo("kinds: " + ", ".join(f"{count} {kind}" for kind, count in audit.kinds.most_common()))
    echo(f"INT8: {audit.summary}")
    for fallback in audit.fallbacks:
        echo(f"  not INT8: {fallback}")
    if audit.costs:
        _print_costs(audit)


def _print_costs(audit: Audit) -> None:
    from quantlab.engines.costs import KINDS

    echo(f"costs: {audit.extra_us:.1f} us in layers that are there only because something is read in float,")
    echo(f"  {audit.slower_us:.1f} us in layers that may be slower than need be (profiled layer by layer, with gaps)")
    for cost in audit.costs[:SHOWN]:
        about = f"  ({cost.node})" if cost.node and cost.node not in cost.layer else ""
        echo(f"  {cost.kind:19s} {1000 * cost.time_ms:7.1f} us  {cost.layer}{about}")
    if len(audit.costs) > SHOWN:
        echo(f"  and {len(audit.costs) - SHOWN} more; -o writes all")
    for kind in dict.fromkeys(cost.kind for cost in audit.costs):
        times_us = [1000 * cost.time_ms for cost in audit.costs if cost.kind == kind]
        echo(f"  {kind}, {len(times_us)} x, {sum(times_us):.1f} us: {KINDS[kind].meaning}")
        echo(f"    remedy: {KINDS[kind].remedy}")
