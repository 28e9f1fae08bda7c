"""What a bar of a picture says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NoiseBar:
    """A place where INT8 makes noise.

    Attributes:
        name: What it is called.
        truth_db: SQNR of the outputs with INT8 there alone, None where it was not measured.
        estimate_db: What was estimated for it, None if nothing was.
    """

    name: str
    truth_db: float | None
    estimate_db: float | None
