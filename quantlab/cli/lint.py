"""`quantlab lint`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import MODEL
from quantlab.cli.say import echo


@click.command("lint", cls=FileCommand)
@click.argument("model", type=MODEL)
@json_option
@click.pass_context
def command(ctx: click.Context, model: Path, as_json: bool) -> None:
    """Say what is wrong with the Q/DQ graph of MODEL, from any exporter; exit code 3 on errors.

    \b
    Example:
      quantlab lint exported.qdq.onnx
    """
    from quantlab.onnx_model import load_model
    from quantlab.qdq import CODES, lint

    findings = lint(load_model(model))
    if as_json:
        rows = [asdict(f) | asdict(CODES[f.code]) for f in findings]
        print_json(rows)
    else:
        for code, count in Counter(f.code for f in findings).items():
            about = CODES[code]
            echo(f"{code} {about.severity}: {about.meaning} ({count})")
            echo(f"    TensorRT {about.tensorrt}. Remedy: {about.remedy}")
            for finding in [f for f in findings if f.code == code][:5]:
                echo(f"    {finding.node}: {finding.detail}")
            if count > 5:
                echo(f"    and {count - 5} more (--json lists all)")
        echo(f"{len(findings)} findings" if findings else "no findings")
    if any(f.severity == "error" for f in findings):
        ctx.exit(3)
