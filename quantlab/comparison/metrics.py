"""What is measured of outputs beside their error: single samples, and class scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.numerics import sqnr_db, squares


def sample_sqnr_db(
    reference: Mapping[str, NDArray[Any]], output: Mapping[str, NDArray[Any]], names: Sequence[str], size: int
) -> NDArray[np.float64]:
    """The SQNR of every sample over all outputs that have the batch dimension.

    Args:
        reference: The outputs of FP32 by name.
        output: The outputs to judge.
        names: The outputs that count.
        size: The number of samples.

    Returns:
        float64 (size,), in dB; infinite where equal.
    """
    signal, noise = np.zeros(size), np.zeros(size)
    for name in names:
        ref, out = reference[name], output[name]
        if ref.ndim and len(ref) == size:
            flat = ref.reshape(size, -1).astype(np.float64)
            signal += squares(flat, (1,))
            noise += squares(out.reshape(size, -1).astype(np.float64) - flat, (1,))
    return sqnr_db(signal, noise)


def _no_classes() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


def _no_hits() -> NDArray[np.bool_]:
    return np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True)
class ClassificationCounts:
    """Best classes and hits of one model, over any number of samples.

    Attributes:
        fp32_class: int64 (samples,): the best class that FP32 gives.
        quantized_class: int64 (samples,): the best class that this model gives.
        right: bool (labelled samples,): whether the best class is the label.
        among_five: bool (labelled samples,): whether the label is among the five best classes.
    """

    fp32_class: NDArray[np.int64] = field(default_factory=_no_classes)
    quantized_class: NDArray[np.int64] = field(default_factory=_no_classes)
    right: NDArray[np.bool_] = field(default_factory=_no_hits)
    among_five: NDArray[np.bool_] = field(default_factory=_no_hits)

    @classmethod
    def joined(cls, parts: Sequence[ClassificationCounts]) -> ClassificationCounts:
        """The counts of all parts, in order."""
        if not parts:
            return cls()
        names = ("fp32_class", "quantized_class", "right", "among_five")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(self.quantized_class)

    @property
    def labeled(self) -> int:
        """How many of them have a label."""
        return len(self.right)

    @property
    def agreement(self) -> float:
        """Share of the samples whose best class is FP32's, 0..1."""
        return float((self.fp32_class == self.quantized_class).mean())

    @property
    def top1(self) -> float | None:
        """Share of the labelled samples whose best class is the label; None without labels."""
        return int(self.right.sum()) / self.labeled if self.labeled else None

    @property
    def top5(self) -> float | None:
        """Share of the labelled samples with the label among the five best; None without labels."""
        return int(self.among_five.sum()) / self.labeled if self.labeled else None

    def pair(self, index: int) -> tuple[int | None, int | None]:
        """FP32's best class of one sample and this model's; None without scores."""
        if index >= self.samples:
            return None, None
        return int(self.fp32_class[index]), int(self.quantized_class[index])

    def by_class(self) -> dict[int, tuple[int, int]]:
        """Class that FP32 gives -> (samples, those to which this model gives the same)."""
        same = self.fp32_class == self.quantized_class
        return {
            int(c): (int((self.fp32_class == c).sum()), int(((self.fp32_class == c) & same).sum()))
            for c in np.unique(self.fp32_class)
        }


def classify(
    reference: NDArray[np.floating], output: NDArray[np.floating], labels: NDArray[np.int64] | None
) -> ClassificationCounts:
    """Read class scores of one batch.

    Args:
        reference: FP32's scores, (N, classes).
        output: The scores to judge, of the same shape.
        labels: int64 (N,), or None.

    Returns:
        The counts of this batch.
    """
    best, wanted = output.argmax(axis=1), reference.argmax(axis=1)
    if labels is None:
        return ClassificationCounts(wanted, best)
    top = np.argsort(-output, axis=1, kind="stable")[:, : min(5, output.shape[1])]
    return ClassificationCounts(wanted, best, best == labels, (top == labels[:, None]).any(axis=1))
