"""`quantlab triton`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import FILE, MODEL_OR_ENGINE, REPOSITORY, TABLE
from quantlab.cli.options import preprocess_options, print_warnings, refuse_idle
from quantlab.cli.say import echo
from quantlab.cli.trt_options import parse_shapes

if TYPE_CHECKING:
    from quantlab.triton import Repository, TritonOptions


@click.command("triton", cls=FileCommand)
@click.argument("model", type=MODEL_OR_ENGINE)
@click.option("-o", "--output", required=True, type=REPOSITORY, help="The model repository; other models in it stay.")
@click.option("--name", help="Of the model.  [default: MODEL's file name without its suffix]")
@click.option("--model-version", "version", type=int, default=1, show_default=True, help="The folder of MODEL.")
@click.option("--versions", default="latest:1", show_default=True, help="What is served: latest:N, all, specific:1,3.")
@click.option("--batch", type=int, help="Largest batch; 0 for none.  [default: the largest of an engine's profiles]")
@click.option("--shapes", default="", help="input:1x3x224x224[,other:...] of a request, for other dynamic dimensions.")
@click.option("--preferred-batch", "preferred", type=int, multiple=True, help="Run at once when reached; repeatable.")
@click.option("--max-queue-delay", type=int, default=0, show_default=True, help="Wait for others, in microseconds.")
@click.option("--no-dynamic-batching", is_flag=True, help="Requests are not put together.")
@click.option("--instances", type=int, default=1, show_default=True, help="On each GPU, or on the CPU.")
@click.option("--kind", type=click.Choice(["auto", "gpu", "cpu"]), default="auto", show_default=True, help="Where.")
@click.option("--gpu", "gpus", type=int, multiple=True, help="A GPU to run on; repeatable.  [default: all]")
@click.option(
    "--warmup",
    type=click.Choice(["zero", "random", "none"]),
    help="Data of the first requests, of the smallest and the largest batch.  [default: zero]",
)
@click.option(
    "--accelerator",
    type=click.Choice(["tensorrt", "none"]),
    help="Of ONNX Runtime.  [default: tensorrt for a Q/DQ MODEL, with --table and --fp16]",
)
@click.option("--fp16", is_flag=True, help="The accelerator may compute a float MODEL in FP16.")
@click.option("--table", type=TABLE, help="A calibration table or cache of an FP32 MODEL, for the accelerator.")
@click.option("--served-at", help="Where the server sees the repository (/models).  [default: where it is written]")
@click.option("--classes", type=FILE, help="A class list, for the labels of a classifier.")
@click.option("--ensemble", is_flag=True, help="Add the preprocess of decoded images, and a model of both.")
@preprocess_options
@json_option
def command(model: Path, output: Path, as_json: bool, **v: Any) -> None:
    """Write a model repository of Triton for MODEL, an ONNX model or an engine of quantlab build.

    \b
    Example:
      quantlab triton resnet.qdq.onnx --batch 32 --ensemble -o repository/
    """
    from quantlab.triton import write_repository

    if not v["ensemble"]:
        refuse_idle(["preset", "preprocess_file"], "there is no --ensemble")
    written = write_repository(model, output, _options(v))
    facts = [*written.facts]
    if written.unvalidated:
        facts.append(f"the configuration was not compared with Triton's schema: {written.unvalidated}")
    if as_json:
        print_json(_document(written) | {"notes": facts})
        return
    print_warnings(facts, "note")
    network = written.network
    for kind, tensors in (("input", network.inputs), ("output", network.outputs)):
        for tensor in tensors:
            echo(f"{kind} {tensor}")
    echo(f"{network.backend}, largest batch {network.batch or 'none'}; {_checked(written)}")
    for one in written.models:
        echo(f"{written.folder / one.name}: {', '.join(['config.pbtxt', *one.texts, *one.copies])}")
    for line in _commands(written):
        echo(line)


def _options(v: dict[str, Any]) -> TritonOptions:
    from quantlab.data.request import read_preprocess
    from quantlab.triton import Ensemble, Scheduling, TritonOptions

    scheduling = Scheduling(
        dynamic=not v["no_dynamic_batching"],
        preferred=v["preferred"],
        max_queue_delay_us=v["max_queue_delay"],
        instances=v["instances"],
        kind=v["kind"],
        gpus=v["gpus"],
        versions=v["versions"],
    )
    preprocess = read_preprocess(v["preset"], v["preprocess_file"])
    same = ("name", "version", "batch", "warmup", "accelerator", "fp16", "table", "served_at", "classes")
    return TritonOptions(
        shapes=parse_shapes(v["shapes"]),
        scheduling=scheduling,
        ensemble=Ensemble(preprocess, v["preprocess_file"]) if v["ensemble"] else None,
        **{name: v[name] for name in same},
    )


def _checked(written: Repository) -> str:
    return "not compared with Triton's schema" if written.unvalidated else "valid by Triton's schema"


def _commands(written: Repository) -> list[str]:
    rows = (written.server, *(one.perf for one in written.models), written.analyzer)
    return [shlex.join(row) for row in rows if row]


def _document(written: Repository) -> dict[str, Any]:
    network = written.network
    return {
        "repository": written.folder,
        "backend": network.backend,
        "max_batch_size": network.batch,
        "validated": not written.unvalidated,
        "models": [
            {"name": one.name, "files": ["config.pbtxt", *one.texts, *one.copies], "config": one.config}
            for one in written.models
        ],
        "commands": _commands(written),
    }
