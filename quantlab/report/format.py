"""What a report file says of itself."""

import math

import numpy as np

FORMAT = "quantlab.report"
VERSION = 4
SUFFIXES = (".json", ".md", ".html", ".csv", ".samples.csv")
"""Of the files of a report."""
READABLE = (2, 3, 4)
"""Versions that can serve as a baseline: what is read of them is the same in all."""


def short_float(value: float | np.floating) -> float:
    """The shortest number that is the same in float32; one that float32 does not hold as it is."""
    with np.errstate(over="ignore"):
        short = np.float32(value)
    return float(str(short)) if np.isfinite(short) else float(value)


def number(value: float) -> float | str:
    """What stands in JSON for a number.

    Args:
        value: Any, infinity and NaN too, which JSON has not.

    Returns:
        The number, or its name.
    """
    if math.isfinite(value):
        return float(value)
    return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
