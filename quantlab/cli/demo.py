"""`quantlab demo`."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import click

import quantlab
from quantlab import files
from quantlab.cli.options import PATH
from quantlab.cli.progress import progress
from quantlab.cli.tables import print_comparison


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
    from quantlab.cli.compare import SHOWN_BATCHES
    from quantlab.large import save_model
    from quantlab.model import load_model
    from quantlab.observers import OBSERVERS
    from quantlab.report import Evidence, build_document, write_report
    from quantlab.sample import PRESET, sample_folder

    files.check_folder(output)
    sample = sample_folder()
    proto = load_model(sample / "model.onnx")
    preprocess = quantlab.PRESETS[PRESET]
    calibration = quantlab.image_folder(sample / "calibration", preprocess, input_name="image", batch_size=64)
    with progress("calibrating", calibration.count) as on_batch:
        run = quantlab.calibrate_all(proto, calibration, OBSERVERS, on_batch=on_batch)
    quantized = {name: quantlab.quantize(proto, table) for name, table in run.tables.items()}
    test = quantlab.image_folder(sample / "test", preprocess, input_name="image", batch_size=100)
    with progress("comparing", test.count) as on_batch:
        result = quantlab.compare(proto, {n: q.model for n, q in quantized.items()}, test, on_batch=on_batch)
    best = result.best
    assert best is not None
    placement = quantized[best.name].placement
    warnings = [w for q in quantized.values() for w in q.warnings]
    title = "Fashion-MNIST sample: INT8 against FP32"
    few = list(islice(test, SHOWN_BATCHES))
    traces = {name: quantlab.trace_error(proto, q.model, few) for name, q in quantized.items()}
    evidence = Evidence(run, placement, traces)
    document = build_document(title, result, evidence, ["quantlab", *sys.argv[1:]], warnings)
    files.make_folder(output)
    run.tables[best.name].save(output / "table.json")
    save_model(quantized[best.name].model, output / "model.qdq.onnx")
    paths = write_report(document, output)
    print_comparison(result)
    click.echo(f"best: {best.name}, written as {output / 'model.qdq.onnx'} and {output / 'table.json'}")
    click.echo(f"report: {paths.html}")
