"""How far the samples are believed where a layer's weights are rounded, chosen layer by layer.

Few samples say little of many inputs: codes that fit them too well are worse on others. So two things are weighed. The
moments are shrunk towards their diagonal (Ledoit, Wolf: "A well-conditioned estimator for large-dimensional covariance
matrices", 2004): fully shrunk the nearest code is best. And the target is what the layer gives in FP32, which lets it
make up for the errors of the layers before it, or what it would give with the FP32 weight and its quantized input,
which lets it make up for its own rounding only. Each half of the samples shows what comes of the codes of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quantlab.numerics import INT8_MAX
from quantlab.transforms.descent import SWEEPS, Moments, descend, excess

TRIED_SWEEPS = 1
"""Of a way that is only tried."""


@dataclass(frozen=True, slots=True)
class Way:
    """How weights are rounded.

    Attributes:
        name: In a few words.
        shrink: Share of the moments that is taken from their diagonal; None for the nearest codes.
        before: How much of the errors before the layer it makes up for, 0 to 1.
        corrects: Whether the bias takes the mean that is left.
    """

    name: str
    shrink: float | None = None
    before: float = 0.0
    corrects: bool = True


NEAREST = Way("nearest", corrects=False)
WAYS = (
    NEAREST,
    Way("nearest, bias"),
    Way("own error, 3 % shrunk", 0.03),
    Way("own error, 30 % shrunk", 0.3),
    Way("half of the errors before too, 30 % shrunk", 0.3, 0.5),
    Way("all errors before too, 30 % shrunk", 0.3, 1.0),
)
"""Those that are tried."""


class Moved(Protocol):
    """The sums that a fit comes from, see `quantlab.transforms.rounding.Sums`."""

    patches: int
    quantized: NDArray[np.float64]
    cross: NDArray[np.float64]
    x: NDArray[np.float64]
    x_q: NDArray[np.float64]
    power: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fit:
    """A rounded weight.

    Attributes:
        codes: (groups, outputs, inputs).
        shift: What is added to the bias, (groups, outputs).
    """

    codes: NDArray[np.float64]
    shift: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Problem:
    """A weight to be rounded.

    Attributes:
        weight: FP32, (groups, outputs, inputs).
        scale: (groups, outputs).
        has_bias: Whether there is a bias to correct.
    """

    weight: NDArray[np.float64]
    scale: NDArray[np.float64]
    has_bias: bool

    def fit(self, sums: Moved, way: Way, sweeps: int = SWEEPS) -> Fit:
        """Round it.

        Args:
            sums: What is known of the inputs.
            way: How.
            sweeps: As `descend`.

        Returns:
            The codes and the shift of the bias.
        """
        step = self.scale[:, :, None]
        if way.shrink is None:
            codes = np.clip(np.rint(self.weight / step), -INT8_MAX, INT8_MAX)
        else:
            codes = self._descend(sums, way, way.shrink, sweeps)
        shift = np.zeros(self.scale.shape)
        if way.corrects and self.has_bias:
            shift = _products(self.weight, sums.x) - _products(codes * step, sums.x_q)
            shift = shift / sums.patches
        return Fit(codes, shift)

    def _descend(self, sums: Moved, way: Way, shrink: float, sweeps: int) -> NDArray[np.float64]:
        quantized, cross = sums.quantized / sums.patches, sums.cross / sums.patches
        if self.has_bias:
            x, x_q = sums.x / sums.patches, sums.x_q / sums.patches
            quantized = quantized - x_q[:, :, None] * x_q[:, None, :]
            cross = cross - x[:, :, None] * x_q[:, None, :]
        return descend(self.weight, self.scale, _believed(quantized, cross, way.before, shrink), sweeps)

    def error(self, sums: Moved, fit: Fit) -> float:
        """Measure a fit.

        Args:
            sums: Of the patches to measure on.
            fit: The rounded weight.

        Returns:
            The sum over patches of `|W x - W_q x_q - shift|^2`.
        """
        kept = fit.codes * self.scale[:, :, None]
        raw = Moments(sums.quantized, sums.cross)
        product = sums.power.sum() + excess(self.weight, kept, raw).sum()
        left = _products(self.weight, sums.x) - _products(kept, sums.x_q)
        error = product - 2 * (fit.shift * left).sum() + sums.patches * np.square(fit.shift).sum()
        return max(float(error), 0.0)


def _products(weight: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("goi,gi->go", weight, x))


def _believed(quantized: NDArray[np.float64], cross: NDArray[np.float64], before: float, shrink: float) -> Moments:
    """Shrunk moments, and a target between the layer's own error and all errors."""
    diagonal = np.einsum("gii->gi", quantized)
    floor = 1e-6 * diagonal.mean(axis=1, keepdims=True)  # an input that is always the same keeps its nearest codes
    extra = (shrink * diagonal + floor)[:, :, None] * np.eye(quantized.shape[1])
    shrunk = (1 - shrink) * quantized + extra
    return Moments(shrunk, shrunk + before * (1 - shrink) * (cross - quantized))


def chosen_way(problem: Problem, halves: Sequence[Moved]) -> Way:
    """Choose by what the codes of each half of the samples do to the other half.

    Args:
        problem: The weight.
        halves: Two parts of what is known of its inputs.

    Returns:
        The way of least error; the nearest codes where one of them is empty, and nothing shows what others would do.
    """
    if not all(half.patches for half in halves):
        return NEAREST
    pairs = (halves[0], halves[1]), (halves[1], halves[0])
    errors = [sum(problem.error(other, problem.fit(one, way, TRIED_SWEEPS)) for one, other in pairs) for way in WAYS]
    return WAYS[int(np.argmin(errors))]
