"""The ranges of TensorFlow's FakeQuant operators as TensorRT's symmetric int8, and what that loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import GraphError
from quantlab.numerics import INT8_MAX

LEVELS = 255
"""Of the 8 bits of TensorFlow, beside the smallest."""
MIDDLE = 128
"""The zero point that makes the codes of TensorFlow those of int8."""


@dataclass(frozen=True, slots=True)
class FakeQuant:
    """A FakeQuant operator.

    Attributes:
        name: Its name.
        low: Of its range; more than one for ranges per channel.
        high: Of its range.
        num_bits: As the operator has it.
        narrow_range: As the operator has it.
    """

    name: str
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    num_bits: int
    narrow_range: bool

    @classmethod
    def of(cls, name: str, low: Any, high: Any, num_bits: int, narrow_range: bool) -> FakeQuant:
        """Make one of whatever TensorFlow has as ranges.

        Args:
            name: As the attribute.
            low: A number or one per channel.
            high: As low.
            num_bits: As the attribute.
            narrow_range: As the attribute.

        Returns:
            The operator.
        """
        ends = [np.asarray(end, np.float32).reshape(-1) for end in (low, high)]
        return cls(name, ends[0], ends[1], num_bits, narrow_range)


@dataclass(frozen=True, slots=True)
class Int8Scales:
    """What TensorRT gets in its place.

    Attributes:
        scales: float32, as many as ranges.
        steps: TensorFlow's own, float32.
        zero: TensorFlow's codes of zero: where all are those of int8, or one less, scales are steps.
    """

    scales: NDArray[np.float32]
    steps: NDArray[np.float32]
    zero: NDArray[np.float32]

    def loss(self, fake: FakeQuant) -> str:
        """What was lost, as a line for a person; '' for nothing.

        Args:
            fake: The operator.

        Returns:
            The line.
        """
        if (self.zero == MIDDLE).all():
            return ""
        if np.array_equal(self.scales, self.steps):
            top = float(self.steps[int(np.argmin(self.zero))]) * INT8_MAX
            return f"'{fake.name}': int8 has no code for its highest value, which becomes {top:.6g}"
        worst = int(np.argmax(self.scales / self.steps))
        low, high = float(fake.low.flat[worst]), float(fake.high.flat[worst])
        return (
            f"'{fake.name}' was trained with the range {low:.6g} to {high:.6g}, which is not symmetric: its step was "
            f"{self.steps[worst]:.6g} and is {self.scales[worst]:.6g}, so rounding errors are up to "
            f"{self.scales[worst] / self.steps[worst]:.3g} times as large"
        )


def int8_scales(fake: FakeQuant) -> Int8Scales:
    """Symmetric scales for a range that TensorFlow trained with.

    TensorFlow moves a range so that zero is one of its codes; where that code is the middle one, as it is for symmetric
    ranges, or one less, int8 has the same values but perhaps the highest. Any other range gets the scale that reaches
    its farther end.

    Args:
        fake: The operator.

    Returns:
        The scales.

    Raises:
        GraphError: It has not 8 bits, or a range that no int8 scale stands for.
    """
    if fake.num_bits != 8:
        raise GraphError(
            f"'{fake.name}' was trained with {fake.num_bits} bits, TensorRT's INT8 has 8",
            hint="train with num_bits=8, or convert the model without its FakeQuant operators and calibrate it",
        )
    low, high = fake.low, fake.high
    for one, other in zip(low, high, strict=True):
        _check(fake.name, float(one), float(other))
    first = 1 if fake.narrow_range else 0
    steps = (high - low) / np.float32(LEVELS - first)
    zero = np.clip(np.floor(first - low / steps + np.float32(0.5)), first, LEVELS)
    if np.isin(zero, (MIDDLE - 1, MIDDLE)).all():
        return Int8Scales(steps, steps, zero)
    amax = np.maximum((zero - first) * steps, (LEVELS - zero) * steps)
    return Int8Scales((amax / np.float32(INT8_MAX)).astype(np.float32), steps, zero)


def _check(name: str, low: float, high: float) -> None:
    """An error for a range that stands for nothing, or does not hold zero."""
    text = f"'{name}' was trained with the range {low:.6g} to {high:.6g}"
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise GraphError(f"{text}, which holds no values", hint="was the model trained long enough to have its ranges?")
    if low > 0 or high < 0:
        raise GraphError(
            f"{text}, which does not hold zero: TensorFlow shifts it, and a symmetric int8 scale cannot",
            hint="train with ranges that hold zero, as tf.quantization wants them",
        )
