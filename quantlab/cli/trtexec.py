"""`quantlab trtexec`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_types import MODEL_OR_ENGINE, OUTPUT, SHARED, TABLE
from quantlab.cli.options import refuse_idle
from quantlab.cli.say import echo
from quantlab.cli.trt_options import parse_shapes
from quantlab.cli.trtexec_names import TrtexecCommand


@click.command("trtexec", cls=TrtexecCommand)
@click.argument("model", type=MODEL_OR_ENGINE)
@click.option("--cache", type=TABLE, help="The calibration cache of an FP32 MODEL (TensorRT 8.6 to 10).")
@click.option("--batch", type=int, help="Largest batch of a model with a dynamic batch; the smallest is 1.")
@click.option("--shapes", default="", help="input:1x3x224x224[,other:...] for other dynamic dimensions.")
@click.option(
    "--tensorrt", type=click.Choice(["8", "10", "11"]), default="10", show_default=True, help="The version of trtexec."
)
@click.option("--no-fp16", is_flag=True, help="What is not INT8 stays FP32.")
@click.option("--strongly-typed", is_flag=True, help="Take all types from a Q/DQ MODEL (TensorRT 10; 11 always does).")
@click.option("--save-engine", type=OUTPUT, help="The engine to write.")
@click.option("--timing-cache", type=SHARED, help="Timing cache to read and extend.")
@click.option("--cuda-graph", is_flag=True, help="Measure with a CUDA graph.")
@click.option("--export-profile", type=OUTPUT, help="The JSON file that trtexec writes the times of the layers to.")
@json_option
def command(model: Path, cache: Path | None, shapes: str, tensorrt: str, as_json: bool, **v: Any) -> None:
    """Print the trtexec command line that builds an INT8 engine from MODEL: Q/DQ, or FP32 with a --cache. For an engine
    of quantlab build it is the line that runs and measures it.

    \b
    Example:
      quantlab trtexec resnet.qdq.onnx --batch 32 --tensorrt 11 --save-engine resnet.engine
    """
    from quantlab.engines.engine import is_engine
    from quantlab.engines.trtexec import TrtexecOptions, trtexec_command
    from quantlab.engines.trtexec_engine import trtexec_run_command

    if v["strongly_typed"] or tensorrt == "11":
        refuse_idle(["no_fp16"], "a strongly typed network takes its types from the model (quantlab fp16)")
    fp16 = not v.pop("no_fp16")
    options = TrtexecOptions(tensorrt=int(tensorrt), shapes=parse_shapes(shapes), fp16=fp16, **v)
    if is_engine(model):
        refuse_idle(["cache", "no_fp16"], "the engine is built already")
        arguments = trtexec_run_command(model, options)
    else:
        arguments = trtexec_command(model, cache, options)
    if as_json:
        print_json({"tensorrt": options.tensorrt, "arguments": arguments, "line": shlex.join(arguments)})
    else:
        echo(shlex.join(arguments))
