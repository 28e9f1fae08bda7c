"""What the tests of the placement share."""

from __future__ import annotations

import numpy as np

from models import floats, parse
from quantlab.qdq import Selection, plan, prepare

CONV = {"w": floats(4, 4, 1, 1), "v": floats(4, 4, 1, 1, seed=1), "u": floats(4, 8, 1, 1, seed=2)}


def decisions(text: str, weights: dict[str, np.ndarray], selection: Selection | None = None) -> tuple:
    """(what reads INT8, groups of one scale, what stays float and why), nodes named by their first output."""
    model = parse(text, weights)
    for node in model.graph.node:
        node.name = node.output[0]
    placement = plan(prepare(model), selection)
    reads = [f"{node}<-{tensor}" for node, _, tensor in placement.activations]
    return reads, placement.groups, {s.node: s.reason for s in placement.skipped}
