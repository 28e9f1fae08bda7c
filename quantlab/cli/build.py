"""`quantlab build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab import files
from quantlab.cli.options import PATH, open_source, optional_data_options
from quantlab.cli.trt_options import build_options, to_build_options
from quantlab.errors import ConfigError


@click.command("build")
@click.argument("model", type=PATH)
@build_options
@optional_data_options
@click.option("--calibrator", default="entropy2", show_default=True, help="entropy2, minmax, entropy or legacy.")
@click.option("--cache", type=PATH, help="Calibration cache to reuse if it fits, and to write.")
@click.option("--trust-cache", is_flag=True, help="Use the cache even if its record is missing or does not fit.")
@click.option("--table", "table_file", type=PATH, help="Scales from a quantlab table or any TensorRT cache.")
@click.option("--dynamic-ranges", is_flag=True, help="Set the table's ranges on the tensors in place of a cache.")
@click.option("-o", "--output", type=PATH, required=True, help="The engine to write; its record goes beside it.")
def command(model: Path, output: Path, **v: Any) -> None:
    """Build a TensorRT engine from MODEL: FP32 to INT8, by calibrator, table or Q/DQ.

    \b
    Example:
      quantlab build resnet.onnx --best --data images/ --preset imagenet --cache c.cache -o resnet.engine
    """
    from quantlab.model import load_model

    files.check_output(output, model)
    options = to_build_options(v)
    proto = load_model(model)
    from quantlab.trt.build import build

    engine = build(proto, options, _int8(proto, v, options))
    engine.save(output)
    for row in engine.warnings:
        where = f"{row.node}: " if row.node else ""
        click.echo(f"warning: {where}{row.meaning or row.text}" + (f" ({row.remedy})" if row.remedy else ""), err=True)
    click.echo(
        f"{output}: {len(engine.plan) / 2**20:.1f} MiB, {options.precision}"
        f"{', ' + engine.record.int8 if engine.record.int8 else ''}, built in {engine.record.build_seconds:.1f} s"
    )


def _int8(proto: Any, v: dict[str, Any], options: Any) -> object:
    """The source of the scales, or None."""
    if v["table_file"] is not None:
        if v["data"]:
            raise ConfigError("--table and --data were both given", hint="scales come from one of them")
        from quantlab.calibration import load_table
        from quantlab.trt.build import DynamicRanges

        table = load_table(v["table_file"])
        table.check_model(proto)
        if v["dynamic_ranges"]:
            return DynamicRanges(table)
        from quantlab.trt.calibrators import TableCalibrator

        return TableCalibrator(table)
    if v["dynamic_ranges"]:
        raise ConfigError("--dynamic-ranges without --table", hint="give the table with the ranges")
    if v["data"] is None:
        if v["cache"] is not None and v["trust_cache"]:
            return _int8(proto, v | {"table_file": v["cache"]}, options)
        if v["cache"] is not None:
            raise ConfigError(
                "--cache without --data: whether it fits cannot be told", hint="give --data, or --table CACHE"
            )
        return None
    return _calibrator(proto, v, options)


def _calibrator(proto: Any, v: dict[str, Any], options: Any) -> object:
    from quantlab.model import fixed_batch, input_specs
    from quantlab.trt.calibrators import CALIBRATORS, CalibratorOptions

    if v["calibrator"] not in CALIBRATORS:
        raise ConfigError(f"there is no calibrator '{v['calibrator']}'", hint=f"use {', '.join(CALIBRATORS)}")
    names = [s.name for s in input_specs(proto)]
    fixed = fixed_batch(proto)
    if fixed is None and options.profiles:
        fixed = next(iter(options.profiles[-1].opt.values()))[0]
    batches = open_source(names, fixed, v, None)
    return CALIBRATORS[v["calibrator"]](batches, CalibratorOptions(v["cache"], v["trust_cache"]))
