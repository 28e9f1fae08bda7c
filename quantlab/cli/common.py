"""Options that every command has: how much it says, where it is logged, how many threads it takes."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable
from typing import Any

import click

from quantlab.cli import say
from quantlab.cli.file_types import OUTPUT
from quantlab.cli.log_file import LogFile
from quantlab.errors import ConfigError
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
_undo: list[Callable[[], str | None]] = []


def apply_common(values: dict[str, Any]) -> None:
    """Do what the common options ask for, until `finish_common`.

    Args:
        values: Of all parameters, by name; those of the common options are taken out.

    Raises:
        ConfigError: There are fewer threads than one, or the log file cannot be written.
    """
    quiet, verbose, log_file, threads = (values.pop(name) for name in NAMES)
    set_threads(threads)
    say.QUIET[:] = [True] if quiet else []
    logger = logging.getLogger("quantlab")
    before = logger.level
    written = None if log_file is None else LogFile(log_file)
    handlers = _handlers(verbose, written)
    for handler in handlers:
        logger.addHandler(handler)
    if handlers:
        logger.setLevel(min(handler.level for handler in handlers))

    def undo() -> str | None:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before)
        set_threads(None)
        say.QUIET.clear()
        return None if written is None else written.lost()

    _undo.append(undo)
    _LOG.info("quantlab %s: %s", __version__, shlex.join(sys.argv[1:]))
    if written is not None:
        try:
            written.check()
        except ConfigError:
            _undo.pop()()
            raise


def finish_common(code: int | None) -> str | None:
    """Take back what the common options did, when all is said.

    Args:
        code: With which the command ends; None for a bug, whose traceback is logged.

    Returns:
        What of the log file could not be written; None if all of it was, or there is none.
    """
    if code is None:
        _LOG.info("a bug", exc_info=True)
    else:
        _LOG.info("exit code %d", code)
    lost = None
    while _undo:
        lost = _undo.pop()() or lost
    return lost


class _Lines(logging.Formatter):
    """What would move the cursor or colour the terminal stands as its escape."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def _handlers(verbose: int, written: LogFile | None) -> list[logging.Handler]:
    handlers: list[logging.Handler] = []
    if verbose or written is not None:  # without handlers Python would show warnings, and no others
        shown = logging.StreamHandler(sys.stderr)
        shown.setLevel(_LEVELS[min(verbose, 2)])
        shown.setFormatter(_Lines("%(name)s: %(message)s" if verbose else "%(message)s"))
        shown.addFilter(lambda record: record.name != say.LOGGER)  # that is printed anyway
        handlers.append(shown)
    if written is not None:
        written.setLevel(logging.DEBUG)
        written.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(written)
    return handlers
