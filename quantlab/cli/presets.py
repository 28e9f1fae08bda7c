"""`quantlab presets`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from quantlab.cli.as_json import print_json
from quantlab.cli.file_check import FileCommand
from quantlab.cli.say import echo

if TYPE_CHECKING:
    from quantlab.data import Preprocess


@click.command("presets", cls=FileCommand)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print all of them as one JSON object.")
def command(name: str | None, as_json: bool) -> None:
    """List the preprocess presets, or print one as JSON to edit and pass with --preprocess.

    \b
    Example:
      quantlab presets imagenet > my.json
    """
    from quantlab.data import PRESETS
    from quantlab.data.request import read_preprocess

    if name is None and as_json:
        print_json({preset: preprocess.to_dict() for preset, preprocess in PRESETS.items()})
        return
    if name is None:
        width = max(map(len, PRESETS))
        for preset, preprocess in PRESETS.items():
            echo(f"{preset:{width}s}  {_in_words(preprocess)}")
        return
    chosen = read_preprocess(name, None)
    assert chosen is not None
    print_json(chosen.to_dict())


def _in_words(chosen: Preprocess) -> str:
    """What it does, in order; JSON has all of it."""
    size = "as it is" if chosen.size is None else "x".join(map(str, chosen.size))
    how = {"exact": f"to {size}", "short_side": f"short side {chosen.size[0]}"} if chosen.size else {}
    steps = [how.get(chosen.resize, f"{chosen.resize} {size}" if chosen.size else size)]
    steps += [chosen.interpolation] if chosen.size else []
    steps += [f"crop {'x'.join(map(str, chosen.crop))}"] if chosen.crop else []
    scale = "" if chosen.scale == 1 else f" / {1 / chosen.scale:g}"
    steps += [chosen.color, f"(x{scale} - {_numbers(chosen.mean)}) / {_numbers(chosen.std)}"]
    return ", ".join(steps)


def _numbers(values: Sequence[float]) -> str:
    return f"({' '.join(f'{value:.4g}' for value in values)})" if len(values) > 1 else f"{values[0]:g}"
