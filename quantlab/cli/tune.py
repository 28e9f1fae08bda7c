"""`quantlab tune`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_types import FILE, MODEL, TEXT, TUNE_FOLDER
from quantlab.cli.options import (
    build_options,
    data_options,
    full_table_option,
    labels_options,
    open_batches,
    print_warnings,
    refuse_idle,
)
from quantlab.cli.say import echo, note
from quantlab.cli.tables import print_candidates
from quantlab.cli.trtexec_names import EngineCommand
from quantlab.files import together

if TYPE_CHECKING:
    from quantlab.engines.runtime import Runtime
    from quantlab.tune.trials import Step
    from quantlab.tune.tuned import Tuned

DIFFERENT = 10
"""Layers in float that are printed."""


@click.command("tune", cls=EngineCommand)
@click.argument("model", type=MODEL)
@full_table_option
@data_options
@labels_options
@click.option(
    "--metric", type=TEXT, help="file.py:NAME, a function of (outputs, labels) or a class with update and compute."
)
@click.option("--min-sqnr", type=float, help="The least SQNR of the outputs, in dB.  [default: that of quantize]")
@click.option("--max-drop", type=float, help="The most that the metric may lose: points of top-1.")
@click.option("--latency", help="The most that one batch may take, such as 1.2ms.")
@click.option("--objective", default="", help="latency or accuracy.  [default: accuracy with --latency, else latency]")
@click.option("--budget", default="20min", show_default=True, help="For building and measuring engines.")
@click.option("--latency-table", type=FILE, help="Instead of a GPU: what quantlab profile recorded on one.")
@build_options
@click.option(
    "-o", "--output", type=TUNE_FOLDER, required=True, help="Folder of the search; one that was cut off goes on."
)
@json_option
@click.pass_context
def command(ctx: click.Context, /, model: Path, table_file: Path, output: Path, as_json: bool, **v: Any) -> None:
    """Find which layers of the FP32 MODEL to leave in float, so that the engine is the fastest within an accuracy, or
    the most accurate within a latency.

    \b
    Example:
      quantlab calibrate model.onnx --data images/ --preset imagenet --tensors all -o all.json
      quantlab tune model.onnx --table all.json --data val/ --preset imagenet --max-drop 0.5 -o tuned/
    """
    from quantlab.api.tuning import TuningRequest, tune
    from quantlab.calibration import load_table
    from quantlab.calibration.made_from import preprocess_notices
    from quantlab.comparison.task import load_metric
    from quantlab.data import stream_facts
    from quantlab.engines.options import BuildSettings
    from quantlab.onnx_model import load_model
    from quantlab.report import write_tuning
    from quantlab.tune.latency_table import load_latency_table
    from quantlab.tune.target import Target, parse_budget_s, parse_latency_ms
    from quantlab.tune.tuned import clear

    if v["latency_table"] is not None:
        idle = ("budget", "timing_cache", "builder_optimization_level", "device", "plugins")
        refuse_idle(idle, "with --latency-table no engine is built")
    latency_ms = parse_latency_ms(v["latency"]) if v["latency"] else None
    target = Target(v["min_sqnr"], v["max_drop"], latency_ms, v["objective"])
    budget_s = parse_budget_s(v["budget"])
    latencies = load_latency_table(v["latency_table"]) if v["latency_table"] else None
    table = load_table(table_file)
    proto = load_model(model)
    table.check_model(proto)
    metric = load_metric(v["metric"]) if v["metric"] else None  # code of the user: after all that is quick to check
    batches = open_batches(proto, v, v["labels"])
    print_warnings(preprocess_notices(table.provenance.preprocess, stream_facts(batches).preprocess))
    request = TuningRequest(
        table=table,
        batches=batches,
        folder=output,
        target=target,
        metric=metric,
        runtime=None if latencies else _runtime(),
        latencies=latencies,
        budget_s=budget_s,
        settings=BuildSettings(v["timing_cache"], v["builder_optimization_level"]),
    )
    found = tune(proto, request, partial(_show, budget_s))
    _print_left_out(found)
    if not as_json:
        _print(found)
    with together():
        clear(output)  # what an earlier search left there is no answer to this one
        written = found.save(output) if found.reached else {}
        written["report"] = write_tuning(found, output, title=model.name)
    if as_json:
        print_json(found.to_dict() | {"summary": found.summary, "files": written})
    else:
        for what, file in written.items():
            echo(f"{what}: {file}")
    if not found.reached:
        echo(f"not reached; the best there is: {found.summary}", err=True)
        ctx.exit(3)


def _show(budget_s: float, step: Step) -> None:
    """A line for each step, with what is left of the budget once engines are built."""
    left = f" ({step.engines} engines, {max(0.0, budget_s - step.spent_s):.0f} s left)" if step.engines else ""
    note(f"{step.candidate}: {step.what}{left}")


def _runtime() -> Runtime:
    from quantlab.cli.engine_runtime import runtime
    from quantlab.errors import MissingDependencyError

    try:
        return runtime()
    except MissingDependencyError as error:
        raise MissingDependencyError(
            f"{error.text}; latencies are not guessed",
            hint="record them where a GPU is (quantlab profile MODEL -o FILE) and give --latency-table FILE",
        ) from error


def _print_left_out(found: Tuned) -> None:
    print_warnings(f"candidate '{name}' is missing: {why}" for name, why in found.failed.items())
    if found.quantized is not None:
        print_warnings(found.quantized.warnings)


def _print(found: Tuned) -> None:
    print_candidates(found)
    if found.reached:
        echo(found.summary)
    if found.quantized is not None:
        left = [s for s in found.quantized.placement.skipped if s.node in found.effects]
        for one in left[:DIFFERENT]:
            echo(f"  float {one.node} ({one.op}): {one.reason}")
        if len(left) > DIFFERENT:
            echo(f"  ... and {len(left) - DIFFERENT} more, all of them in the report")
