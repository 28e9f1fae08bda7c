"""`quantlab sensitivity`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.as_json import json_option, print_json, rows_of
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import MODEL, OUTPUT, TABLE, TEXT, WORK_FOLDER
from quantlab.cli.options import data_options, labels_options, open_batches, print_warnings, refuse_idle
from quantlab.cli.progress import progress
from quantlab.cli.say import echo
from quantlab.cli.tables import Table, print_table
from quantlab.errors import ConfigError
from quantlab.files import together, write_bytes, write_text
from quantlab.nearest import nearest

if TYPE_CHECKING:
    from quantlab.comparison.task import Metric
    from quantlab.tune import Effect, SensitivityRow, SensitivityTable

WORST = 8
"""Layers and tensors that are printed, of each kind."""


@click.command("sensitivity", cls=FileCommand)
@click.argument("model", type=MODEL)
@click.option(
    "--table",
    "table_file",
    type=TABLE,
    required=True,
    help="A quantlab table, or a calibration cache of TensorRT or ONNX Runtime.",
)
@data_options
@labels_options
@click.option("--metric", type=TEXT, help="top-1, or file.py:NAME as of compare.  [default: top-1 if there are labels]")
@click.option(
    "--method",
    type=click.Choice(["all", "estimate"]),
    default="all",
    show_default=True,
    help="Measure and estimate, or estimate from a few samples only, which is quick.",
)
@click.option("--part", metavar="K/N", help="Measure every N-th unit from the K-th on; `quantlab merge` joins parts.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Processes; -1 for as many as there are cores.")
@click.option("--keep", type=WORK_FOLDER, help="Folder for what is finished: an interrupted run goes on from there.")
@click.option("--csv", "csv_file", type=OUTPUT, help="Write all rows as CSV too.")
@click.option("--plot", "plot_file", type=OUTPUT, help="Draw the worst layers and tensors: NAME.png or NAME.svg.")
@click.option("-o", "--output", type=OUTPUT, required=True, help="The table to write, NAME.json.")
@json_option
def command(
    model: Path, table_file: Path, output: Path, csv_file: Path | None, plot_file: Path | None, as_json: bool, **v: Any
) -> None:
    """Measure what INT8 does to the outputs of MODEL when it is in one layer, tensor or kind of layers alone.

    \b
    Example:
      quantlab sensitivity resnet.onnx --table table.json --data val/ --preset imagenet -o sens.json
      quantlab sensitivity resnet.onnx --table table.json --data val/ --method estimate -o sens.json
    """
    from quantlab.api import sensitivity
    from quantlab.calibration import load_table
    from quantlab.onnx_model import load_model
    from quantlab.tune import SensitivityOptions

    for path, suffixes in ((output, (".json",)), (csv_file, (".csv",)), (plot_file, (".png", ".svg"))):
        _check_suffix(path, suffixes)
    if v["method"] == "estimate":
        refuse_idle(["jobs", "keep"], "an estimate is one short pass, of which nothing is kept")
    part = _part(v["part"])
    proto = load_model(model)
    table = load_table(table_file)
    table.check_model(proto)
    metric = _metric(v["metric"])  # code of the user: after all that is quick to check
    options = SensitivityOptions(metric, v["method"], part, n_jobs=v["jobs"], folder=v["keep"])
    batches = open_batches(proto, v, v["labels"])
    with progress("measuring", batches.count) as on_batch:
        found = sensitivity(proto, table, batches, options=options, on_batch=on_batch)
    write = _plot(plot_file, found) if plot_file else None  # whatever fails, fails before anything is written
    with together():
        found.save(output)
        if csv_file:
            write_text(csv_file, found.to_csv())
        if write:
            write()
    print_warnings(found.warnings)
    if as_json:
        facts = {"output": output, "units": len(found.units), "rows": rows_of(found), "warnings": found.warnings}
        print_json(facts | {"provenance": found.provenance})
        return
    _print(found)
    echo(f"{output}: {len(found.rows)} of {len(found.units)} units, {found.provenance.samples} samples")


def _check_suffix(path: Path | None, suffixes: tuple[str, ...]) -> None:
    if path is not None and path.suffix not in suffixes:
        hint = " or ".join(f"NAME{suffix}" for suffix in suffixes)
        raise ConfigError(f"output {path} has suffix '{path.suffix}', expected {' or '.join(suffixes)}", hint=hint)


def _metric(text: str | None) -> Metric | str | None:
    from quantlab.comparison.task import load_metric
    from quantlab.tune.sensitivity import TOP1

    if text in (None, TOP1):
        return text
    if ":" not in text and (question := nearest(text, [TOP1])):
        raise ConfigError(f"there is no metric '{text}'", hint=f"{question}or file.py:NAME")
    return load_metric(text)


def _part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, second = text.partition("/")
    if not (first.isdecimal() and second.isdecimal()):
        raise ConfigError(f"--part {text} is no part", hint="--part 1/4 is the first of four")
    return int(first), int(second)


def _plot(path: Path, found: SensitivityTable) -> Callable[[], None]:
    from quantlab.report.sensitivity_plot import sensitivity_image

    image = sensitivity_image(found, path.suffix.removeprefix("."))
    return lambda: write_bytes(path, image)


def _print(found: SensitivityTable) -> None:
    """The worst layers and tensors, every class, and everything at once."""
    rows = [*found.of_kind("all"), *found.worst("layer")[:WORST], *found.worst("tensor")[:WORST], *found.worst("class")]
    metric = found.provenance.metric
    table = Table(title=f"INT8 there alone, {found.provenance.samples} samples")
    for heading in ("kind", "name", "SQNR dB", "estimate dB", "changed", *[f"{metric} drop"] * bool(metric), "without"):
        table.add_column(heading, justify="left" if heading in ("kind", "name") else "right")
    for row in rows:
        table.add_row(*_cells(found, row, bool(metric)))
    print_table(table)
    for kind in ("layer", "tensor"):
        correlation = found.rank_correlation(kind)
        if correlation is not None:
            echo(f"the estimate ranks {kind}s as the truth does: Spearman {correlation:.2f}")


def _cells(found: SensitivityTable, row: SensitivityRow, with_metric: bool) -> list[str]:
    from quantlab.tune.sensitivity_table import noise_db

    estimate = None if row.estimate is None else noise_db(row.estimate)
    changed = row.alone.changed if row.alone else None
    drop = found.metric_drop(row.alone)
    cells = [row.kind, row.name, _db(row.alone), _number(estimate), "–" if changed is None else f"{changed:.2%}"]
    cells += ["–" if drop is None else f"{drop:+.4f}"] if with_metric else []
    return [*cells, _db(row.without)]


def _db(effect: Effect | None) -> str:
    return _number(None if effect is None else effect.sqnr_db)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("inf", "∞")
