"""`quantlab run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_types import ENGINE, OUTPUT
from quantlab.cli.options import data_options, labels_options, open_source
from quantlab.cli.progress import progress
from quantlab.cli.say import echo
from quantlab.cli.trtexec_names import EngineCommand


@click.command("run", cls=EngineCommand)
@click.argument("engine", type=ENGINE)
@data_options
@labels_options
@click.option("-o", "--output", type=OUTPUT, required=True, help="An .npz with every output of all samples.")
@json_option
def command(engine: Path, labels: str | None, output: Path, as_json: bool, **data: Any) -> None:
    """Run an ENGINE on data and write its outputs; with labels, print top-1 of the first.

    \b
    Example:
      quantlab run resnet.engine --data val/ --preset imagenet -o outputs.npz
    """
    from quantlab.cli.engine_runtime import runtime
    from quantlab.engines.engine import Engine
    from quantlab.engines.jobs import run_engine

    loaded = Engine.load(engine)
    with runtime().open(loaded) as running:
        batches = open_source([spec.name for spec in running.inputs], running.batch_size.fixed, data, labels)
        with progress("running", batches.count) as on_batch:
            outputs = run_engine(running, batches, on_batch)
    outputs.save(output)
    if as_json:
        shapes = {name: values.shape for name, values in outputs.arrays.items()}
        print_json({"output": output, "samples": outputs.samples, "top1": outputs.top1, "outputs": shapes})
        return
    echo(f"{output}: {outputs.samples} samples" + ("" if outputs.top1 is None else f", top-1 {outputs.top1:.4f}"))
