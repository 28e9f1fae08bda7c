"""`quantlab calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.cost import cost
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import MODEL, OUTPUT_SCALES
from quantlab.cli.options import algorithm_option, data_options, open_batches, print_warnings, refuse_idle
from quantlab.cli.progress import next_stage, progress
from quantlab.cli.say import echo

ALGORITHM = (
    "minmax, entropy, percentile-P, mse; file.py:Name, an observer of your own; or auto: the best of quantlab's by the "
    "error at the outputs, 4 to 10 times slower."
)


@click.command("calibrate", cls=FileCommand)
@click.argument("model", type=MODEL)
@data_options
@algorithm_option(ALGORITHM)
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
    type=OUTPUT_SCALES,
    required=True,
    help="NAME.json for a table, NAME.cache for a TensorRT cache, NAME.flatbuffers for ONNX Runtime's TensorRT "
    "provider, NAME.npz for a part of the data to be merged.",
)
@json_option
def command(
    model: Path, algorithm: str, tensors: str | None, order_independent: bool, tensorrt: str, output: Path,
    as_json: bool, **data: Any,
) -> None:  # fmt: skip
    """Run images through the FP32 MODEL and write the range of its activations.

    \b
    Example:
      quantlab calibrate resnet.onnx --data images/ --preset imagenet --algorithm entropy -o table.json
    """
    from quantlab.api.calibration_job import SUFFIXES, CalibrationRequest, calibrate_to_file
    from quantlab.onnx_model import load_model
    from quantlab.qdq.outputs import output_kind

    request = CalibrationRequest(output_kind(output, SUFFIXES), algorithm, tensors, order_independent, tensorrt)
    if output.suffix != ".cache":
        refuse_idle(["tensorrt"], "only a TensorRT cache (.cache) says which version reads it")
    if request.kind.save is None:
        refuse_idle(["algorithm"], "a part holds what all algorithms need; quantlab merge chooses one")
    proto = load_model(model)
    batches = open_batches(proto, data, labels=None)
    with progress("calibrating", batches.count) as on_batch:
        written = calibrate_to_file(proto, batches, output, request, on_batch, next_stage)
    print_warnings(written.warnings)
    if as_json:
        facts = {"output": output, "tensors": written.tensors, "algorithm": algorithm if request.kind.save else None}
        print_json(facts | {"samples": written.samples, "warnings": written.warnings})
        return
    what = (
        f"{written.tensors} tensors, {algorithm}" if request.kind.save else f"histograms of {written.tensors} tensors"
    )
    echo(f"{output}: {what}, {written.samples} samples in {cost()}")
