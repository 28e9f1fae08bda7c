"""`quantlab quantize`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.as_json import float_nodes, json_option, print_json
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import MODEL, OUTPUT, OUTPUT_MODEL, TABLE
from quantlab.cli.options import optional_batches, optional_data_options, print_warnings
from quantlab.cli.progress import next_stage, progress
from quantlab.cli.say import echo
from quantlab.cli.tables import print_float_nodes

if TYPE_CHECKING:
    from quantlab.api.quantization_job import WrittenModel
    from quantlab.tune import Closest

WORST = 3
"""Weights that are printed."""
MOST_SHARED = 10
"""Tensors with a coarser scale that are printed."""


@click.command("quantize", cls=FileCommand)
@click.argument("model", type=MODEL)
@click.option(
    "--table", "table_file", type=TABLE, help="A quantlab table, or a calibration cache of TensorRT or ONNX Runtime."
)
@click.option("--requantize", is_flag=True, help="Strip the Q/DQ of MODEL; without --table its scales serve.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Quantize only these; patterns as --exclude.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave these in float: a node name with wildcards, op:TYPE, first, last.",
)
@click.option("--correct-bias", is_flag=True, help="Take the mean shift of every layer on --data back in its bias.")
@click.option(
    "--closest",
    is_flag=True,
    help="Choose scales, channel ranges, codes, rounding and biases together, by --data that is held back; no --table.",
)
@click.option(
    "--weights",
    "granularity",
    type=click.Choice(["per-channel", "per-tensor"]),
    default="per-channel",
    show_default=True,
    help="One scale per output channel, or one per weight.",
)
@click.option(
    "--float-weights/--int8-weights",
    default=None,
    help="Weights as float behind Q/DQ pairs, or as int8.  [default: int8, but what TensorRT 8 takes]",
)
@click.option("--placement", "placement_file", type=OUTPUT, help="Write every decision as text, one per line.")
@optional_data_options
@click.option("-o", "--output", type=OUTPUT_MODEL, required=True, help="The Q/DQ model to write.")
@json_option
def command(
    model: Path, table_file: Path | None, placement_file: Path | None, output: Path, as_json: bool, **v: Any
) -> None:
    """Insert Q/DQ nodes with calibrated scales into the FP32 MODEL.

    \b
    Example:
      quantlab quantize resnet.onnx --table table.json -o resnet.qdq.onnx
      quantlab quantize resnet.onnx --closest --data images/ --preset imagenet -o resnet.qdq.onnx
    """
    from quantlab.api.quantization_job import QuantizationRequest, quantize_to_file
    from quantlab.calibration import load_table
    from quantlab.calibration.cache_header import read_header
    from quantlab.calibration.made_from import origin_unknown
    from quantlab.onnx_model import load_model
    from quantlab.qdq import Selection, WeightStyle
    from quantlab.qdq.outputs import output_kind

    output_kind(output, (".onnx",))
    proto = load_model(model)
    table = load_table(table_file) if table_file else None
    batches = optional_batches(proto, v)
    request = QuantizationRequest(
        table=table,
        requantize=v["requantize"],
        selection=Selection(v["include"], v["exclude"]),
        weights=WeightStyle(v["granularity"] == "per-channel", _STORED[v["float_weights"]]),
        correct_bias=v["correct_bias"],
        closest=v["closest"],
        batches=batches,
        placement_file=placement_file,
    )
    doing = "calibrating" if v["closest"] else "correcting biases"
    with progress(doing, batches.count) if batches else nullcontext() as on_batch:
        written = quantize_to_file(proto, output, request, on_batch, next_stage)
    if table is not None and read_header(table.provenance.algorithm):
        print_warnings((*table.warnings, *origin_unknown(table.provenance)))
    print_warnings(written.warnings)
    if as_json:
        print_json(_facts(written, output))
    else:
        _print(written, output)


_STORED = {True: "float", False: "int8", None: None}


def _facts(written: WrittenModel, output: Path) -> dict[str, Any]:
    placement = written.placement
    weights = [
        {
            "node": error.node,
            "tensor": error.tensor,
            "worst_channel": error.worst_channel,
            "sqnr_db": error.sqnr_db.min(),
            "dead": error.dead,
        }
        for error in written.weight_errors
    ]
    return {
        "output": output,
        "int8_tensors": len(placement.tensors),
        "int8_weights": len(placement.weights),
        "weights": weights,
        "shared_scales_cost_db": written.cost_db,
        "float": float_nodes(placement),
        "closest": _steps(written.closest) if written.closest else None,
        "warnings": written.warnings,
    }


def _steps(found: Closest) -> dict[str, Any]:
    """What each step of --closest brought, and where."""
    steps = [{"name": s.name, "kept": s.kept, "gain_db": s.gain_db, "where": dict(s.where)} for s in found.steps]
    return {"sqnr_db": found.sqnr_db, "auto_db": found.auto_db, "held_back": found.held_back, "steps": steps}


def _print(written: WrittenModel, output: Path) -> None:
    placement = written.placement
    echo(f"{output}: {len(placement.tensors)} activation tensors and {len(placement.weights)} weights in INT8")
    for error in written.weight_errors[:WORST]:
        channel = error.worst_channel
        echo(f"  weight '{error.tensor}': channel {channel} keeps the least, SQNR {error.sqnr_db[channel]:.1f} dB")
    dearest = sorted(written.cost_db.items(), key=lambda item: -item[1])
    for tensor, cost in dearest[:MOST_SHARED]:
        echo(f"  shared scale: '{tensor}' gives up {cost:.1f} dB of resolution")
    if len(dearest) > MOST_SHARED:
        echo(f"  shared scale: {len(dearest) - MOST_SHARED} more tensors give up less")
    print_float_nodes(placement)
