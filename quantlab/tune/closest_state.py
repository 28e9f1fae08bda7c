"""A model on its way to the closest one, and the ranges that its tensors may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from quantlab.observers import Histogram, mse_amax
from quantlab.onnx_model import GraphView
from quantlab.qdq import Placement
from quantlab.qdq.insert import WeightError
from quantlab.transforms.equalize import Equalized
from quantlab.transforms.wide_sites import WideSite


@dataclass(frozen=True, slots=True)
class State:
    """A model in the making.

    Attributes:
        fp32: The function that it stands for, with the same names of nodes.
        qdq: The Q/DQ model; tensors with all codes have the zero point -128.
        amax: The amax of every quantized tensor.
        histograms: Of these in `fp32`.
        weight_errors: Of the nearest codes.
        caps: Tensor -> the largest amax with which saturation still does what a Clip did.
        equalized: The equalized network that it is made of; None for the FP32 model as it is.
    """

    fp32: onnx.ModelProto
    qdq: onnx.ModelProto
    amax: Mapping[str, np.float32]
    histograms: Mapping[str, Histogram]
    weight_errors: tuple[WeightError, ...]
    caps: Mapping[str, np.float32] = field(default_factory=dict)
    equalized: Equalized | None = None


def scales_of(model: onnx.ModelProto) -> dict[str, float]:
    """Tensor -> its scale, of activations."""
    view = GraphView(model)
    read = [q for q in view.qdq_nodes if q.op_type == "QuantizeLinear" and not view.is_weight(q)]
    return {q.input[0]: float(scale) for q in read if (scale := view.scale(q)) is not None and scale.size == 1}


def spread(placement: Placement, caps: Mapping[str, np.float32]) -> dict[str, np.float32]:
    """Let caps hold for all tensors that share a scale.

    Args:
        placement: Says which do.
        caps: Tensor -> the largest amax that it may have.

    Returns:
        The same, for the others of their groups too.
    """
    found = dict(caps)
    for group in placement.groups:
        known = [caps[name] for name in group if name in caps]
        found |= dict.fromkeys(group, min(known)) if known else {}
    return found


def by_mse(state: State, site: WideSite) -> float:
    """Choose the range of least squared error for a tensor with all codes.

    Args:
        state: The model.
        site: Of the tensor.

    Returns:
        Its amax.
    """
    histogram = state.histograms.get(site.tensor)
    if histogram is None or histogram.range == 0:
        return as_they_are(state, site)
    return _ended(float(mse_amax(histogram, 255)), state, site)


def as_they_are(state: State, site: WideSite) -> float:
    """Keep the range that a tensor has, for twice as many codes.

    Args:
        state: The model.
        site: Of the tensor.

    Returns:
        Its amax.
    """
    return _ended(float(state.amax[site.tensor]), state, site)


def _ended(amax: float, state: State, site: WideSite) -> float:
    """At most the end of its Clip, which goes or has gone."""
    ends = [amax, *(float(state.caps[name]) for name in (site.tensor, *site.moved) if name in state.caps)]
    return min(ends if site.highest is None else [*ends, site.highest])
