"""`quantlab quantize`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

import quantlab
from quantlab import files
from quantlab.cli.options import PATH
from quantlab.errors import ConfigError


@click.command("quantize")
@click.argument("model", type=PATH)
@click.option("--table", "table_file", type=PATH, help="A calibration table (.json) or TensorRT cache.")
@click.option("--requantize", is_flag=True, help="Strip the Q/DQ that MODEL has; without --table its own scales serve.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Quantize only these; patterns as --exclude.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave these in float: a node name with wildcards, op:TYPE, first, last.",
)
@click.option("-o", "--output", type=PATH, required=True, help="The Q/DQ model to write.")
def command(
    model: Path,
    table_file: Path | None,
    requantize: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    output: Path,
) -> None:
    """Insert Q/DQ nodes with calibrated scales into the FP32 MODEL.

    \b
    Example:
      quantlab quantize resnet.onnx --table table.json -o resnet.qdq.onnx
    """
    from quantlab.calibration import load_table

    files.check_output(output, model, *([table_file] if table_file else []))
    selection = quantlab.Selection(include, exclude)
    table = load_table(table_file) if table_file else None
    if requantize:
        redone = quantlab.requantize(model, table, selection)
        placement, warnings, result = redone.placement, redone.notes, redone.model
    elif table is None:
        raise ConfigError("no scales were given", hint="--table FILE; quantlab calibrate makes one")
    else:
        quantized = quantlab.quantize(model, table, selection=selection)
        placement, warnings, result = quantized.placement, quantized.warnings, quantized.model
    files.write_bytes(output, result.SerializeToString(deterministic=True))
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{output}: {len(placement.tensors)} activation tensors and {len(placement.weights)} weights in INT8")
    for tensor, cost in (placement.cost_db(table.amax) if table else {}).items():
        click.echo(f"  shared scale: '{tensor}' gives up {cost:.1f} dB of resolution")
    reasons = Counter((s.op, s.reason) for s in placement.skipped)
    for (op, reason), count in reasons.most_common():
        click.echo(f"  float: {count} {op}: {reason}")
