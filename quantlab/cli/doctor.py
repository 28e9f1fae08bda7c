"""`quantlab doctor`."""

from __future__ import annotations

from dataclasses import asdict

import click

from quantlab.cli.as_json import json_option, print_json
from quantlab.cli.file_check import FileCommand
from quantlab.cli.say import echo


@click.command("doctor", cls=FileCommand)
@json_option
def command(as_json: bool) -> None:
    """Show what is installed, which GPU, which paths work here, and what to install for the rest.

    \b
    Example:
      quantlab doctor
    """
    from quantlab.engines.doctor import Probes, examine

    findings = examine(Probes(_driver, _tensorrt, _calibrators))
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    for finding in findings:
        mark = "ok " if finding.works else "-- "
        echo(f"{mark} {finding.subject:36s} {finding.state}")
        if finding.remedy:
            echo(f"    {'':36s} {finding.remedy}")


def _driver() -> str:
    from quantlab.engines.doctor import describe_driver
    from quantlab.memory import open_driver

    return describe_driver(open_driver())


def _tensorrt() -> str:
    from quantlab.trt.features import VERSION

    return VERSION


def _calibrators() -> str:
    from quantlab.trt.features import require_calibrators

    require_calibrators()
    return "there"
