"""How many threads quantlab works with: all cores, unless somebody wants fewer."""

from __future__ import annotations

import os

from quantlab.errors import ConfigError

_chosen: list[int] = []


def set_threads(count: int | None) -> None:
    """Fix the number of threads of everything that starts from here on.

    Args:
        count: Threads; None for one per core.

    Raises:
        ConfigError: It is less than 1.
    """
    if count is not None and count < 1:
        raise ConfigError(f"--threads {count} is less than 1", hint="leave it out for all cores")
    _chosen[:] = [] if count is None else [count]


def chosen_threads() -> int | None:
    """What was fixed, None if nothing was."""
    return _chosen[0] if _chosen else None


def thread_count() -> int:
    """How many threads to start for work that takes all cores."""
    return chosen_threads() or os.cpu_count() or 1
