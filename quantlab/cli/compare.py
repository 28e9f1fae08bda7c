"""`quantlab compare`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.as_json import json_option, print_json, rows_of
from quantlab.cli.file_types import CODE, FILE, MODEL, NAMED, REPORT_FOLDER, SHARED, TEXT, WINNER_FOLDER
from quantlab.cli.options import (
    check_there,
    data_options,
    labels_options,
    named_paths,
    open_batches,
    print_warnings,
    refuse_idle,
)
from quantlab.cli.progress import next_stage, progress
from quantlab.cli.say import echo
from quantlab.cli.tables import print_comparison
from quantlab.cli.trtexec_names import EngineCommand
from quantlab.errors import ConfigError
from quantlab.interruption import INTERRUPTED

if TYPE_CHECKING:
    from quantlab.comparison import Comparison
    from quantlab.report import ComparisonReport


@click.command("compare", cls=EngineCommand)
@click.argument("model", type=MODEL)
@click.argument("quantized", nargs=-1, type=NAMED)
@data_options
@labels_options
@click.option(
    "--calibration", type=TEXT, help="Calibration data, read like --data: backends of --backends are built from it."
)
@click.option(
    "--backends",
    type=CODE,
    help="Comma-separated: ort:qdq:ALG, trt:fp32, trt:fp16, trt:int8:ALG, trt:qdq:ALG, trt:tuned[:ALG].",
)
@click.option(
    "--metric", type=TEXT, help="file.py:NAME, a function of (outputs, labels) or a class with update and compute."
)
@click.option(
    "--fail-under",
    help="mlperf-99, mlperf-99.9 or percent of FP32's accuracy; exit 3 if the chosen model is below it.",
)
@click.option("--baseline", type=FILE, help="An earlier report.json: the report shows what changed.")
@click.option("--timing-cache", type=SHARED, help="For TensorRT builds.")
@click.option("--builder-optimization-level", type=int, help="For TensorRT builds.")
@click.option("-o", "--output", type=REPORT_FOLDER, required=True, help="Folder for report.json, .md, .html and .csv.")
@click.option(
    "--winner",
    type=WINNER_FOLDER,
    help="Folder for the Q/DQ model that wins, of those built from --calibration: with table, placement and cache.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, model: Path, quantized: tuple[str, ...], output: Path, as_json: bool, **v: Any
) -> None:
    """Compare QUANTIZED models and engines (paths, or name=path) with the FP32 MODEL on the same images.

    \b
    Example:
      quantlab compare resnet.onnx mse=resnet.qdq.onnx --data val/ --preset imagenet -o report/
      quantlab compare resnet.onnx --calibration images/ --data val/ --preset imagenet -o report/
    """
    from quantlab.cli.engine_runtime import runtime
    from quantlab.comparison.judge import MLPERF, parse_threshold
    from quantlab.comparison.task import load_metric
    from quantlab.data.batches import may_have_labels
    from quantlab.engines.options import BuildSettings
    from quantlab.onnx_model import load_model
    from quantlab.report import ComparisonRequest, load_document, report_comparison

    given = named_paths(quantized)
    _refuse_idle(v, given)
    threshold = None if v["fail_under"] is None else parse_threshold(v["fail_under"])
    baseline = None if v["baseline"] is None else load_document(v["baseline"])
    proto = load_model(model)
    check_there(given.values())  # what is quick to check, before code of the user runs
    batches = open_batches(proto, v, v["labels"])
    if threshold is not None and v["metric"] is None and not may_have_labels(batches):
        raise ConfigError("--fail-under needs an accuracy", hint="give --labels, class folders or --metric")
    metric = None if v["metric"] is None else load_metric(v["metric"])
    calibration = v | {"data": v["calibration"], "limit": None, "classes": None}
    request = ComparisonRequest(
        fp32=proto,
        files=given,
        batches=batches,
        calibration=open_batches(proto, calibration, None) if v["calibration"] else None,
        backends=[name.strip() for name in v["backends"].split(",")] if v["backends"] else None,
        metric=metric,
        baseline=baseline,
        bar=MLPERF if threshold is None else threshold,
        settings=BuildSettings(v["timing_cache"], v["builder_optimization_level"]),
        title=f"{model.name}: INT8 against FP32",
        command=["quantlab", *sys.argv[1:]],
        open_runtime=runtime,
        winner=v["winner"],
        on_stage=next_stage,
    )
    with progress("comparing", batches.count) as on_batch:
        done = report_comparison(request, output, on_batch)
    print_warnings([*done.left_out, *done.untraced, *_of_winner(done)])
    for line in done.skipped:
        echo(f"skipped: {line}", err=True)
    if as_json:
        print_warnings(done.comparison.warnings)
        print_json(_facts(done))
    else:
        _print(done)
    code = exit_code(done.comparison)
    if code == 0 and threshold is not None:
        code = _gate(done)
    ctx.exit(code)


def _of_winner(done: ComparisonReport) -> tuple[str, ...]:
    return done.winner.notices if done.winner else ()


def _facts(done: ComparisonReport) -> dict[str, Any]:
    return {
        "chosen": done.chosen.name if done.chosen is not None else None,
        "judgement": done.judgement,
        "samples": done.comparison.samples,
        "partial": done.comparison.partial,
        "models": rows_of(done.comparison),
        "hint": done.hint or None,
        "warnings": [*done.comparison.warnings, *done.left_out, *done.untraced, *_of_winner(done)],
        "skipped": done.skipped,
        "report": done.paths,
        "winner": {"name": done.winner.name, **done.files} if done.winner and done.files else None,
    }


def _print(done: ComparisonReport) -> None:
    print_comparison(done.comparison)
    if done.hint:
        echo(f"hint: {done.hint}")
    if done.chosen is not None and done.judgement is not None:
        echo(f"{'PASS' if done.judgement.passed else 'FAIL'}: '{done.chosen.name}' {done.judgement.text}")
    echo(f"report: {done.paths.html}")
    if done.winner is not None and done.files:
        echo(f"winner: '{done.winner.name}'")
    for what, path in done.files.items():
        echo(f"{what}: {path}")


def _gate(done: ComparisonReport) -> int:
    """3 unless the model that the verdict names reaches what --fail-under asks for."""
    from quantlab.comparison.judge import require_accuracy

    if done.chosen is None or done.judgement is None:
        return 3
    require_accuracy(done.comparison, done.chosen)
    return 0 if done.judgement.passed else 3


def _refuse_idle(v: Mapping[str, Any], given: Mapping[str, Path]) -> None:
    """Options for engines that are not built, and data for backends that need none."""
    from quantlab.engines.engine import is_engine

    names = None if v["backends"] is None else [name.strip() for name in v["backends"].split(",")]
    if v["calibration"] is None and names is None:
        builds = False
    else:
        builds = names is None or any(name.startswith("trt:") for name in names)
    if not builds:
        refuse_idle(["timing_cache", "builder_optimization_level"], "no engine is built")
        if not any(map(is_engine, given.values())):
            refuse_idle(["device", "plugins"], "no engine is built or run")
    if v["calibration"] is None:
        refuse_idle(["winner"], "without --calibration no Q/DQ model is built")
    elif names is not None and not any(":qdq:" in name for name in names):
        refuse_idle(["winner"], "no backend that is named is a Q/DQ model (ort:qdq:ALGORITHM)")
    if names is not None and all(name.split(":")[-1] in ("fp32", "fp16") for name in names):
        refuse_idle(["calibration"], "no backend that is named is calibrated")


def exit_code(result: Comparison) -> int:
    """Say on standard error what is missing.

    Args:
        result: The comparison.

    Returns:
        130 after an interruption, 2 for a metric that raised, 3 for a failed backend, else 0.
    """
    failed = next((row for row in result.results if row.metric_failed), None)
    if result.partial:
        echo("interrupted: the report is partial", err=True)
        return INTERRUPTED
    if failed is not None:
        reason = failed.metric_failed.strip().splitlines()[-1]
        echo(f"error: the metric failed on '{failed.name}': {reason}", err=True)
        echo("hint: the report shows where it was raised", err=True)
        return 2
    return 3 if any(row.failed for row in result.results) else 0
