"""Channels of activations brought to one range, so that one scale serves them all: the network computes the same.

INT8 activations have one scale per tensor, weights one per output channel. A channel that reaches a tenth as far as
the widest of its tensor has a tenth of the codes. With a factor d[i] > 0 for every channel, and f with
f(x / d) = f(x) / d, such as ReLU, pooling, or a residual sum of tensors with the same d,

    W2 f(W1 x + b1) = (W2 D) f(D^-1 W1 x + D^-1 b1),    D = diag(d),

so what is quantized between the layers is x / d instead of x; d goes into the weights of the layers before and behind.
Nagel, van Baalen, Blankevoort, Welling: "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, section 4.1, which chose d by the weights alone; here d follows from the activations, and from the weights
how much of it is taken. With LayerNormalization before and a MatMul behind it is the SmoothQuant of Xiao, Lin, Seznec,
Wu, Demouth, Han, ICML 2023.

A ReLU6 is Clip(0, 6), which is not homogeneous: min(max(x, 0), 6) / d = min(max(x / d, 0), 6 / d) has a bound per
channel. Where only QuantizeLinear reads the result, with a scale s <= 6 / 127 (the smallest bound, as d <= 1), its
saturation at 127 s is the bound of the channel as soon as 6 / d >= 127 s: then codes of min(x / d, 6 / d) and of
max(x / d, 0) are the same, so that the quantized network needs a plain ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx

from quantlab.calibration import Progress
from quantlab.data import Batches
from quantlab.qdq.placement import Placement
from quantlab.transforms.channels import Ids
from quantlab.transforms.choice import Choice, choose
from quantlab.transforms.moments import Key, Moments, measure
from quantlab.transforms.network import Network
from quantlab.transforms.rewrite import rewrite
from quantlab.transforms.sites import key_of, reaches, sites, wanted
from quantlab.transforms.walk import follow

BEYOND = 1.01
"""Times the bound of a Clip: what reaches farther is no result of it."""


@dataclass(frozen=True, slots=True)
class EqualizedGroup:
    """Channels that were scaled together.

    Attributes:
        tensors: The quantized tensors that they are in.
        alpha: How much of the differences between the channels was taken out: 0 none, 1 all.
        ratio: Of the largest factor to the smallest.
        gain_db: What that brings in the places where these tensors and the weights behind them are quantized: an
            estimate, no measurement.
    """

    tensors: tuple[str, ...]
    alpha: float
    ratio: float
    gain_db: float


@dataclass(frozen=True, slots=True)
class Equalized:
    """A network whose channels were scaled.

    Attributes:
        fp32: The FP32 function of the network, up to float rounding: to calibrate, and as reference.
        network: To quantize. It differs from `fp32` where a Clip is left to the saturation of INT8.
        caps: Tensor -> the largest amax with which both are the same once they are quantized.
        groups: What was changed.
        tensors: All whose channels are scaled, quantized or not.
        nodes: All whose constants are.
    """

    fp32: onnx.ModelProto
    network: onnx.ModelProto
    caps: Mapping[str, np.float32]
    groups: tuple[EqualizedGroup, ...]
    tensors: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()


def equalize(
    prepared: onnx.ModelProto, placement: Placement, batches: Batches, on_batch: Progress | None = None
) -> Equalized:
    """Scale the channels of quantized activations, and the weights about them, where that lowers the noise of INT8.

    Nodes, tensors and weights keep their names, so a placement of the network is one of the result too. Where tensors
    share a scale, the smallest cap among them holds for all.

    Args:
        prepared: The network, see `quantlab.qdq.prepare`.
        placement: Where Q/DQ goes.
        batches: Calibration data. A last batch too short for a network with a fixed batch size is left out.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        The network; without groups it is as it was.

    Raises:
        DataError: There are no batches, or they do not fit.
        GraphError: ONNX Runtime cannot run the network, or a weight is beyond float32 with its factor.
    """
    network = follow(prepared, placement)
    found = measure(prepared, wanted(network, placement, network.channels.roots()), batches, on_batch)
    _keep_bounds(network, placement, found)
    roots = network.channels.roots()
    shared = reaches(network, placement, roots, found)
    places = list(sites(network, placement, roots, found, shared))
    d, choices = choose(network.channels, roots, shared, places)
    result = rewrite(prepared, network, d)
    groups = tuple(_group(network, placement, roots, choice) for choice in choices)
    return Equalized(result.fp32, result.network, MappingProxyType(result.caps), groups, result.tensors, result.nodes)


def _keep_bounds(network: Network, placement: Placement, found: Mapping[Key, Moments]) -> None:
    """Leave a Clip as it is where its scale serves a tensor that reaches beyond its bound, and would be cut at it."""
    for name in network.clips:
        clip = network.nodes[name]
        result, bound = str(clip.output[0]), network.constant(clip, 2)
        others = {tensor for group in placement.groups if result in group for tensor in group}
        if bound is not None and any(_reach(network, tensor, found) > BEYOND * bound.item() for tensor in others):
            network.freeze(result)


def _reach(network: Network, tensor: str, found: Mapping[Key, Moments]) -> float:
    key = key_of(network, tensor)
    return float(found[key].reach.max(initial=0)) if key is not None and key in found else np.inf


def _group(network: Network, placement: Placement, roots: Ids, choice: Choice) -> EqualizedGroup:
    layouts = {tensor: network.layouts.get(tensor) for tensor in placement.tensors}
    tensors = tuple(t for t, ids in layouts.items() if ids is not None and np.isin(roots[ids], choice.variables).any())
    return EqualizedGroup(tensors, choice.alpha, choice.ratio, choice.gain_db)
