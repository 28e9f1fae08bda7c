"""How far an output is from its reference: one formula for every SQNR, and sums that add up over batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantlab.errors import DataError


def sqnr_db(signal: ArrayLike, noise: ArrayLike) -> NDArray[np.float64]:
    """Signal to quantization noise ratio, `10 log10(signal / noise)`.

    Args:
        signal: Sum of the squared reference values, any shape.
        noise: Sum of the squared errors, of the same shape.

    Returns:
        dB in float64: infinity where there is no noise, minus infinity where there is noise only or it is infinite,
        NaN where a value was NaN.
    """
    signal, noise = np.asarray(signal, np.float64), np.asarray(noise, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(np.isinf(noise), 0.0, signal / noise)
        return np.asarray(np.where(noise == 0, np.inf, 10 * np.log10(ratio)), np.float64)


def squares(values: NDArray[np.floating], axes: tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """Sum of the squares, in float64.

    Args:
        values: Any shape.
        axes: The axes to sum over; None for all.

    Returns:
        float64 of the shape that is left.
    """
    return np.asarray(np.square(values.astype(np.float64)).sum(axis=axes), np.float64)


@dataclass(frozen=True, slots=True)
class OutputError:
    """One output over all samples.

    Attributes:
        cosine: Between the two outputs as one long vector each; 1 is equal.
        sqnr_db: See `sqnr_db`.
        max_abs: The largest absolute difference, in the units of the output.
        mean_abs: The mean absolute difference, in the units of the output.
    """

    cosine: float
    sqnr_db: float
    max_abs: float
    mean_abs: float


@dataclass(frozen=True, slots=True)
class ErrorSums:
    """What an `OutputError` is computed from; the sums of two parts of the data add up to those of both.

    Attributes:
        reference2: Sum of the squared reference values.
        output2: Sum of the squared output values.
        dot: Sum of the products of reference and output.
        error2: Sum of the squared differences.
        error_abs: Sum of the absolute differences.
        largest: The largest absolute difference.
        count: Number of values.
    """

    reference2: float = 0.0
    output2: float = 0.0
    dot: float = 0.0
    error2: float = 0.0
    error_abs: float = 0.0
    largest: float = 0.0
    count: int = 0

    def __add__(self, other: ErrorSums) -> ErrorSums:
        return ErrorSums(
            self.reference2 + other.reference2,
            self.output2 + other.output2,
            self.dot + other.dot,
            self.error2 + other.error2,
            self.error_abs + other.error_abs,
            max(self.largest, other.largest),
            self.count + other.count,
        )

    @property
    def sqnr_db(self) -> float:
        """The SQNR of everything so far, see `sqnr_db`."""
        return float(sqnr_db(self.reference2, self.error2))

    def result(self) -> OutputError:
        """The metrics of everything so far; DataError before any data."""
        if self.count == 0:
            raise DataError("there is no output to compare", hint="give at least one batch")
        norm = math.sqrt(self.reference2) * math.sqrt(self.output2)
        cosine = self.dot / norm if norm else float(self.reference2 == self.output2)
        return OutputError(min(1.0, cosine), self.sqnr_db, self.largest, self.error_abs / self.count)


def error_sums(
    reference: NDArray[np.floating], output: NDArray[np.floating], name: str = "output", *, finite: bool = True
) -> ErrorSums:
    """Compare one batch of an output with its reference.

    Args:
        reference: The values that are right.
        output: The values to judge, of the same shape.
        name: What it is called in errors.
        finite: Refuse NaN and infinity.

    Returns:
        The sums of this batch, in float64.

    Raises:
        DataError: The shapes differ, or (if `finite`) a value is not finite.
    """
    if reference.shape != output.shape:
        raise DataError(
            f"output '{name}' has shape {output.shape}, FP32 has {reference.shape}",
            hint="compare models with the same outputs",
        )
    if finite and not np.isfinite(output).all():
        raise DataError(f"output '{name}' has NaN or infinity", hint="look for a scale that is far too small")
    if finite and not np.isfinite(reference).all():
        raise DataError(f"the reference of output '{name}' has NaN or infinity", hint="look at the model itself")
    ref, out = np.ravel(reference).astype(np.float64), np.ravel(output).astype(np.float64)
    error = np.abs(out - ref)
    return ErrorSums(
        reference2=float(ref @ ref),
        output2=float(out @ out),
        dot=float(ref @ out),
        error2=float(error @ error),
        error_abs=float(error.sum()),
        largest=float(error.max(initial=0.0)),
        count=ref.size,
    )
