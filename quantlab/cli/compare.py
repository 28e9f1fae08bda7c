"""`quantlab compare`."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Any

import click

import quantlab
from quantlab import files
from quantlab.cli.options import PATH, data_options, open_batches
from quantlab.cli.progress import progress
from quantlab.cli.tables import print_comparison
from quantlab.errors import ConfigError

SHOWN_BATCHES = 4
"""Batches whose activations are drawn in the report."""


@click.command("compare")
@click.argument("model", type=PATH)
@click.argument("quantized", nargs=-1, required=True)
@data_options
@click.option("--labels", help="CSV (file,label), text (one per line), .npy or file.npz:key; class folders need none.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder for report.json, .md and .html.")
def command(model: Path, quantized: tuple[str, ...], labels: str | None, output: Path, **data: Any) -> None:
    """Compare QUANTIZED models (paths, or name=path) with the FP32 MODEL on the same images.

    \b
    Example:
      quantlab compare resnet.onnx mse=resnet.qdq.onnx --data val/ --preset imagenet -o report/
    """
    from quantlab.model import load_model
    from quantlab.pipeline import activation_ranges
    from quantlab.report import build_document, write_report

    candidates = dict(named_path(text) for text in quantized)
    if len(candidates) != len(quantized):
        raise ConfigError("two quantized models have the same name", hint="name them: first=a.onnx second=b.onnx")
    proto = load_model(model)
    protos = {name: load_model(path) for name, path in candidates.items()}
    batches = open_batches(proto, data, labels)
    files.check_folder(output)
    with progress("comparing", batches.count) as on_batch:
        result = quantlab.compare(proto, protos, batches, on_batch=on_batch)
    title = f"{model.name}: INT8 against FP32"
    run = activation_ranges(proto, protos, list(islice(batches, SHOWN_BATCHES)))
    document = build_document(title, result, run, command=["quantlab", *sys.argv[1:]])
    paths = write_report(document, output)
    print_comparison(result)
    click.echo(f"report: {paths.html}")


def named_path(text: str) -> tuple[str, Path]:
    """`name=path`, or a path, whose stem is then the name."""
    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator and not Path(text).exists() else (Path(text).stem, Path(text))
