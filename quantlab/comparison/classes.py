"""What quantization does to every class: who loses samples, and which class takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantlab.comparison.metrics import ClassificationCounts
from quantlab.data import Labels


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """The samples of one right class.

    Attributes:
        samples: How many there are.
        right: Those that the model gets right.
        lost: Those that only FP32 gets right.
        won: Those that only the model gets right.
    """

    samples: int
    right: int
    lost: int
    won: int


@dataclass(frozen=True, slots=True)
class ClassChange:
    """Samples to which FP32 gives one class and a model another.

    Attributes:
        fp32_class: FP32's.
        quantized_class: The model's.
        samples: How many there are.
        lost: Those with a label that only FP32 gets right.
        won: Those with a label that only the model gets right.
    """

    fp32_class: int
    quantized_class: int
    samples: int
    lost: int
    won: int


def right_by_class(fp32: ClassificationCounts, model: ClassificationCounts, labels: Labels) -> dict[int, ClassAccuracy]:
    """Count what is right of every class.

    Args:
        fp32: Of the reference.
        model: Of the model, on the same samples.
        labels: int64 (samples,), negative for a sample without one.

    Returns:
        The right class -> its samples.
    """
    wanted = labels[labels >= 0]
    base, mine = fp32.right, model.right
    found = {}
    for label in np.unique(wanted):
        of = wanted == label
        lost, won = int((of & base & ~mine).sum()), int((of & ~base & mine).sum())
        found[int(label)] = ClassAccuracy(int(of.sum()), int((of & mine).sum()), lost, won)
    return found


def class_changes(model: ClassificationCounts, labels: Labels | None) -> tuple[ClassChange, ...]:
    """Count the samples whose class changes.

    Args:
        model: Of the model.
        labels: int64 (samples,), negative for a sample without one; None without labels.

    Returns:
        The most frequent first; nothing for what keeps its class.
    """
    changed = np.flatnonzero(model.fp32_class != model.quantized_class)
    pairs = np.stack([model.fp32_class[changed], model.quantized_class[changed]], axis=1)
    wanted = np.full(len(changed), -1) if labels is None else labels[changed]
    found = []
    for before, after in np.unique(pairs, axis=0) if len(pairs) else ():
        of = (pairs == (before, after)).all(axis=1)
        lost, won = (int((of & (wanted == c)).sum()) for c in (before, after))
        found.append(ClassChange(int(before), int(after), int(of.sum()), lost, won))
    return tuple(sorted(found, key=lambda c: (-c.samples, c.fp32_class, c.quantized_class)))
