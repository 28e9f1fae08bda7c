"""`quantlab demo`."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import click

from quantlab.cli.options import PATH
from quantlab.cli.progress import progress
from quantlab.cli.tables import print_comparison
from quantlab.files import check_folder, make_folder


@click.command("demo")
@click.option(
    "-o", "--output", type=PATH, default=Path("quantlab-demo"), show_default=True, help="Folder for the results."
)
def command(output: Path) -> None:
    """Calibrate, quantize, compare and report on the embedded sample (Fashion-MNIST).

    \b
    Example:
      quantlab demo
    """
    from quantlab.api import calibrate_all, compare, quantize
    from quantlab.comparison import trace_error
    from quantlab.data import PRESETS, image_folder
    from quantlab.data.sample import PRESET, sample_folder
    from quantlab.observers import OBSERVERS
    from quantlab.onnx_model import load_model, save_model
    from quantlab.report import Evidence, build_document, write_document
    from quantlab.report.from_comparison import SHOWN_BATCHES

    check_folder(output)
    sample = sample_folder()
    proto = load_model(sample / "model.onnx")
    preprocess = PRESETS[PRESET]
    calibration = image_folder(sample / "calibration", preprocess, input_name="image", batch_size=64)
    with progress("calibrating", calibration.count) as on_batch:
        run = calibrate_all(proto, calibration, OBSERVERS, on_batch=on_batch)
    quantized = {name: quantize(proto, table) for name, table in run.tables.items()}
    test = image_folder(sample / "test", preprocess, input_name="image", batch_size=100)
    with progress("comparing", test.count) as on_batch:
        result = compare(proto, dict(quantized), test, on_batch=on_batch)
    best = result.best.name
    warnings = [w for q in quantized.values() for w in q.warnings]
    title = "Fashion-MNIST sample: INT8 against FP32"
    few = list(islice(test, SHOWN_BATCHES))
    traces = {name: trace_error(proto, q.model, few) for name, q in quantized.items()}
    evidence = Evidence(run, quantized[best].placement, traces)
    document = build_document(title, result, evidence, ["quantlab", *sys.argv[1:]], warnings)
    make_folder(output)
    run.tables[best].save(output / "table.json")
    save_model(quantized[best].model, output / "model.qdq.onnx")
    paths = write_document(document, output)
    print_comparison(result)
    click.echo(f"best: {best}, written as {output / 'model.qdq.onnx'} and {output / 'table.json'}")
    click.echo(f"report: {paths.html}")
