"""`quantlab provider`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import MODEL, TABLE
from quantlab.cli.say import echo
from quantlab.cli.trt_options import parse_shapes


@click.command("provider", cls=FileCommand)
@click.argument("model", type=MODEL)
@click.option("--table", type=TABLE, help="Of an FP32 MODEL: calibration.flatbuffers, or a TensorRT calibration cache.")
@click.option("--batch", type=int, help="Largest batch of a model with a dynamic batch.  [default: as batches come]")
@click.option("--shapes", default="", help="input:1x3x224x224[,other:...] for other dynamic dimensions.")
@click.option("--no-fp16", is_flag=True, help="What is not INT8 stays FP32.")
@click.option("--engine-cache", help="The folder where the provider keeps engines.")
@json_option
def command(model: Path, table: Path | None, shapes: str, as_json: bool, **v: Any) -> None:
    """Print the options of ONNX Runtime's TensorRT provider for MODEL: Q/DQ, or FP32 with a --table.

    \b
    Example:
      quantlab provider resnet.onnx --table calibration.flatbuffers --batch 32
    """
    from quantlab.engines.provider import PROVIDER, ProviderOptions, provider

    engine_cache = None if v["engine_cache"] is None else Path(v["engine_cache"])
    options = ProviderOptions(v["batch"], parse_shapes(shapes), not v["no_fp16"], engine_cache)
    found = provider(model, table, options)
    if as_json:
        print_json({"provider": PROVIDER, "model": str(found.model), "options": dict(found.options)})
    else:
        echo(found.python().rstrip())
