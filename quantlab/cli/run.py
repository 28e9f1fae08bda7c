"""`quantlab run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.options import PATH, data_options, open_source
from quantlab.cli.progress import progress
from quantlab.files import check_writable


@click.command("run")
@click.argument("engine", type=PATH)
@data_options
@click.option("--labels", help="As in quantlab compare; prints top-1 of the first output.")
@click.option("-o", "--output", type=PATH, required=True, help="An .npz with every output of all samples.")
def command(engine: Path, labels: str | None, output: Path, **data: Any) -> None:
    """Run an ENGINE on data and write its outputs.

    \b
    Example:
      quantlab run resnet.engine --data val/ --preset imagenet -o outputs.npz
    """
    from quantlab.cli.engine_runtime import runtime
    from quantlab.engines.engine import Engine
    from quantlab.engines.jobs import run_engine

    check_writable(output)
    loaded = Engine.load(engine)
    with runtime().open(loaded) as running:
        batches = open_source([spec.name for spec in running.inputs], running.batch_size.fixed, data, labels)
        with progress("running", batches.count) as on_batch:
            outputs = run_engine(running, batches, on_batch)
    outputs.save(output)
    click.echo(f"{output}: {outputs.samples} samples" + ("" if outputs.top1 is None else f", top-1 {outputs.top1:.4f}"))
