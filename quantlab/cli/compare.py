"""`quantlab compare`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import quantlab
from quantlab import files
from quantlab.cli.options import PATH, data_options, open_batches
from quantlab.cli.progress import progress
from quantlab.cli.tables import print_comparison
from quantlab.errors import ConfigError, QuantlabError

if TYPE_CHECKING:
    import onnx

    from quantlab.backends import BackendSet
    from quantlab.comparison import Comparison

SHOWN_BATCHES = 4
"""Batches whose activations and inner errors are drawn in the report."""
THRESHOLDS = {"mlperf-99": 0.99, "mlperf-99.9": 0.999}
ENGINES = (".engine", ".plan")


@click.command("compare")
@click.argument("model", type=PATH)
@click.argument("quantized", nargs=-1)
@data_options
@click.option("--labels", help="CSV (file,label), text (one per line), .npy or file.npz:key; class folders need none.")
@click.option("--calibration", help="Calibration data, read like --data: backends of --backends are built from it.")
@click.option("--backends", help="Comma-separated: ort:qdq:ALG, trt:fp32, trt:fp16, trt:int8:ALG, trt:qdq:ALG.")
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
    from quantlab.backends import BackendSet, BuildSettings
    from quantlab.model import load_model
    from quantlab.report import build_document, load_document, write_report

    threshold = _threshold(v["fail_under"])
    metric = load_function(v["metric"], "metric") if v["metric"] else None
    baseline = load_document(v["baseline"]) if v["baseline"] else None
    given = dict(named_path(text) for text in quantized)
    if len(given) != len(quantized):
        raise ConfigError("two quantized models have the same name", hint="name them: first=a.onnx second=b.onnx")
    if not given and not v["backends"] and not v["calibration"]:
        raise ConfigError("nothing to compare with", hint="give quantized models, or --calibration images/")
    proto = load_model(model)
    models = {name: load_model(path) for name, path in given.items() if path.suffix not in ENGINES}
    batches = open_batches(proto, v, v["labels"])
    data = v | {"data": v["calibration"], "limit": None}
    calibration = open_batches(proto, data, None) if v["calibration"] else None
    files.check_folder(output)
    settings = BuildSettings(v["timing_cache"], v["builder_optimization_level"])
    with ExitStack() as stack:
        opened = stack.enter_context(BackendSet(proto, calibration, settings))
        _open(opened, v, batches, given)
        everything: dict[str, Any] = {**models, **{b.name: b for b in opened.backends}}
        if not everything:
            raise ConfigError("nothing to compare with: ort:fp32 is always there", hint="name a quantized backend")
        with progress("comparing", batches.count) as on_batch:
            result = quantlab.compare(proto, everything, batches, metric=metric, on_batch=on_batch)
    qdq = models | {f"ort:qdq:{name}": q.model for name, q in opened.quantized.items()}
    evidence = _evidence(proto, qdq, opened, result, list(islice(batches, SHOWN_BATCHES)), baseline)
    title = f"{model.name}: INT8 against FP32"
    warnings = [*opened.skipped, *(w for table in opened.tables.values() for w in table.warnings)]
    document = build_document(title, result, evidence, ["quantlab", *sys.argv[1:]], warnings)
    paths = write_report(document, output)
    print_comparison(result)
    for line in opened.skipped:
        click.echo(f"skipped: {line}", err=True)
    for row in result.results:
        if row.metric_failed:
            click.echo(row.metric_failed, err=True)
    click.echo(f"report: {paths.html}")
    _finish(ctx, result, threshold)


def _open(opened: BackendSet, v: dict[str, Any], batches: Any, given: dict[str, Path]) -> None:
    """The backends that were asked for, or all that may work where calibration data alone was given; and engines."""
    from quantlab.backends import default_specs, parse_backend

    batch = next(iter(batches), None)
    if batch is None:
        raise ConfigError("there are no batches to compare on", hint="the data is empty")
    specs = []
    if v["backends"]:
        specs = [parse_backend(text.strip()) for text in v["backends"].split(",")]
    elif opened.calibration is not None:
        specs = default_specs()
    if clash := sorted({spec.name for spec in specs} & given.keys()):
        raise ConfigError(
            f"'{clash[0]}' is also the name of a backend", hint=f"name the file otherwise: mine={given[clash[0]]}"
        )
    engines = {name: path for name, path in given.items() if path.suffix in ENGINES}
    if specs or engines:
        opened.open(specs, batch, asked_for=bool(v["backends"]), engine_files=engines)


def _evidence(
    proto: onnx.ModelProto,
    qdq: dict[str, onnx.ModelProto],
    opened: BackendSet,
    result: Comparison,
    few: list[Any],
    baseline: dict[str, Any] | None,
) -> Any:
    """What the report shows beside the comparison."""
    from quantlab.model import QDQ_OPS
    from quantlab.pipeline import activation_ranges
    from quantlab.report import Evidence

    sound = {r.name for r in result.results if not r.failed}
    traced = {n: m for n, m in qdq.items() if n in sound and any(x.op_type in QDQ_OPS for x in m.graph.node)}
    traces = {}
    for name, qdq_model in traced.items():
        try:
            traces[name] = quantlab.trace_error(proto, qdq_model, few)
        except QuantlabError as error:  # the comparison stands without it
            click.echo(f"warning: where the error of '{name}' comes from cannot be shown: {error.message}", err=True)
    best = result.best.name if result.best else ""
    found = opened.quantized.get(best.removeprefix("ort:qdq:").removeprefix("trt:qdq:"))
    return Evidence(activation_ranges(proto, qdq, few), found.placement if found else None, traces, baseline)


def _threshold(text: str | None) -> float | None:
    if text is None or text in THRESHOLDS:
        return THRESHOLDS[text] if text else None
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ConfigError(f"--fail-under {text} is no threshold", hint=f"{', '.join(THRESHOLDS)} or a percentage")
    return value


def _finish(ctx: click.Context, result: Comparison, threshold: float | None) -> None:
    """The exit code: 2 after an interruption or a metric that raised, 3 for a failed backend or too little accuracy."""
    if result.partial or any(row.metric_failed for row in result.results):
        click.echo("interrupted: the report is partial" if result.partial else "the metric failed", err=True)
        ctx.exit(2)
    failed = [row.name for row in result.results if row.failed]
    if threshold is not None:
        retained = {row.name: row.retained(result.fp32) for row in result.results[1:] if not row.failed}
        fp32 = result.fp32.metric if result.fp32.metric is not None else result.fp32.top1
        if fp32 is not None and fp32 <= 0:
            raise ConfigError(f"FP32's own accuracy is {fp32:g}: no share of it can be kept", hint="check the labels")
        if any(share is None for share in retained.values()):
            raise ConfigError("--fail-under needs an accuracy", hint="give --labels, class folders or --metric")
        low = [
            f"{name} keeps {share:.2%}" for name, share in retained.items() if share is not None and share < threshold
        ]
        for line in low:
            click.echo(f"below {threshold:.2%} of FP32: {line}", err=True)
        failed += low
    if failed:
        ctx.exit(3)


def named_path(text: str) -> tuple[str, Path]:
    """`name=path`, or a path, whose stem is then the name."""
    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator and not Path(text).exists() else (Path(text).stem, Path(text))


def load_function(text: str, what: str) -> Any:
    """`file.py:NAME`, from the user's own file. ConfigError if there is no such file or name."""
    import runpy

    file, _, name = text.rpartition(":")
    if not file or not Path(file).is_file():
        raise ConfigError(f"{what} '{text}' is not file.py:NAME", hint=f"a Python file with the {what}, and its name")
    try:
        names = runpy.run_path(file)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{file} cannot be run: {reason}", hint=f"run it by itself: python {file}") from error
    if name not in names:
        raise ConfigError(f"{file} has no '{name}'", hint=f"name the {what} after the colon")
    return names[name]
