"""`quantlab build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.options import PATH, open_source, optional_data_options
from quantlab.cli.trt_options import build_options, to_build_options
from quantlab.files import check_output


@click.command("build")
@click.argument("model", type=PATH)
@build_options
@optional_data_options
@click.option("--calibrator", default="entropy2", show_default=True, help="entropy2, minmax, entropy or legacy.")
@click.option("--cache", type=PATH, help="Calibration cache to reuse if it fits, and to write.")
@click.option("--trust-cache", is_flag=True, help="Use the cache even if its record is missing or does not fit.")
@click.option("--table", type=PATH, help="Scales from a quantlab table or any TensorRT cache.")
@click.option("--dynamic-ranges", is_flag=True, help="Set the table's ranges on the tensors in place of a cache.")
@click.option("-o", "--output", type=PATH, required=True, help="The engine to write; its record goes beside it.")
def command(model: Path, output: Path, **v: Any) -> None:
    """Build a TensorRT engine from MODEL: FP32 to INT8, by calibrator, table or Q/DQ.

    \b
    Example:
      quantlab build resnet.onnx --best --data images/ --preset imagenet --cache c.cache -o resnet.engine
    """
    from functools import partial

    from quantlab.cli.engine_runtime import runtime
    from quantlab.engines.choose_int8 import Int8Request, calibration_batch
    from quantlab.engines.jobs import build_engine
    from quantlab.onnx_model import input_specs, load_model

    check_output(output, model)
    options = to_build_options(v)
    proto = load_model(model)
    names = [spec.name for spec in input_specs(proto)]
    batches = partial(open_source, names, calibration_batch(proto, options), v, None)
    chosen = {name: v[name] for name in ("calibrator", "cache", "trust_cache", "table", "dynamic_ranges")}
    request = Int8Request(batches=None if v["data"] is None else batches, **chosen)
    engine = build_engine(runtime(), proto, options, request)
    engine.save(output)
    for warned in engine.warnings:
        click.echo(f"warning: {warned}", err=True)
    click.echo(f"{output}: {engine.summary}")
