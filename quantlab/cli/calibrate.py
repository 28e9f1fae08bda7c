"""`quantlab calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import quantlab
from quantlab import files
from quantlab.cli.options import PATH, data_options, open_batches, resolve_algorithm
from quantlab.cli.progress import progress
from quantlab.errors import ConfigError


@click.command("calibrate")
@click.argument("model", type=PATH)
@data_options
@click.option("--algorithm", default="entropy", show_default=True, help="minmax, entropy, percentile-P, mse, auto.")
@click.option(
    "--tensors",
    type=click.Choice(["qdq", "all"]),
    help="Those that Q/DQ needs, or every tensor, as a TensorRT cache needs.  [default: by the output's kind]",
)
@click.option("-o", "--output", type=PATH, required=True, help="table.json, or NAME.cache for a TensorRT cache.")
def command(model: Path, algorithm: str, tensors: str | None, output: Path, **data: Any) -> None:
    """Run images through the FP32 MODEL and write the range of its activations.

    \b
    Example:
      quantlab calibrate resnet.onnx --data images/ --preset imagenet --algorithm entropy -o table.json
    """
    from quantlab.model import load_model

    observer = None if algorithm == "auto" else resolve_algorithm(algorithm)
    files.check_output(output, model)
    is_cache = output.suffix == ".cache"
    proto = load_model(model)
    batches = open_batches(proto, data, labels=None)
    wanted = tensors or ("all" if is_cache else "qdq")
    if observer is None and wanted == "all":
        raise ConfigError(
            "auto chooses for the tensors of a Q/DQ model only", hint="leave out --tensors, write a .json"
        )
    with progress("calibrating", batches.count) as on_batch:
        if observer is None:
            table = quantlab.calibrate_auto(proto, batches, on_batch=on_batch).table
        else:
            table = quantlab.calibrate(proto, batches, observer, tensors=wanted, on_batch=on_batch)
    if is_cache:
        header = "MinMaxCalibration" if algorithm == "minmax" else "EntropyCalibration2"
        quantlab.tensorrt_cache(proto, table, header).save(output)
    else:
        table.save(output)
    for warning in table.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{output}: {len(table.amax)} tensors, {algorithm}, {table.provenance.samples} samples")
