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
@click.option("--exclude", multiple=True, metavar="NODE", help="Leave this node in float; may be repeated.")
@click.option("-o", "--output", type=PATH, required=True, help="The Q/DQ model to write.")
def command(model: Path, table_file: Path, exclude: tuple[str, ...], output: Path) -> None:
    """Insert Q/DQ nodes with calibrated scales into the FP32 MODEL.

    \b
    Example:
      quantlab quantize resnet.onnx --table table.json -o resnet.qdq.onnx
    """
    from quantlab.calibration import load_table

    files.check_output(output, model, table_file)
    result = quantlab.quantize(model, load_table(table_file), exclude=exclude)
    files.write_bytes(output, result.model.SerializeToString(deterministic=True))
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
    placement = result.placement
    click.echo(f"{output}: {len(placement.tensors)} activation tensors and {len(placement.weights)} weights in INT8")
    reasons = Counter((s.op, s.reason) for s in placement.skipped)
    for (op, reason), count in reasons.most_common():
        click.echo(f"  float: {count} {op}: {reason}")
