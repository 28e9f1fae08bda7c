"""`quantlab merge`."""

from __future__ import annotations

from pathlib import Path

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import OUTPUT_SCALES, TABLE
from quantlab.cli.options import algorithm_option, print_warnings, refuse_idle
from quantlab.cli.say import echo


@click.command("merge", cls=FileCommand)
@click.argument("parts", nargs=-1, required=True, type=TABLE)
@algorithm_option("minmax, entropy, percentile-P, mse.")
@click.option(
    "-o",
    "--output",
    type=OUTPUT_SCALES,
    required=True,
    help="The table to write, NAME.json; of caches, NAME.cache too.",
)
@json_option
def command(parts: tuple[Path, ...], algorithm: str, output: Path, as_json: bool) -> None:
    """One table from PARTS of the data that were calibrated apart: .npz files, min-max tables, or caches of TensorRT's
    min-max calibrator; or from parts of `quantlab sensitivity --part`.

    \b
    Example:
      quantlab calibrate m.onnx --data part1/ --preset imagenet --order-independent -o part1.npz
      quantlab merge part1.npz part2.npz --algorithm mse -o table.json
      quantlab merge part1.cache part2.cache -o whole.cache
      quantlab merge sens1.json sens2.json -o sens.json
    """
    from quantlab.calibration import merge_files
    from quantlab.calibration.merged import save_merged_cache
    from quantlab.calibration.own_observer import named_observer
    from quantlab.qdq.outputs import output_kind
    from quantlab.tune.sensitivity_merge import is_sensitivity, merge_sensitivity_files

    kind = output_kind(output, (".json", ".cache"))
    if is_sensitivity(parts[0]):
        output_kind(output, (".json",))
        refuse_idle(["algorithm"], "these are parts of a sensitivity analysis, which has none")
        whole = merge_sensitivity_files(parts)
        whole.save(output)
        print_warnings(whole.warnings)
        if as_json:
            print_json({"output": output, "units": len(whole.rows), "parts": len(parts), "warnings": whole.warnings})
        else:
            echo(f"{output}: sensitivity of {len(whole.rows)} units in {len(parts)} parts")
        return
    if algorithm != "minmax" and not any(part.suffix == ".npz" for part in parts):
        refuse_idle(["algorithm"], "tables of min-max stay min-max; another algorithm needs .npz parts")
    table = merge_files(parts, named_observer(algorithm))
    if kind.suffix == ".cache":
        save_merged_cache(table, output)
    else:
        table.save(output)
    print_warnings(table.warnings)
    p = table.provenance
    if as_json:
        facts = {"output": output, "tensors": len(table.amax), "algorithm": p.algorithm, "samples": p.samples}
        print_json(facts | {"parts": len(parts), "warnings": table.warnings})
        return
    samples = f"{p.samples} samples in " if p.samples else ""
    echo(f"{output}: {len(table.amax)} tensors, {p.algorithm}, {samples}{len(parts)} parts")
