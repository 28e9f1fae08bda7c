"""Facts about calibrated ranges that their user must know."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from quantlab.errors import Notice
from quantlab.observers import Histogram

SATURATED = 0.01
"""Share of a tensor's values above its amax from which a table warns: ten times what percentile-99.9 gives up."""


def all_zero_notice(tensor: str) -> Notice:
    """What a table says of a tensor that had no value but zero."""
    return Notice(f"tensor '{tensor}' is all zero in the calibration data", "all_zero", tensor)


def left_out_notice(tensor: str, why: str) -> Notice:
    """What a table says of a tensor that it has no range of.

    Args:
        tensor: Its name.
        why: What is wrong with its values.

    Returns:
        The notice.
    """
    return Notice(
        f"tensor '{tensor}' is left out, and stays float: {why} (a mask of attention is such a tensor)",
        "not_finite",
        tensor,
    )


def jumped_notice(tensor: str) -> Notice:
    """What a table says of a tensor whose range grew by `UNREPRODUCED` or more at once."""
    grown = f"the range of tensor '{tensor}' grew a million times within one batch"
    return Notice(f"{grown}: TensorRT's scale for such data is another", "jumped", tensor)


def saturation_notices(
    algorithm: str, amax: Mapping[str, np.float32], histograms: Mapping[str, Histogram]
) -> list[Notice]:
    """Name the tensors of which an algorithm cuts off a lot: it may be right to, but its user should know.

    Args:
        algorithm: Its name.
        amax: What it keeps of every tensor.
        histograms: What there was.

    Returns:
        A notice per tensor of whose values more than SATURATED are cut off.
    """
    shares = {name: histogram.share_above(float(amax[name])) for name, histogram in histograms.items()}
    return [
        Notice(
            f"{algorithm} saturates {share:.1%} of the values of tensor '{name}' (keeps {float(amax[name]):.4g} of "
            f"{float(histograms[name].range):.4g})",
            "saturated",
            name,
        )
        for name, share in shares.items()
        if share > SATURATED
    ]
