"""`quantlab half`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from quantlab import files
from quantlab.cli.options import PATH

SHOWN = 3
"""Warnings that are printed; there can be one per weight."""


@click.command("half")
@click.argument("model", type=PATH)
@click.option(
    "--io",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Type of what is fed and comes out.",
)
@click.option("-o", "--output", type=PATH, required=True, help="The model to write.")
def command(model: Path, io: str, output: Path) -> None:
    """Turn the float remainder of a Q/DQ MODEL into FP16, for strongly typed networks (TensorRT 11 has no others).

    \b
    Example:
      quantlab half resnet.qdq.onnx -o resnet.fp16.qdq.onnx
    """
    from quantlab.large import save_model
    from quantlab.model import load_model
    from quantlab.qdq import to_half

    files.check_output(output, model)
    result = to_half(load_model(model), io)
    save_model(result.model, output)
    for text in result.warnings[:SHOWN]:
        click.echo(f"warning: {text}", err=True)
    if len(result.warnings) > SHOWN:
        click.echo(f"warning: and {len(result.warnings) - SHOWN} more like the last", err=True)
    largest = max(result.rounded_scales.values(), default=0.0)
    click.echo(f"{output}: float remainder in FP16, scales moved by {largest:.2%} at most")
    for reason, count in Counter(reason for _, reason in result.kept).most_common():
        click.echo(f"  float32: {count} nodes: {reason}")
