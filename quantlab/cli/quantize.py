"""`quantlab quantize`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

import quantlab
from quantlab import files
from quantlab.cli.options import PATH


@click.command("quantize")
@click.argument("model", type=PATH)
@click.option("--table", "table_file", type=PATH, required=True, help="A calibration table (.json) or TensorRT cache.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Quantize only these; patterns as --exclude.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave these in float: a node name with wildcards, op:TYPE, first, last.",
)
@click.option("-o", "--output", type=PATH, required=True, help="The Q/DQ model to write.")
def command(model: Path, table_file: Path, include: tuple[str, ...], exclude: tuple[str, ...], output: Path) -> None:
    """Insert Q/DQ nodes with calibrated scales into the FP32 MODEL.

    \b
    Example:
      quantlab quantize resnet.onnx --table table.json -o resnet.qdq.onnx
    """
    from quantlab.calibration import load_table

    files.check_output(output, model, table_file)
    table = load_table(table_file)
    result = quantlab.quantize(model, table, selection=quantlab.Selection(include, exclude))
    files.write_bytes(output, result.model.SerializeToString(deterministic=True))
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
    placement = result.placement
    click.echo(f"{output}: {len(placement.tensors)} activation tensors and {len(placement.weights)} weights in INT8")
    for tensor, cost in result.placement.cost_db(table.amax).items():
        click.echo(f"  shared scale: '{tensor}' gives up {cost:.1f} dB of resolution")
    reasons = Counter((s.op, s.reason) for s in placement.skipped)
    for (op, reason), count in reasons.most_common():
        click.echo(f"  float: {count} {op}: {reason}")
