"""`quantlab presets`."""

from __future__ import annotations

import json

import click

from quantlab.cli.as_json import print_json
from quantlab.cli.file_check import FileCommand
from quantlab.cli.say import echo


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
        for preset, preprocess in PRESETS.items():
            echo(f"{preset:14s} {json.dumps(preprocess.to_dict())}")
        return
    chosen = read_preprocess(name, None)
    assert chosen is not None
    print_json(chosen.to_dict())
