"""`quantlab calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import quantlab
from quantlab import files
from quantlab.cli.cost import cost
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
@click.option(
    "--order-independent", is_flag=True, help="The same scales whatever the batches and their order; not TensorRT's."
)
@click.option("--tensorrt", default="8.6.0", show_default=True, help="The version that will read a written cache.")
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    help="table.json, NAME.cache for a TensorRT cache, or NAME.npz for a part of the data to be merged.",
)
def command(
    model: Path, algorithm: str, tensors: str | None, order_independent: bool, tensorrt: str, output: Path, **data: Any
) -> None:
    """Run images through the FP32 MODEL and write the range of its activations.

    \b
    Example:
      quantlab calibrate resnet.onnx --data images/ --preset imagenet --algorithm entropy -o table.json
    """
    from quantlab.calibration import save_ep_table, table_from_cache
    from quantlab.model import load_model

    observer = None if algorithm == "auto" else resolve_algorithm(algorithm)
    files.check_output(output, model)
    is_cache = output.suffix in (".cache", ".flatbuffers")
    proto = load_model(model)
    batches = open_batches(proto, data, labels=None)
    wanted = tensors or ("all" if is_cache else "qdq")
    if output.suffix == ".npz":
        if not order_independent:
            raise ConfigError(
                "TensorRT's histograms depend on the order of the batches: parts of the data cannot be merged",
                hint="--order-independent",
            )
        with progress("calibrating", batches.count) as on_batch:
            shard = quantlab.calibrate_shard(proto, batches, tensors=wanted, on_batch=on_batch)
        shard.save(output)
        for warning in shard.warnings:
            click.echo(f"warning: {warning}", err=True)
        samples = shard.provenance.samples
        click.echo(f"{output}: histograms of {len(shard.histograms)} tensors, {samples} samples in {cost()}")
        return
    if observer is None and order_independent:
        raise ConfigError("auto has no order-independent form", hint="merge parts and choose one algorithm")
    if observer is None and wanted == "all":
        raise ConfigError(
            "auto chooses for the tensors of a Q/DQ model only", hint="leave out --tensors, write a .json"
        )
    with progress("calibrating", batches.count) as on_batch:
        if observer is None:
            table = quantlab.calibrate_auto(proto, batches, on_batch=on_batch).table
        else:
            table = quantlab.calibrate(
                proto, batches, observer, tensors=wanted, order_independent=order_independent, on_batch=on_batch
            )
    if is_cache:
        header = "MinMaxCalibration" if algorithm == "minmax" else "EntropyCalibration2"
        cache = quantlab.tensorrt_cache(proto, table, header).for_tensorrt(tensorrt)
        if output.suffix == ".cache":
            cache.save(output)
        else:
            save_ep_table(table_from_cache(cache), output)
    else:
        table.save(output)
    if is_cache and order_independent:
        click.echo("warning: order-independent scales are not those that TensorRT's calibrator would find", err=True)
    for warning in table.warnings:
        click.echo(f"warning: {warning}", err=True)
    samples = table.provenance.samples
    click.echo(f"{output}: {len(table.amax)} tensors, {algorithm}, {samples} samples in {cost()}")
