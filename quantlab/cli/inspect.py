"""`quantlab inspect`."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import MODEL
from quantlab.cli.options import print_warnings
from quantlab.cli.say import echo
from quantlab.cli.tables import print_float_nodes
from quantlab.errors import ConfigError

if TYPE_CHECKING:
    from quantlab.calibration import CalibrationTable


MOST_TENSORS = 200
"""Tensors of a table that are printed."""


@click.command("inspect", cls=FileCommand)
@click.argument("file", type=MODEL)
@click.option("--placement", is_flag=True, help="Of a model: every decision that quantize would make, one per line.")
def command(file: Path, placement: bool) -> None:
    """Show what is in a model (.onnx), a calibration table (.json) or a TensorRT calibration cache.

    \b
    Example:
      quantlab inspect calibration.cache
    """
    if placement and file.suffix == ".onnx":
        from quantlab.onnx_model import load_model, require_float
        from quantlab.qdq import plan, prepare

        proto = load_model(file)
        require_float(proto, "a placement")
        echo("\n".join(plan(prepare(proto)).describe()))
    elif placement:
        raise ConfigError(f"{file} is no model", hint="--placement is for .onnx files")
    elif file.suffix == ".onnx":
        _inspect_model(file)
    else:
        from quantlab.calibration import load_table

        _inspect_table(load_table(file))


def _inspect_table(table: CalibrationTable) -> None:
    p = table.provenance
    echo(f"{len(table.amax)} tensors, algorithm {p.algorithm or 'unknown'}, from {p.source or 'unknown'}")
    if p.model_hash:
        echo(f"model {p.model_hash[:16]}, data {p.data_hash[:16]}")
        echo(f"{p.samples} samples in {p.batches} batches of {p.batch_size}, preprocess {p.preprocess}")
    print_warnings(table.warnings)
    shown = dict(islice(table.amax.items(), MOST_TENSORS))
    width = max((len(name) for name in shown), default=6)
    echo(f"{'tensor':{width}s}  {'amax':>14s}  {'scale':>14s}")
    for name, amax in shown.items():
        scale = f"{float(table.scale(name)):14.8g}" if amax > 0 else f"{'(all zero)':>14s}"
        echo(f"{name:{width}s}  {float(amax):14.8g}  {scale}")
    if len(table.amax) > MOST_TENSORS:
        echo(f"and {len(table.amax) - MOST_TENSORS} more tensors: the file has them all")


def _inspect_model(file: Path) -> None:
    from quantlab.onnx_model import (
        activation_qdq,
        input_specs,
        load_model,
        model_bytes,
        model_hash,
        opset_of,
        output_specs,
    )
    from quantlab.qdq import plan, prepare

    proto = load_model(file)
    echo(f"{file}: opset {opset_of(proto)}, {model_bytes(proto) / 1024:,.0f} KiB, SHA-256 {model_hash(proto)[:16]}")
    for kind, specs in (("input", input_specs(proto)), ("output", output_specs(proto))):
        for spec in specs:
            echo(f"{kind} '{spec.name}': {spec}")
    ops = Counter(node.op_type for node in proto.graph.node)
    echo("nodes: " + ", ".join(f"{count} {op}" for op, count in ops.most_common()))
    if activation_qdq(proto):
        echo("this model already has Q/DQ nodes")
        return
    placement = plan(prepare(proto))
    echo(f"quantize would put {len(placement.tensors)} activation tensors and {len(placement.weights)} weights in INT8")
    print_float_nodes(placement)
