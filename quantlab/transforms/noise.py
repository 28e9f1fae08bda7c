"""What quantization of one tensor, or one layer, adds to the noise, as a function of the factors d: a local estimate.

A tensor x with scale s = max over i of (reach[i] / d[i]) / 127 gets the noise s^2 / 12 on every value that is not 0;
back in the units of x that is d[i]^2 s^2 / 12 in channel i. Where a layer with weights w reads it, its output gets

    N_x = s^2 / 12 * sum over i of active[i] d[i]^2 * sum over o of w[o,i]^2

from the activations, and from the weights w[o,i] d[i] / e[o], whose scale is t[o] = max over i of |w[o,i]| d[i] / 127,

    N_w = sum over o, i of t[o]^2 / 12 * var(x[i]) / d[i]^2

(the shift of the mean is the bias's to take back; e cancels where every output channel has a scale of its own, which
makes N_w the same for all d in depthwise layers).

Other data will reach farther than these did, most of all in channels that few samples use. How much is seen by leaving
out, in each channel, the sample that reaches farthest: with the factor l[i] that follows from the others, and the
largest magnitude m[i] and the squares of that sample, what is cut off is at most

    N_c = sum over i of energy[i] (1 - l[i] 127 s / m[i])^2 * sum over o of w[o,i]^2

where m[i] > l[i] 127 s. Without this, channels that are all but dead in the calibration data get factors that clip
what they are there for. The estimate is (N_x + N_w + N_c) / var(y): noise over power where it enters, as if every
place in the network counted alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quantlab.transforms.channels import Ids
from quantlab.transforms.moments import Moments

Floats = NDArray[np.float64]
_STEPS = 127
_NOISE = 1 / 12
"""Of rounding, over the square of the scale."""


@dataclass(frozen=True, slots=True)
class Factors:
    """Variable -> its factor.

    Attributes:
        d: The factors.
        left_out: Those that would follow without the sample that reaches farthest.
    """

    d: Floats
    left_out: Floats


@dataclass(frozen=True, slots=True)
class Reach:
    """What the scale of a tensor follows from: its channels, and those of all tensors that share its scale.

    Attributes:
        ids: Their variables.
        reach: Their largest magnitudes.
        second: The same without the sample that has it.
    """

    ids: Ids
    reach: Floats
    second: Floats

    def scale(self, d: Floats) -> float:
        """The scale with these factors."""
        return float((self.reach / d[self.ids]).max(initial=0)) / _STEPS


class Site(Protocol):
    """A place where noise enters."""

    def variables(self) -> Ids:
        """Those that its noise depends on."""

    def cost(self, factors: Factors) -> float:
        """Noise over power with these factors."""


def _per_channel(shared: Reach, ids: Ids, moments: Moments, factors: Factors) -> Floats:
    """The noise of quantization in every channel of a tensor, in its units."""
    scale = shared.scale(factors.d)
    limit = scale * _STEPS * factors.left_out[ids]
    alive = np.where(moments.reach > 0, moments.reach, 1)
    cut = moments.energy.reshape(-1) * np.maximum(1 - limit / alive.reshape(-1), 0) ** 2
    rounded: Floats = scale**2 * _NOISE * moments.active.reshape(-1) * factors.d[ids] ** 2 + cut
    return rounded


@dataclass(frozen=True, slots=True)
class TensorSite:
    """A quantized tensor that is read by something without weights.

    Attributes:
        shared: Of its scale.
        ids: Its variables, (C,).
        moments: Of its channels.
        power: The sum of the variances of its channels.
    """

    shared: Reach
    ids: Ids
    moments: Moments
    power: float

    def variables(self) -> Ids:
        """See `Site`."""
        return np.concatenate([self.shared.ids, self.ids])

    def cost(self, factors: Factors) -> float:
        """See `Site`."""
        return float(_per_channel(self.shared, self.ids, self.moments, factors).sum()) / self.power


@dataclass(frozen=True, slots=True)
class LayerSite:
    """A layer whose input and weights are quantized. Weights are taken as a matrix of kernels (A, B).

    Attributes:
        shared: Of the scale of its input.
        ids: The variables of its input channels, (I,).
        outputs: The variables of its output channels, (O,).
        moments: Of its input channels, (I,).
        peak: The largest magnitude in every kernel.
        square: The sum of squares in every kernel.
        taps: Weights in a kernel.
        column: The input channel of every kernel.
        row: The output channel of every kernel.
        is_per_channel: Whether every output channel has a scale of its own.
        power: The sum of the variances of its output channels.
    """

    shared: Reach
    ids: Ids
    outputs: Ids
    moments: Moments
    peak: Floats
    square: Floats
    taps: int
    column: Ids
    row: Ids
    is_per_channel: bool
    power: float

    def variables(self) -> Ids:
        """See `Site`."""
        return np.concatenate([self.shared.ids, self.ids, *(() if self.is_per_channel else (self.outputs,))])

    def cost(self, factors: Factors) -> float:
        """See `Site`."""
        before, after = factors.d[self.ids], factors.d[self.outputs]
        heard = np.bincount(self.column.reshape(-1), self.square.reshape(-1), len(before))
        activations = float(_per_channel(self.shared, self.ids, self.moments, factors) @ heard)
        peak = self.peak * before[self.column]
        if self.is_per_channel:
            scale = np.zeros(len(after))
            np.maximum.at(scale, self.row.reshape(-1), peak.reshape(-1))
        else:
            scale = np.asarray(after * (peak / after[self.row]).max(initial=0))
        spread = self.moments.variance / before**2
        weights = float(((scale / _STEPS) ** 2)[self.row].reshape(-1) @ spread[self.column].reshape(-1)) * self.taps
        return (activations + _NOISE * weights) / self.power
