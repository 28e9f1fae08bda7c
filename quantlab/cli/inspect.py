"""`quantlab inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import click

from quantlab.cli.as_json import json_option, print_json, rows_of
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import MODEL
from quantlab.cli.options import print_warnings
from quantlab.cli.say import echo
from quantlab.errors import ConfigError

MOST_TENSORS = 200
"""Tensors of a table that are printed."""
MOST_REASONS = 20
"""Reasons that are printed: some name a tensor each."""


@click.command("inspect", cls=FileCommand)
@click.argument("file", type=MODEL)
@click.option("--placement", is_flag=True, help="Of a model: every decision that quantize would make, one per line.")
@json_option
def command(file: Path, placement: bool, as_json: bool) -> None:
    """Show what is in a model, a calibration table or cache, a part, an engine, a record, a report or another result.

    \b
    Example:
      quantlab inspect calibration.cache
    """
    from quantlab.report.inspection import inspect_file, lines_of

    if placement:
        _print_placement(file, as_json)
        return
    facts = inspect_file(file)
    if as_json:
        print_json({"file": str(file)} | facts)
    elif "ranges" in facts:
        _print_table(facts)
    elif "nodes" in facts and "opset" in facts:
        _print_model(file, facts)
    else:
        print_warnings(facts.pop("warnings", ()))
        echo(f"{file}: {facts.pop('kind')}")
        echo("\n".join(lines_of(facts, "  ")))


def _print_placement(file: Path, as_json: bool) -> None:
    from quantlab.onnx_model import load_model, require_float
    from quantlab.qdq import plan, prepare

    if file.suffix != ".onnx":
        raise ConfigError(f"{file} is no model", hint="--placement is for .onnx files")
    proto = load_model(file)
    require_float(proto, "a placement")
    placement = plan(prepare(proto))
    if as_json:
        print_json({"file": file, "placement": rows_of(placement)})
    else:
        echo("\n".join(placement.describe()))


def _print_table(facts: Mapping[str, Any]) -> None:
    echo(f"{facts['tensors']} tensors, algorithm {facts['algorithm']}, from {facts['source']}")
    if facts["model_hash"]:
        echo(f"model {facts['model_hash'][:16]}, data {facts['data_hash'][:16]}")
        count = f"{facts['samples']} samples in " if facts["samples"] else ""
        echo(f"{count}{facts['batches']} batches of {facts['batch_size']}, preprocess {facts['preprocess']}")
    print_warnings(facts["warnings"])
    shown = dict(islice(facts["ranges"].items(), MOST_TENSORS))
    width = max((len(name) for name in shown), default=6)
    echo(f"{'tensor':{width}s}  {'amax':>14s}  {'scale':>14s}")
    for name, (amax, scale) in shown.items():
        last = f"{scale:14.8g}" if amax > 0 else f"{'(all zero)':>14s}"
        echo(f"{name:{width}s}  {amax:14.8g}  {last}")
    if facts["tensors"] > MOST_TENSORS:
        echo(f"and {facts['tensors'] - MOST_TENSORS} more tensors: --json prints them all")


def _print_model(file: Path, facts: Mapping[str, Any]) -> None:
    from quantlab.report.inspection import lines_of

    echo(f"{file}: opset {facts['opset']}, {facts['bytes'] / 1024:,.0f} KiB, SHA-256 {facts['model_hash'][:16]}")
    for kind in ("input", "output"):
        for name, spec in facts[f"{kind}s"].items():
            echo(f"{kind} '{name}': {spec}")
    echo("nodes: " + ", ".join(f"{count} {op}" for op, count in facts["nodes"].items()))
    if facts["qdq"]:
        echo("this model already has Q/DQ nodes")
        findings = ", ".join(f"{count} {code}" for code, count in facts["lint"].items())
        echo(f"lint: {findings or 'no findings'}")
        if facts["made_from"]:
            echo("\n".join(["made from:", *lines_of(facts["made_from"], "  ")]))
        return
    would = facts["would_quantize"]
    echo(f"quantize would put {would['activations']} activation tensors and {would['weights']} weights in INT8")
    for row in facts["stay_float"][:MOST_REASONS]:
        echo(f"  float: {row['count']} {row['op']}: {row['reason']}")
    if len(facts["stay_float"]) > MOST_REASONS:
        echo(f"  float: {len(facts['stay_float']) - MOST_REASONS} more reasons, in the placement")
