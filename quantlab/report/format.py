"""What a report file says of itself."""

import math

FORMAT = "quantlab.report"
VERSION = 3
READABLE = (2, 3)
"""Versions that can serve as a baseline: what is read of them is the same in all."""


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
