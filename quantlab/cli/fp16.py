"""`quantlab fp16`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import MODEL, OUTPUT_MODEL
from quantlab.cli.options import print_warnings
from quantlab.cli.say import echo

SHOWN = 3
"""Warnings that are printed; there can be one per weight."""


@click.command("fp16", cls=FileCommand)
@click.argument("model", type=MODEL)
@click.option(
    "--io",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Type of what is fed and comes out.",
)
@click.option("-o", "--output", type=OUTPUT_MODEL, required=True, help="The model to write.")
@json_option
def command(model: Path, io: str, output: Path, as_json: bool) -> None:
    """Turn the float remainder of a Q/DQ MODEL into FP16, for strongly typed networks (TensorRT 11 has no others).

    \b
    Example:
      quantlab fp16 resnet.qdq.onnx -o resnet.fp16.qdq.onnx
    """
    from quantlab.fp16 import to_fp16
    from quantlab.onnx_model import save_model
    from quantlab.qdq.outputs import output_kind

    output_kind(output, (".onnx",))
    result = to_fp16(model, io)
    save_model(result.model, output)
    print_warnings(result.warnings[:SHOWN])
    if len(result.warnings) > SHOWN:
        echo(f"warning: and {len(result.warnings) - SHOWN} more like the last", err=True)
    largest = max(result.rounded_scales.values(), default=0.0)
    if as_json:
        kept = [{"node": node, "reason": reason} for node, reason in result.kept]
        facts = {"output": output, "float32": kept, "moved_scales": result.rounded_scales, "warnings": result.warnings}
        print_json(facts)
        return
    echo(f"{output}: float remainder in FP16, scales moved by {largest:.2%} at most")
    for reason, count in Counter(reason for _, reason in result.kept).most_common():
        echo(f"  float32: {count} nodes: {reason}")
