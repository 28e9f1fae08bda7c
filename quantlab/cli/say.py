"""What commands print: names of tensors, files and backends are text in it, whatever they hold."""

from __future__ import annotations

import logging

import click

from quantlab.plain_text import printable

LOGGER = "quantlab.printed"
"""The logger that hears of all that is printed, for a log file."""
QUIET: list[bool] = []
"""Not empty while progress and notes are not wanted."""
_LOG = logging.getLogger(LOGGER)


def echo(text: object, *, err: bool = False) -> None:
    """Print lines; what would move the cursor or colour the terminal stands as its escape.

    Args:
        text: One or several lines.
        err: To standard error.
    """
    lines = "\n".join(map(printable, str(text).split("\n")))
    _LOG.log(logging.DEBUG, "%s", lines)
    click.echo(lines, err=err)


def log(text: str) -> None:
    """Lines that were printed in another way, for the log file."""
    _LOG.log(logging.DEBUG, "%s", text)


def note(text: object) -> None:
    """Print lines to standard error that nobody misses: progress, and what is said by the way. Not with --quiet."""
    if not QUIET:
        echo(text, err=True)
