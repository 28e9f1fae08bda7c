"""`quantlab check-data`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import MODEL
from quantlab.cli.options import (
    algorithm_option,
    data_options,
    labels_options,
    open_batches,
    print_warnings,
    refuse_idle,
)
from quantlab.cli.progress import progress
from quantlab.cli.say import echo
from quantlab.cli.tables import Table, print_table
from quantlab.errors import ConfigError

if TYPE_CHECKING:
    import onnx

    from quantlab.comparison.preset_ranking import PresetScore

TRIED = 256
"""Images that presets are tried on, where no --limit is given."""
SHOWN = 15
"""Presets that are printed."""


@click.command("check-data", cls=FileCommand)
@click.argument("model", type=MODEL)
@data_options
@labels_options
@algorithm_option("minmax, entropy, percentile-P, mse, or file.py:Name.")
@click.option(
    "--try-presets", is_flag=True, help=f"Rank the presets by FP32's accuracy instead, on {TRIED} images or --limit."
)
@json_option
def command(model: Path, algorithm: str, try_presets: bool, as_json: bool, **v: Any) -> None:
    """Say whether the calibration images are enough for MODEL: do its scales settle, do they hold for others. Or which
    preprocess it wants.

    \b
    Example:
      quantlab check-data resnet.onnx --data images/ --preset imagenet --algorithm mse
      quantlab check-data resnet.onnx --data val/ --labels val.csv --try-presets
    """
    from quantlab.api import check_data
    from quantlab.calibration.own_observer import named_observer
    from quantlab.onnx_model import load_model

    proto = load_model(model)
    if try_presets:
        refuse_idle(["algorithm"], "presets are judged by FP32's accuracy")
        _try_presets(proto, v, as_json)
        return
    refuse_idle(["labels", "classes"], "without --try-presets no accuracy is computed")
    observer = named_observer(algorithm)
    batches = open_batches(proto, v, labels=None)
    with progress("calibrating", batches.count) as on_batch:
        result = check_data(proto, batches, observer, on_batch=on_batch)
    print_warnings(result.notices)
    if as_json:
        print_json(asdict(result) | {"findings": result.findings})
        return
    echo(
        f"{result.algorithm}: {len(result.tensors)} scales from {result.samples} samples, judged by {result.held_back} "
        "held back"
    )
    for finding in result.findings:
        echo(f"  {finding}")


def _try_presets(proto: onnx.ModelProto, v: dict[str, Any], as_json: bool) -> None:
    from quantlab.api.presets import preset_candidates, try_presets
    from quantlab.comparison.preset_ranking import ranking_notices
    from quantlab.data import PRESETS, ImageBatches
    from quantlab.data.request import read_preprocess

    chosen = read_preprocess(v["preset"], v["preprocess_file"])
    limit = TRIED if v["limit"] is None else v["limit"]
    first = {"limit": limit} if chosen is not None else {"limit": limit, "preset": next(iter(PRESETS))}
    images = open_batches(proto, v | first, v["labels"])
    if not isinstance(images, ImageBatches):
        raise ConfigError(f"{v['data']} holds no images: presets cannot be tried on it", hint="--data images/")
    with progress("trying presets", len(preset_candidates(proto, chosen))) as on_preset:
        scores = try_presets(proto, images, chosen, on_preset=on_preset)
    print_warnings(ranking_notices(scores, chosen))
    if as_json:
        print_json([_plain(score) for score in scores])
        return
    _print(scores)


def _plain(score: PresetScore) -> dict[str, Any]:
    return {
        "preset": score.name,
        "same": list(score.same),
        "adapted": score.adapted,
        "top1": score.top1,
        "top5": score.top5,
        "samples": len(score.right),
        "failed": score.failed,
        "preprocess": score.preprocess.to_dict(),
    }


def _print(scores: list[PresetScore]) -> None:
    best = scores[0]
    table = Table(title=f"FP32 on {len(best.right)} images")
    for heading in ("preset", "top-1", "top-5", ""):
        table.add_column(heading, justify="right" if heading.startswith("top") else "left")
    for score in scores[:SHOWN]:
        note = score.failed[:60] or ("with the model's size or layout" if score.adapted else "")
        shares = ["–" if score.failed else f"{100 * share:.1f} %" for share in (score.top1, score.top5)]
        table.add_row(score.name, *shares, note)
    print_table(table)
    if len(scores) > SHOWN:
        echo(f"and {len(scores) - SHOWN} more that are no better: --json lists all")
    alike = sum(not score.is_behind(best) for score in scores[1:])
    if alike:
        echo(f"{alike} others are as good as far as these images tell: more of them (--limit) tell more")
    if best.adapted:
        echo(f"best: '{best.name}' with other values; as --preprocess FILE: {json.dumps(best.preprocess.to_dict())}")
    else:
        echo(f"best: --preset {best.name}")
