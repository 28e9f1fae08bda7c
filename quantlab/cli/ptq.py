"""`quantlab ptq`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.as_json import json_option, print_json, rows_of
from quantlab.cli.config_file import config_option, written_config
from quantlab.cli.file_types import MODEL, PTQ_FOLDER, TEXT
from quantlab.cli.options import build_options, data_options, labels_options, open_batches, print_warnings
from quantlab.cli.progress import next_stage, progress
from quantlab.cli.say import echo, note
from quantlab.cli.tables import print_comparison
from quantlab.cli.trtexec_names import EngineCommand
from quantlab.errors import ConfigError
from quantlab.files import is_same_file, read_text

if TYPE_CHECKING:
    import onnx

    from quantlab.comparison.preset_ranking import PresetScore
    from quantlab.data.parts import Parts, Samples
    from quantlab.report.ptq import PtqResult

TRIED = 256
"""Images that presets are tried on."""


@click.command("ptq", cls=EngineCommand)
@click.argument("model", type=MODEL)
@data_options
@labels_options
@click.option(
    "--calibration", type=TEXT, help="Other data to calibrate with, read like --data.  [default: up to half of --data]"
)
@click.option(
    "--metric", type=TEXT, help="file.py:NAME, a function of (outputs, labels) or a class with update and compute."
)
@click.option(
    "--fail-under",
    help="The bar: mlperf-99, mlperf-99.9 or percent of FP32's accuracy; needs labels or a metric.  [default: "
    "mlperf-99 with them; without, how many samples keep their class, or the SQNR]",
)  # fmt: skip
@build_options
@click.option(
    "-o", "--output", type=PTQ_FOLDER, required=True, help="Folder for everything; a run that was cut off goes on."
)
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, model: Path, output: Path, as_json: bool, **v: Any) -> None:
    """From the FP32 MODEL and data to the INT8 model that ships: every algorithm is tried, the best is written, judged
    and explained.

    \b
    Example:
      quantlab ptq resnet.onnx --data images/ --preset imagenet -o out/
    """
    from quantlab.cli.engine_runtime import runtime
    from quantlab.comparison.judge import parse_threshold
    from quantlab.comparison.task import load_metric
    from quantlab.engines.options import BuildSettings
    from quantlab.onnx_model import load_model
    from quantlab.report.ptq import PREPROCESS, PtqRequest, ptq

    bar = None if v["fail_under"] is None else parse_threshold(v["fail_under"])
    proto = load_model(model)
    found = _found_preprocess(proto, v)
    data = _samples(open_batches(proto, v, v["labels"]), str(v["data"]), found)
    calibration = None
    if v["calibration"] is not None:
        other = v | {"data": v["calibration"], "limit": None, "classes": None}
        calibration = _samples(open_batches(proto, other, None), v["calibration"], found)
    preprocess, file = "", v["preprocess_file"]
    if file is not None and is_same_file(file, output / PREPROCESS):  # of the run that this one repeats: it stays
        preprocess = read_text(file, "preprocess")
    elif found is not None and found.adapted:
        preprocess = json.dumps(found.preprocess.to_dict(), indent=1) + "\n"
        ctx.params |= {"preset": None, "preprocess_file": output / PREPROCESS}
    elif found is not None:
        ctx.params["preset"] = found.name
    config = written_config(ctx, output)
    if not config:
        print_warnings(["the name of a file is not UTF-8: no configuration is written that would repeat this run"])
    request = PtqRequest(
        model=model,
        data=data,
        folder=output,
        calibration=calibration,
        metric=None if v["metric"] is None else load_metric(v["metric"]),
        bar=bar,
        settings=BuildSettings(v["timing_cache"], v["builder_optimization_level"]),
        command=["quantlab", *sys.argv[1:]],
        config=config,
        preprocess=preprocess,
        open_runtime=runtime,
    )
    done = ptq(request, next_stage, _print_parts)
    if as_json:
        print_warnings(done.notices)
        _print_facts(done)
    else:
        _print(done)
    ctx.exit(0 if done.judgement.passed else 3)


def _found_preprocess(proto: onnx.ModelProto, v: dict[str, Any]) -> PresetScore | None:
    """The preset with which FP32 gets most right, for images without one; `v` opens them from here on."""
    from quantlab.api.presets import preset_candidates, try_presets
    from quantlab.data import PRESETS, ImageBatches
    from quantlab.data.script import split_script
    from quantlab.data.source import split_key

    source = str(v["data"])
    is_image = not split_script(source) and split_key(source)[0].suffix.lower() not in (".npy", ".npz")
    if v["preset"] is not None or v["preprocess_file"] is not None or not is_image:
        return None
    v["preset"] = next(iter(PRESETS))  # any: none is used before the right one is known
    few = open_batches(proto, v | {"limit": min(v["limit"] or TRIED, TRIED)}, v["labels"])
    if not isinstance(few, ImageBatches) or few.labels is None:
        raise ConfigError(
            "no preprocess was named, and without labels it cannot be found out",
            hint="--preset NAME (quantlab presets), --preprocess FILE, or --labels",
        )
    with progress("trying presets", len(preset_candidates(proto))) as on_preset:
        best, *others = try_presets(proto, few, on_preset=on_preset)
    alike = [score.name for score in others if not score.failed and not score.is_behind(best)]
    adapted = " with the size or layout of the model" if best.adapted else ""
    note(
        f"preprocess: '{best.name}'{adapted}, with which FP32 is right on {best.top1:.1%} of {len(best.right)} images"
        + (f"; as good as far as these tell: {', '.join(alike)}" if alike else "")
    )
    return best


def _samples(batches: Any, source: str, found: PresetScore | None) -> Samples:
    from quantlab.data import ArrayBatches, ImageBatches

    if not isinstance(batches, (ArrayBatches, ImageBatches)):
        raise ConfigError(
            f"{source} makes its batches itself: samples cannot be told apart, to keep some for the judgement",
            hint="give images or arrays; or quantlab calibrate, quantize and compare, one by one",
        )
    if found is not None and isinstance(batches, ImageBatches):
        return batches.prepared_by(found.preprocess)
    return batches


def _print_parts(parts: Parts) -> None:
    note(f"{parts.calibration.count} samples to calibrate with, {parts.evaluation.count} others to judge by")


def _print_facts(done: PtqResult) -> None:
    print_json(
        {
            "passed": done.judgement.passed,
            "chosen": done.chosen.name,
            "judgement": done.judgement,
            "reason": done.reason,
            "models": rows_of(done.comparison),
            "engines": [] if done.engines is None else rows_of(done.engines.comparison),
            "files": done.files,
            "reports": [done.report, *([] if done.engines is None else [done.engines.paths.html])],
            "commands": done.commands,
            "notices": done.notices,
        }
    )


def _print(done: PtqResult) -> None:
    print_comparison(done.comparison)
    if done.engines is not None:
        print_comparison(done.engines.comparison)
    print_warnings(done.notices)
    echo(f"{'PASS' if done.judgement.passed else 'FAIL'}: '{done.chosen.name}' {done.judgement.text}")
    echo(f"why: {done.reason}")
    for what, path in done.files.items():
        echo(f"{what}: {path}")
    echo(f"report: {done.report}")
    if done.engines is not None:
        echo(f"engines: {done.engines.paths.html}")
    for line in done.commands:
        echo(line)
