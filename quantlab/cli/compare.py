"""`quantlab compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.options import PATH, data_options, named_paths, open_batches, print_warnings
from quantlab.cli.progress import progress
from quantlab.cli.tables import print_comparison

if TYPE_CHECKING:
    from quantlab.comparison import Comparison


@click.command("compare")
@click.argument("model", type=PATH)
@click.argument("quantized", nargs=-1)
@data_options
@click.option("--labels", help="CSV (file,label), text (one per line), .npy or file.npz:key; class folders need none.")
@click.option("--calibration", help="Calibration data, read like --data: backends of --backends are built from it.")
@click.option(
    "--backends", help="Comma-separated: ort:qdq:ALG, trt:fp32, trt:fp16, trt:int8:ALG, trt:qdq:ALG, trt:tuned[:ALG]."
)
@click.option("--metric", help="file.py:NAME, a function of (outputs, labels) or a class with update and compute.")
@click.option("--fail-under", help="mlperf-99, mlperf-99.9 or percent of FP32's accuracy; exit 3 below it.")
@click.option("--baseline", type=PATH, help="An earlier report.json: the report shows what changed.")
@click.option("--timing-cache", type=PATH, help="For TensorRT builds.")
@click.option("--builder-optimization-level", type=int, help="For TensorRT builds.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder for report.json, .md, .html and .csv.")
@click.pass_context
def command(ctx: click.Context, /, model: Path, quantized: tuple[str, ...], output: Path, **v: Any) -> None:
    """Compare QUANTIZED models and engines (paths, or name=path) with the FP32 MODEL on the same images.

    \b
    Example:
      quantlab compare resnet.onnx mse=resnet.qdq.onnx --data val/ --preset imagenet -o report/
      quantlab compare resnet.onnx --calibration images/ --data val/ --preset imagenet -o report/
    """
    from quantlab.cli.engine_runtime import runtime
    from quantlab.comparison.judge import parse_threshold
    from quantlab.comparison.task import load_metric
    from quantlab.engines.options import BuildSettings
    from quantlab.onnx_model import load_model
    from quantlab.report import ComparisonRequest, load_document, report_comparison

    threshold = parse_threshold(v["fail_under"]) if v["fail_under"] else None
    metric = load_metric(v["metric"]) if v["metric"] else None
    baseline = load_document(v["baseline"]) if v["baseline"] else None
    given = named_paths(quantized)
    proto = load_model(model)
    batches = open_batches(proto, v, v["labels"])
    calibration = v | {"data": v["calibration"], "limit": None}
    request = ComparisonRequest(
        fp32=proto,
        files=given,
        batches=batches,
        calibration=open_batches(proto, calibration, None) if v["calibration"] else None,
        backends=[name.strip() for name in v["backends"].split(",")] if v["backends"] else None,
        metric=metric,
        baseline=baseline,
        settings=BuildSettings(v["timing_cache"], v["builder_optimization_level"]),
        title=f"{model.name}: INT8 against FP32",
        command=["quantlab", *sys.argv[1:]],
        open_runtime=runtime,
    )
    with progress("comparing", batches.count) as on_batch:
        done = report_comparison(request, output, on_batch)
    print_comparison(done.comparison)
    print_warnings([*done.left_out, *done.untraced])
    for line in done.skipped:
        click.echo(f"skipped: {line}", err=True)
    for row in done.comparison.results:
        if row.metric_failed:
            click.echo(row.metric_failed, err=True)
    click.echo(f"report: {done.paths.html}")
    ctx.exit(exit_code(done.comparison, threshold))


def exit_code(result: Comparison, threshold: float | None) -> int:
    """Say on standard error what is missing.

    Args:
        result: The comparison.
        threshold: The least share of FP32's accuracy, or None.

    Returns:
        2 after an interruption or a metric that raised, 3 for a failed backend or too little accuracy, else 0.
    """
    from quantlab.comparison.judge import below_threshold

    if result.partial or any(row.metric_failed for row in result.results):
        click.echo("interrupted: the report is partial" if result.partial else "the metric failed", err=True)
        return 2
    low = below_threshold(result, threshold) if threshold is not None else []
    for line in low:
        click.echo(f"below {threshold:.2%} of FP32: {line}", err=True)
    return 3 if low or any(row.failed for row in result.results) else 0
