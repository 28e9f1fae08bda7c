"""`quantlab merge`."""

from __future__ import annotations

from pathlib import Path

import click

from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import FILE, OUTPUT
from quantlab.cli.options import print_warnings, refuse_idle
from quantlab.cli.say import echo


@click.command("merge", cls=FileCommand)
@click.argument("parts", nargs=-1, required=True, type=FILE)
@click.option("--algorithm", default="entropy", show_default=True, help="minmax, entropy, percentile-P, mse.")
@click.option("-o", "--output", type=OUTPUT, required=True, help="The table to write, NAME.json.")
def command(parts: tuple[Path, ...], algorithm: str, output: Path) -> None:
    """One table from PARTS of the data that were calibrated apart: .npz files, or min-max tables; or from parts of
    `quantlab sensitivity --part`.

    \b
    Example:
      quantlab calibrate m.onnx --data part1/ --preset imagenet --order-independent -o part1.npz
      quantlab merge part1.npz part2.npz --algorithm mse -o table.json
      quantlab merge sens1.json sens2.json -o sens.json
    """
    from quantlab.calibration import merge_files
    from quantlab.observers import observer_by_name
    from quantlab.qdq.outputs import output_kind
    from quantlab.tune.sensitivity_merge import is_sensitivity, merge_sensitivity_files

    output_kind(output, (".json",))
    if is_sensitivity(parts[0]):
        refuse_idle(["algorithm"], "these are parts of a sensitivity analysis, which has none")
        whole = merge_sensitivity_files(parts)
        whole.save(output)
        print_warnings(whole.warnings)
        echo(f"{output}: sensitivity of {len(whole.rows)} units in {len(parts)} parts")
        return
    if algorithm != "minmax" and not any(part.suffix == ".npz" for part in parts):
        refuse_idle(["algorithm"], "tables of min-max stay min-max; another algorithm needs .npz parts")
    table = merge_files(parts, observer_by_name(algorithm))
    table.save(output)
    print_warnings(table.warnings)
    p = table.provenance
    echo(f"{output}: {len(table.amax)} tensors, {p.algorithm}, {p.samples} samples in {len(parts)} parts")
