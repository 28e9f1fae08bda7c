"""`quantlab check-data`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import MODEL
from quantlab.cli.options import data_options, open_batches, print_warnings
from quantlab.cli.progress import progress
from quantlab.cli.say import echo


@click.command("check-data", cls=FileCommand)
@click.argument("model", type=MODEL)
@data_options
@click.option("--algorithm", default="entropy", show_default=True, help="minmax, entropy, percentile-P, mse.")
@click.option("--json", "as_json", is_flag=True, help="Print everything about every tensor as JSON.")
def command(model: Path, algorithm: str, as_json: bool, **data: Any) -> None:
    """Say whether the calibration images are enough for MODEL: do its scales settle, do they hold for others.

    \b
    Example:
      quantlab check-data resnet.onnx --data images/ --preset imagenet --algorithm mse
    """
    from quantlab.api import check_data
    from quantlab.observers import observer_by_name
    from quantlab.onnx_model import load_model

    observer = observer_by_name(algorithm)
    proto = load_model(model)
    batches = open_batches(proto, data, labels=None)
    with progress("calibrating", batches.count) as on_batch:
        result = check_data(proto, batches, observer, on_batch=on_batch)
    print_warnings(result.notices)
    if as_json:
        echo(json.dumps(asdict(result) | {"findings": result.findings}, indent=1))
        return
    echo(
        f"{result.algorithm}: {len(result.tensors)} scales from {result.samples} samples, judged by {result.held_back} "
        "held back"
    )
    for finding in result.findings:
        echo(f"  {finding}")
