"""What commands print: names of tensors, files and backends are text in it, whatever they hold."""

from __future__ import annotations

import click

from quantlab.plain_text import printable


def echo(text: object, *, err: bool = False) -> None:
    """Print lines; what would move the cursor or colour the terminal stands as its escape.

    Args:
        text: One or several lines.
        err: To standard error.
    """
    click.echo("\n".join(map(printable, str(text).split("\n"))), err=err)
