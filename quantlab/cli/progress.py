"""Progress on standard error: a bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from quantlab.cli import say


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how far a command is.

    Args:
        label: What it is doing.
        total: How many samples there are; None where only the end will tell.

    Yields:
        A function that takes the number of samples done so far.
    """
    if sys.stderr.isatty() and not say.QUIET:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    yield _lines(label, total)


def next_stage(label: str, total: int) -> Callable[[int], None]:
    """Show how far a later stage of a command is, in plain lines.

    Args:
        label: What it is doing.
        total: How many samples (or layers) it takes at most; 0 if it does not count them.

    Returns:
        A function that takes the number of samples done so far.
    """
    say.note(f"{label}: up to {total}" if total else label)
    return _lines(label, total)


def _lines(label: str, total: int | None) -> Callable[[int], None]:
    last = 0

    def line(done: int) -> None:
        nonlocal last
        reached = done.bit_length() if total is None else 4 * done // max(total, 1)  # a line whenever it has doubled
        if reached > last:
            last = reached
            say.note(f"{label}: {done}" + ("" if total is None else f"/{total}"))

    return line
