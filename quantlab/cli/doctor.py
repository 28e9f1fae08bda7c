"""`quantlab doctor`."""

from __future__ import annotations

import click


@click.command("doctor")
def command() -> None:
    """Show what is installed, which GPU, which paths work here, and what to install for the rest.

    \b
    Example:
      quantlab doctor
    """
    from quantlab.doctor import examine

    for finding in examine():
        mark = "ok " if finding.works else "-- "
        click.echo(f"{mark} {finding.subject:36s} {finding.state}")
        if finding.remedy:
            click.echo(f"    {'':36s} {finding.remedy}")
