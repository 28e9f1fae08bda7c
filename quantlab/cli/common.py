"""Options that every command has: how much it says, where it is logged, how many threads it takes."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from quantlab.cli import say
from quantlab.cli.file_types import OUTPUT
from quantlab.files import check_output
from quantlab.plain_text import printable
from quantlab.threads import set_threads
from quantlab.version import __version__

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


_LOG = logging.getLogger("quantlab.cli")
_undo: list[Callable[[], None]] = []


def apply_common(values: dict[str, Any]) -> None:
    """Do what the common options ask for, until `finish_common`.

    Args:
        values: Of all parameters, by name; those of the common options are taken out.

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

    _LOG.info("quantlab %s: %s", __version__, shlex.join(sys.argv[1:]))

    def undo() -> None:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before)
        set_threads(None)
        say.QUIET.clear()

    _undo.append(undo)


def finish_common(code: int | None) -> None:
    """Take back what the common options did, when all is said.

    Args:
        code: With which the command ends; None for a bug, whose traceback is logged.
    """
    if code is None:
        _LOG.info("a bug", exc_info=True)
    else:
        _LOG.info("exit code %d", code)
    while _undo:
        _undo.pop()()


class _Lines(logging.Formatter):
    """What would move the cursor or colour the terminal stands as its escape."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def _handlers(verbose: int, log_file: Path | None) -> list[logging.Handler]:
    handlers: list[logging.Handler] = []
    if verbose or log_file is not None:  # without handlers Python would show warnings, and no others
        shown = logging.StreamHandler(sys.stderr)
        shown.setLevel(_LEVELS[min(verbose, 2)])
        shown.setFormatter(_Lines("%(name)s: %(message)s" if verbose else "%(message)s"))
        shown.addFilter(lambda record: record.name != say.LOGGER)  # that is printed anyway
        handlers.append(shown)
    if log_file is not None:
        check_output(log_file)
        written = logging.FileHandler(log_file, "w", encoding="utf-8")
        written.setLevel(logging.DEBUG)
        written.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(written)
    return handlers
