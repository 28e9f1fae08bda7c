"""`quantlab presets`."""

from __future__ import annotations

import json

import click

from quantlab.cli.file_check import FileCommand
from quantlab.cli.say import echo


@click.command("presets", cls=FileCommand)
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the preprocess presets, or print one as JSON to edit and pass with --preprocess.

    \b
    Example:
      quantlab presets imagenet > my.json
    """
    from quantlab.data import PRESETS
    from quantlab.data.request import read_preprocess

    if name is None:
        for preset, preprocess in PRESETS.items():
            echo(f"{preset:14s} {json.dumps(preprocess.to_dict())}")
        return
    chosen = read_preprocess(name, None)
    assert chosen is not None
    echo(json.dumps(chosen.to_dict(), indent=1))
