"""The nodes of a Q/DQ model as plain data: what each reads in INT8, and what that does to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from quantlab.comparison import ErrorTrace
from quantlab.observers import Histogram
from quantlab.qdq import Layer, WeightError
from quantlab.qdq.layers import FUSED, NO, PARTLY, YES, Read
from quantlab.report.format import number, short_float

FAINT = 1e-3
"""A channel is faint if its scale is below this share of the median: training has all but switched it off."""


def layer_documents(
    layers: Sequence[Layer], trace: ErrorTrace | None, histograms: Mapping[str, Histogram]
) -> list[dict[str, Any]]:
    """Join what is known of every node.

    Args:
        layers: The nodes.
        trace: Where the error of their model comes from, None if it was not traced.
        histograms: Of the tensors of the FP32 model, as far as they are known.

    Returns:
        A row per node, as `schema.json` describes it.
    """
    return [_layer(layer, trace, histograms) for layer in layers]


def reasons_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Count nodes of one kind.

    Args:
        rows: Of `layer_documents`.

    Returns:
        Operator, whether in INT8, why, and how many; what stays float first, then the most frequent.
    """
    counts = Counter((row["op"], row["int8"], row["why"]) for row in rows)
    order = {NO: 0, PARTLY: 1, FUSED: 2, YES: 3}
    kinds = sorted(counts.items(), key=lambda kind: (order[kind[0][1]], -kind[1], kind[0]))
    return [{"op": op, "int8": int8, "why": why, "count": n} for (op, int8, why), n in kinds]


def weight_document(error: WeightError) -> dict[str, Any]:
    """What quantization does to a weight, as `schema.json` describes it."""
    finite = error.sqnr_db[np.isfinite(error.sqnr_db)]
    low, median, high = np.percentile(finite, [0, 50, 100]) if finite.size else (np.inf, np.inf, np.inf)
    known = error.alive if error.alive.any() else ~error.alive
    faint = error.alive & (error.scale < FAINT * np.median(error.scale[known]))
    scale = error.scale[known & ~faint]  # that of a dead channel says nothing, and hides those of the others
    return {
        "node": error.node,
        "tensor": error.tensor,
        "channels": int(error.sqnr_db.size),
        "dead": error.dead,
        "faint": int(faint.sum()),
        "worst_channel": error.worst_channel,
        "sqnr_db": {"min": number(low), "median": number(median), "max": number(high)},
        "scale": {
            "min": float(scale.min()), "median": float(np.median(scale)), "max": float(scale.max())
        },
    }  # fmt: skip


def _layer(layer: Layer, trace: ErrorTrace | None, histograms: Mapping[str, Histogram]) -> dict[str, Any]:
    sqnr_db = trace.tensors.get(layer.result) if trace else None
    return {
        "node": layer.node,
        "op": layer.op,
        "int8": layer.int8,
        "why": layer.why,
        "reads": [_read(read, histograms.get(read.tensor)) for read in layer.reads],
        "weights": [weight_document(error) for error in (trace.weights if trace else ()) if error.node == layer.node],
        "result": layer.result,
        "sqnr_db": None if sqnr_db is None else number(sqnr_db),
    }


def _read(read: Read, histogram: Histogram | None) -> dict[str, Any]:
    known = histogram is not None and read.amax is not None
    return {
        "tensor": read.tensor,
        "amax": None if read.amax is None else short_float(read.amax),
        "scale": None if read.scale is None else short_float(read.scale),
        "saturated": histogram.share_above(read.amax) if known and histogram and read.amax is not None else None,
    }
