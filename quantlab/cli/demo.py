"""`quantlab demo`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from quantlab.cli.as_json import json_option, print_json, rows_of
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import DEMO_FOLDER, SAMPLE_FOLDER
from quantlab.cli.options import print_warnings, refuse_idle
from quantlab.cli.progress import progress
from quantlab.cli.say import echo
from quantlab.cli.tables import print_comparison


@click.command("demo", cls=FileCommand)
@click.option(
    "-o", "--output", type=DEMO_FOLDER, default=Path("quantlab-demo"), show_default=True, help="Folder for the results."
)
@click.option("--unpack", type=SAMPLE_FOLDER, help="Only write the sample there: a model and folders of images.")
@json_option
def command(output: Path, unpack: Path | None, as_json: bool) -> None:
    """Calibrate, quantize, compare and report on the embedded sample (Fashion-MNIST).

    \b
    Example:
      quantlab demo
      quantlab demo --unpack sample
    """
    if unpack is not None:
        refuse_idle(["output"], "--unpack writes the sample only")
        from quantlab.data.sample import unpack_sample

        folder = unpack_sample(unpack)
        print_json({"sample": folder}) if as_json else echo(f"the sample: {folder}")
        return
    from quantlab.api import calibrate_all
    from quantlab.observers import OBSERVERS
    from quantlab.report.from_sample import open_sample, report_sample

    sample = open_sample()
    with progress("calibrating", sample.calibration.count) as on_batch:
        run = calibrate_all(sample.proto, sample.calibration, OBSERVERS, on_batch=on_batch)
    with progress("comparing", sample.test.count) as on_batch:
        done = report_sample(sample, run, output, ["quantlab", *sys.argv[1:]], on_batch)
    if as_json:
        files = {"model": done.model, "table": done.table, "report": done.paths}
        print_warnings(done.comparison.warnings)
        print_json({"best": done.best, "models": rows_of(done.comparison), "files": files})
        return
    print_comparison(done.comparison)
    echo(f"best: {done.best}, written as {done.model} and {done.table}")
    echo(f"report: {done.paths.html}")
