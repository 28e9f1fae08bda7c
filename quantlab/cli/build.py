"""`quantlab build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_types import MODEL, OUTPUT_ENGINE, SHARED_CACHE, TABLE
from quantlab.cli.options import DATA_DETAILS, open_source, optional_data_options, print_warnings, refuse_idle
from quantlab.cli.say import echo
from quantlab.cli.trt_options import build_options, to_build_options
from quantlab.cli.trtexec_names import EngineCommand


@click.command("build", cls=EngineCommand)
@click.argument("model", type=MODEL)
@build_options
@optional_data_options
@click.option("--calibrator", default="entropy2", show_default=True, help="entropy2, minmax, entropy or legacy.")
@click.option("--cache", type=SHARED_CACHE, help="Calibration cache to reuse if it fits, and to write.")
@click.option("--trust-cache", is_flag=True, help="Use the cache even if its record is missing or does not fit.")
@click.option("--table", type=TABLE, help="A quantlab table, or a calibration cache of TensorRT or ONNX Runtime.")
@click.option("--dynamic-ranges", is_flag=True, help="Set the table's ranges on the tensors in place of a cache.")
@click.option(
    "-o", "--output", type=OUTPUT_ENGINE, required=True, help="The engine to write; its record goes beside it."
)
@json_option
def command(model: Path, output: Path, as_json: bool, **v: Any) -> None:
    """Build a TensorRT engine from MODEL: FP32 to INT8, by calibrator, table or Q/DQ.

    \b
    Example:
      quantlab build resnet.onnx --best --data images/ --preset imagenet --cache c.cache -o resnet.engine
    """
    from functools import partial

    from quantlab.calibration import load_table
    from quantlab.calibration.made_from import version_notices
    from quantlab.cli.engine_runtime import runtime
    from quantlab.engines.choose_int8 import Int8Request, calibration_batch
    from quantlab.engines.jobs import build_engine
    from quantlab.onnx_model import input_specs, load_model

    if v["data"] is None:
        refuse_idle([*DATA_DETAILS, "calibrator"], "there is no --data to calibrate on")
    if v["cache"] is None:
        refuse_idle(["trust_cache"], "there is no --cache")
    elif v["table"] is not None:
        refuse_idle(["cache", "trust_cache"], "the scales come from --table")
    if not v["layer_precisions"] and not v["layer_output_types"]:
        refuse_idle(["precision_constraints"], "no precision of a layer is given")
    options = to_build_options(v)
    proto = load_model(model)
    names = [spec.name for spec in input_specs(proto)]
    batches = partial(open_source, names, calibration_batch(proto, options), v, None)
    chosen = {name: v[name] for name in ("calibrator", "cache", "trust_cache", "table", "dynamic_ranges")}
    request = Int8Request(batches=None if v["data"] is None else batches, **chosen)
    engine = build_engine(runtime(), proto, options, request)
    engine.save(output)
    if request.scales is not None:
        header = load_table(request.scales).provenance.algorithm
        print_warnings(version_notices(header, engine.record.tensorrt))
    for warned in engine.warnings:
        echo(f"warning: {warned}", err=True)
    if as_json:
        facts = {"output": output, "summary": engine.summary, "bytes": len(engine.plan)}
        print_json(facts | {"record": engine.record, "warnings": engine.warnings})
    else:
        echo(f"{output}: {engine.summary}")
