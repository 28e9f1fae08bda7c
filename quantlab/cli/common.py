"""Options that every command has: how much it says, where it is logged, how many threads it takes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from quantlab.cli import say
from quantlab.cli.file_types import OUTPUT
from quantlab.files import check_output
from quantlab.threads import set_threads

NAMES = ("quiet", "verbose", "log_file", "threads")
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def common_options() -> list[click.Parameter]:
    """The options, for one command."""
    return [
        click.Option(["-q", "--quiet"], is_flag=True, help="No progress and no notes; warnings and errors stay."),
        click.Option(["-v", "--verbose"], count=True, help="Say what is done; -vv with all that TensorRT says."),
        click.Option(["--log-file"], type=OUTPUT, help="Write all of that, and what is printed, to a file."),
        click.Option(["--threads"], type=int, help="Threads of quantlab and ONNX Runtime.  [default: all cores]"),
    ]


def apply_common(values: dict[str, Any]) -> Callable[[], None]:
    """Do what the common options ask for.

    Args:
        values: Of all parameters, by name; those of the common options are taken out.

    Returns:
        Takes it back.

    Raises:
        ConfigError: There are fewer threads than one.
    """
    quiet, verbose, log_file, threads = (values.pop(name) for name in NAMES)
    set_threads(threads)
    say.QUIET[:] = [True] if quiet else []
    logger = logging.getLogger("quantlab")
    before, handlers = logger.level, _handlers(verbose, log_file)
    for handler in handlers:
        logger.addHandler(handler)
    if handlers:
        logger.setLevel(min(handler.level for handler in handlers))

    def undo() -> None:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before)
        set_threads(None)
        say.QUIET.clear()

    return undo


def _handlers(verbose: int, log_file: Path | None) -> list[logging.Handler]:
    handlers: list[logging.Handler] = []
    if verbose:
        shown = logging.StreamHandler(sys.stderr)
        shown.setLevel(_LEVELS[min(verbose, 2)])
        shown.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        shown.addFilter(lambda record: record.name != say.LOGGER)  # that is printed anyway
        handlers.append(shown)
    if log_file is not None:
        check_output(log_file)
        written = logging.FileHandler(log_file, "w", encoding="utf-8")
        written.setLevel(logging.DEBUG)
        written.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(written)
    return handlers
