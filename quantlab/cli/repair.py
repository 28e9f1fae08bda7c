"""`quantlab repair`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import MODEL, OUTPUT_MODEL
from quantlab.cli.options import optional_batches, optional_data_options, print_warnings
from quantlab.cli.say import echo


@click.command("repair", cls=FileCommand)
@click.argument("model", type=MODEL)
@optional_data_options
@click.option(
    "--min-sqnr", type=float, default=15.0, show_default=True, help="Refuse to move an output further, in dB."
)
@click.option("-o", "--output", type=OUTPUT_MODEL, required=True, help="The repaired model to write.")
@json_option
def command(model: Path, min_sqnr: float, output: Path, as_json: bool, **data: Any) -> None:
    """Place the Q/DQ of MODEL anew with the scales it has, and prove that its outputs moved little.

    \b
    Example:
      quantlab repair exported.qdq.onnx -o repaired.onnx
    """
    from quantlab.onnx_model import load_model, save_model
    from quantlab.qdq import repair
    from quantlab.qdq.outputs import output_kind

    output_kind(output, (".onnx",))
    proto = load_model(model)
    batches = optional_batches(proto, data)
    result = repair(proto, batches, min_sqnr)
    save_model(result.model, output)
    print_warnings(result.notes, "note")
    if as_json:
        print_json(
            {
                "output": output,
                "before": result.before,
                "after": result.after,
                "outputs": result.moved,
                "samples": result.samples,
                "made_up": result.made_up,
                "notes": result.notes,
            }
        )
        return
    for name, error in result.moved.items():
        echo(f"output '{name}': SQNR {error.sqnr_db:.1f} dB, largest change {error.max_abs:.4g}")
    kind = "seeded random samples: give --data for a proof on real ones" if result.made_up else "samples"
    echo(f"compared on {result.samples} {kind}")
    echo(f"{output}: {len(result.before)} findings before, {len(result.after)} after")
