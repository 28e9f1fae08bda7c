"""Progress of long work in several stages."""

from __future__ import annotations

from collections.abc import Callable

from quantlab.calibration import Progress

Stages = Callable[[str, int], Progress]
"""Begins a stage: what is done in it, and how many samples or layers it takes at most; gives what is called with those
done."""


def no_stages(label: str, total: int) -> Progress:  # noqa: ARG001
    """For those who need not be told.

    Args:
        label: What is done.
        total: How many samples it takes at most.

    Returns:
        A function that does nothing.
    """
    return lambda done: None  # noqa: ARG005
