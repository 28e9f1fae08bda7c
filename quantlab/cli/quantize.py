"""`quantlab quantize`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.options import PATH, open_batches, optional_data_options, print_warnings
from quantlab.cli.progress import progress
from quantlab.errors import ConfigError
from quantlab.files import check_output, write_text

if TYPE_CHECKING:
    from quantlab.qdq import WeightError


@click.command("quantize")
@click.argument("model", type=PATH)
@click.option("--table", "table_file", type=PATH, help="A calibration table (.json) or TensorRT cache.")
@click.option("--requantize", is_flag=True, help="Strip the Q/DQ that MODEL has; without --table its own scales serve.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Quantize only these; patterns as --exclude.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave these in float: a node name with wildcards, op:TYPE, first, last.",
)
@click.option("--correct-bias", is_flag=True, help="Take the mean shift of every layer on --data back in its bias.")
@click.option(
    "--weights",
    "granularity",
    type=click.Choice(["per-channel", "per-tensor"]),
    default="per-channel",
    show_default=True,
    help="One scale per output channel, or one per weight.",
)
@click.option("--float-weights", is_flag=True, help="Keep weights float behind Q/DQ pairs, not as int8.")
@click.option("--placement", "placement_file", type=PATH, help="Write every decision as text, one per line.")
@optional_data_options
@click.option("-o", "--output", type=PATH, required=True, help="The Q/DQ model to write.")
def command(model: Path, table_file: Path | None, requantize: bool, correct_bias: bool, output: Path, **v: Any) -> None:
    """Insert Q/DQ nodes with calibrated scales into the FP32 MODEL.

    \b
    Example:
      quantlab quantize resnet.onnx --table table.json -o resnet.qdq.onnx
    """
    from quantlab.calibration import load_table
    from quantlab.onnx_model import load_model, save_model
    from quantlab.qdq import Selection, WeightStyle, quantize_model
    from quantlab.qdq import requantize as requantize_model
    from quantlab.tune import correct_bias as corrected

    check_output(output, model, *([table_file] if table_file else []))
    if correct_bias != bool(v["data"]) or (correct_bias and requantize):
        raise ConfigError(
            "--correct-bias needs --data and an FP32 model; --data serves nothing else here",
            hint="--correct-bias --data images/ --preset imagenet",
        )
    style = WeightStyle(v["granularity"] == "per-channel", "float" if v["float_weights"] else "int8")
    if requantize and style != WeightStyle():
        raise ConfigError(
            "--requantize writes int8 weights with a scale per channel", hint="leave out the weight style"
        )
    if v["placement_file"]:
        check_output(v["placement_file"], model, output, *([table_file] if table_file else []))
        if v["placement_file"].absolute() == output.absolute():
            raise ConfigError("--placement and --output are one file", hint="give two names")
    selection = Selection(v["include"], v["exclude"])
    table = load_table(table_file) if table_file else None
    costs: dict[str, float] = {}
    errors: tuple[WeightError, ...] = ()
    if requantize:
        redone = requantize_model(model, table, selection)
        placement, warnings, result = redone.placement, redone.notes, redone.model
    elif table is None:
        raise ConfigError("no scales were given", hint="--table FILE; quantlab calibrate makes one")
    else:
        quantized = quantize_model(model, table, selection, style)
        if correct_bias:
            batches = open_batches(load_model(model), v, None)
            with progress("correcting biases", batches.count) as on_batch:
                quantized = corrected(model, quantized, batches, on_batch)
        placement, warnings, result = quantized.placement, quantized.warnings, quantized.model
        costs, errors = placement.cost_db(table.amax), quantized.weight_errors
    save_model(result, output)
    print_warnings(warnings)
    click.echo(f"{output}: {len(placement.tensors)} activation tensors and {len(placement.weights)} weights in INT8")
    if v["placement_file"]:
        write_text(v["placement_file"], "\n".join(placement.describe()) + "\n")
    for error in sorted(errors, key=lambda e: e.sqnr_db.min())[:3]:
        channel = error.worst_channel
        click.echo(
            f"  weight '{error.tensor}': channel {channel} keeps the least, SQNR {error.sqnr_db[channel]:.1f} dB"
        )
    for tensor, cost in costs.items():
        click.echo(f"  shared scale: '{tensor}' gives up {cost:.1f} dB of resolution")
    reasons = Counter((s.op, s.reason) for s in placement.skipped)
    for (op, reason), count in reasons.most_common():
        click.echo(f"  float: {count} {op}: {reason}")
