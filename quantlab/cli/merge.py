"""`quantlab merge`."""

from __future__ import annotations

from pathlib import Path

import click

from quantlab import files
from quantlab.cli.options import PATH, resolve_algorithm
from quantlab.errors import ConfigError


@click.command("merge")
@click.argument("parts", nargs=-1, required=True, type=PATH)
@click.option("--algorithm", default="entropy", show_default=True, help="minmax, entropy, percentile-P, mse.")
@click.option("-o", "--output", type=PATH, required=True, help="The table (.json) to write.")
def command(parts: tuple[Path, ...], algorithm: str, output: Path) -> None:
    """One table from PARTS of the data that were calibrated apart: .npz files, or min-max tables.

    \b
    Example:
      quantlab calibrate m.onnx --data part1/ --preset imagenet --order-independent -o part1.npz
      quantlab merge part1.npz part2.npz --algorithm mse -o table.json
    """
    from quantlab.calibration import CalibrationShard, load_table, merge_minmax, merge_shards

    files.check_output(output, *parts)
    observer = resolve_algorithm(algorithm)
    suffixes = {part.suffix for part in parts}
    if suffixes == {".npz"}:
        table = merge_shards([CalibrationShard.load(part) for part in parts]).table(observer)
    elif ".npz" in suffixes:
        raise ConfigError("parts are .npz files and tables mixed", hint="merge .npz files, or min-max tables")
    else:
        table = merge_minmax([load_table(part) for part in parts])
    table.save(output)
    for warning in table.warnings:
        click.echo(f"warning: {warning}", err=True)
    p = table.provenance
    click.echo(f"{output}: {len(table.amax)} tensors, {p.algorithm}, {p.samples} samples in {len(parts)} parts")
