"""Rounding of weights that makes up for its own errors, from second moments of a layer's input.

With x what the layer reads in FP32, x_q what it reads in the quantized network, W the weight and W_q = scale * codes:

    minimize  E |W x - W_q x_q|^2  =  sum over rows  w_q H w_q' - 2 w G w_q' + const,   H = E[x_q x_q'], G = E[x x_q']

one code after the other, each at its best value with the others as they are (coordinate descent), so that every code
takes up what those before it left over. Rows (output channels) are independent of each other. The objective of GPTQ
(Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023) by the
method of QuantEase (Behdin et al., "QuantEase: Optimization-based Quantization for Language Models", 2023), with the
FP32 input as the target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantlab.numerics import INT8_MAX

SWEEPS = 4
"""Over all codes; after two or three few still change."""
BLOCK = 128
"""Columns whose effect on the columns outside of the block is added up: one product of matrices instead of many."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What a layer reads, in groups of inputs that are independent of each other (those of a depthwise convolution).

    Attributes:
        quantized: H, float64 (groups, inputs, inputs).
        cross: G, as large.
    """

    quantized: NDArray[np.float64]
    cross: NDArray[np.float64]


def excess(weight: NDArray[np.float64], kept: NDArray[np.float64], moments: Moments) -> NDArray[np.float64]:
    """The objective less what does not depend on the codes.

    Args:
        weight: FP32, (groups, outputs, inputs).
        kept: What is left of it, as large.
        moments: Of the inputs.

    Returns:
        float64 (groups, outputs).
    """
    return np.asarray(((kept @ moments.quantized - 2 * weight @ moments.cross) * kept).sum(axis=-1))


def descend(
    weight: NDArray[np.float64], scale: NDArray[np.float64], moments: Moments, sweeps: int = SWEEPS
) -> NDArray[np.float64]:
    """Find codes.

    Args:
        weight: FP32, (groups, outputs, inputs).
        scale: > 0, (groups, outputs).
        moments: Of the inputs.
        sweeps: How often every code is looked at, at most.

    Returns:
        Whole numbers in [-127, 127], float64, of the shape of `weight`: the nearest codes, or others for which the
        objective is smaller.
    """
    hessian, step = moments.quantized, scale[:, :, None]
    codes = np.clip(np.rint(weight / step), -INT8_MAX, INT8_MAX)
    left = weight @ moments.cross - (codes * step) @ hessian  # minus half the gradient
    diagonal = np.einsum("gii->gi", hessian)
    for _ in range(sweeps):
        changed = False
        for start in range(0, weight.shape[2], BLOCK):
            block = slice(start, start + BLOCK)
            moved = _descend_block(codes[:, :, block], left[:, :, block], hessian[:, block, block], diagonal[:, block],
                                   step)  # fmt: skip
            if moved.any():
                changed = True
                codes[:, :, block] += moved
                left -= (moved * step) @ hessian[:, block]
        if not changed:
            break
    return codes


def _descend_block(
    codes: NDArray[np.float64],
    left: NDArray[np.float64],
    hessian: NDArray[np.float64],
    diagonal: NDArray[np.float64],
    step: NDArray[np.float64],
) -> NDArray[np.float64]:
    """By how much the codes of a block of columns change, one column after the other."""
    left = left.copy()
    moved = np.zeros_like(codes)
    for j in range(codes.shape[2]):
        square = diagonal[:, j, None]
        wanted = np.divide(left[:, :, j], square * step[:, :, 0], where=square > 0, out=np.zeros_like(left[:, :, j]))
        new = np.clip(np.rint(codes[:, :, j] + wanted), -INT8_MAX, INT8_MAX)
        moved[:, :, j] = new - codes[:, :, j]
        if moved[:, :, j].any():
            left -= (moved[:, :, j] * step[:, :, 0])[:, :, None] * hessian[:, j, None, :]
    return moved
