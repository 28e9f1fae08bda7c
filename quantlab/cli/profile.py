"""`quantlab profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_types import MODEL, OUTPUT, WORK_FOLDER
from quantlab.cli.options import build_options, full_table_option, refuse_idle
from quantlab.cli.say import echo, note
from quantlab.cli.trtexec_names import EngineCommand


@click.command("profile", cls=EngineCommand)
@click.argument("model", type=MODEL)
@full_table_option
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Of a model that takes any."
)
@click.option(
    "--keep", type=WORK_FOLDER, help="Folder for the engines; a recording that was cut off goes on from there."
)
@build_options
@click.option("-o", "--output", type=OUTPUT, required=True, help="The latency table to write, .json.")
@json_option
def command(model: Path, table_file: Path, output: Path, as_json: bool, **v: Any) -> None:
    """Record on a GPU what the layers of MODEL take in INT8 and in float, so that `quantlab tune` can do without one.

    \b
    Example:
      quantlab profile model.onnx --table all.json --batch-size 32 -o h200.json
    """
    from quantlab.api.tuning import record_latencies
    from quantlab.calibration import load_table
    from quantlab.cli.engine_runtime import runtime
    from quantlab.data import BatchSize
    from quantlab.engines.options import BuildSettings
    from quantlab.files import scratch_folder
    from quantlab.onnx_model import input_specs, load_model
    from quantlab.tune.problem import Problem, made_up

    proto, table = load_model(model), load_table(table_file)
    if BatchSize.of(input_specs(proto)).fixed not in (None, v["batch_size"]):
        refuse_idle(["batch_size"], "the model has a fixed batch")
    settings = BuildSettings(v["timing_cache"], v["builder_optimization_level"])
    with scratch_folder() as passing:
        problem = Problem(
            proto, table, made_up(proto, v["batch_size"]), v["keep"] or passing, runtime=runtime(),
            settings=settings,
        )  # fmt: skip
        found = record_latencies(problem, lambda step: note(f"{step.candidate}: {step.what}"))
    found.save(output)
    if as_json:
        count = len(found.observations)
        print_json({"output": output, "engines": count, "gpu": found.gpu, "tensorrt": found.tensorrt})
        return
    echo(f"{output}: {len(found.observations)} engines on {found.gpu}, TensorRT {found.tensorrt}")
