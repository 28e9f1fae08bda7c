"""`quantlab migrate`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import click

from quantlab import files
from quantlab.cli.options import PATH
from quantlab.errors import ConfigError


@click.command("migrate")
@click.argument("model", type=PATH)
@click.option("--table", "table_file", type=PATH, help="A quantlab table, or TensorRT's or ONNX Runtime's.")
@click.option("--calibrator", default="EntropyCalibration2", show_default=True, help="First line of a written cache.")
@click.option("--tensorrt", default="8.6.0", show_default=True, help="Who will read a written cache.")
@click.option(
    "-o", "--output", type=PATH, required=True,
    help="NAME.onnx for Q/DQ, NAME.cache for a TensorRT cache, NAME.flatbuffers for ONNX Runtime's TensorRT provider.",
)  # fmt: skip
def command(model: Path, table_file: Path | None, calibrator: str, tensorrt: str, output: Path) -> None:
    """Turn a TensorRT calibration cache and its FP32 MODEL into a Q/DQ model, or a Q/DQ MODEL into a cache.

    \b
    Example:
      quantlab migrate resnet.onnx --table calibration.cache -o resnet.qdq.onnx
    """
    from quantlab.calibration import load_table, save_ep_table, table_from_cache
    from quantlab.calibration.trt_cache import version_digits
    from quantlab.large import save_model
    from quantlab.migration import migrate_to_cache, migrate_to_qdq

    files.check_output(output, model, *([table_file] if table_file else []))
    table = load_table(table_file) if table_file else None
    if output.suffix in (".cache", ".flatbuffers"):
        if not re.fullmatch(r"\d+\.\d+\.\d+", tensorrt):
            raise ConfigError(f"TensorRT '{tensorrt}' is no version", hint="write all three numbers: 10.16.1")
        cache = migrate_to_cache(model, table, calibrator)
        cache = replace(cache, header=f"TRT-{version_digits(tensorrt)}-{calibrator}")
        if output.suffix == ".cache":
            cache.save(output)
        else:
            save_ep_table(table_from_cache(cache), output)
        click.echo(
            f"{output}: {len(cache.scales)} tensors" + (f", {cache.header}" if output.suffix == ".cache" else "")
        )
        return
    if output.suffix != ".onnx":
        raise ConfigError(
            f"output {output} is neither .onnx nor .cache nor .flatbuffers", hint="the suffix says which way to go"
        )
    if table is None:
        raise ConfigError("no scales were given", hint="--table calibration.cache")
    result = migrate_to_qdq(model, table)
    save_model(result.model, output)
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
    changed = [row for row in result.parity if row.relative]
    click.echo(
        f"{output}: {len(result.parity)} tensors, {len(result.parity) - len(changed)} with exactly the given scale"
    )
    for row in sorted(changed, key=lambda r: -abs(r.relative)):
        click.echo(f"  shared scale: '{row.tensor}' {row.given:.6g} -> {row.used:.6g} ({row.relative:+.2%})")
    missing = {f"{s.op}: {s.reason}" for s in result.placement.skipped if "has no scale" in s.reason}
    for line in sorted(missing):
        click.echo(f"  float: {line}")
    click.echo(f"  {len(result.unused)} tensors of the table need no Q/DQ")
