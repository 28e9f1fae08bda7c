"""Error metrics of an output against its reference, accumulated over batches in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import DataError


@dataclass(frozen=True, slots=True)
class OutputError:
    """One output over all samples.

    cosine: between the two outputs as one long vector each, 1 is equal. sqnr_db: `10 log10(sum ref^2 / sum err^2)`,
    infinite for equal outputs. max_abs, mean_abs: in the output's units.
    """

    cosine: float
    sqnr_db: float
    max_abs: float
    mean_abs: float


class ErrorSums:
    """Running sums behind an `OutputError`."""

    def __init__(self) -> None:
        self._ref2 = self._out2 = self._dot = self._err2 = self._abs = 0.0
        self._max = 0.0
        self._count = 0

    @property
    def count(self) -> int:
        """Values so far."""
        return self._count

    def add(
        self,
        reference: NDArray[np.floating],
        output: NDArray[np.floating],
        name: str = "output",
        *,
        finite: bool = True,
    ) -> None:
        """One batch. DataError if the shapes differ, or (if `finite` is wanted) a value is not finite."""
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
        self._ref2 += float(ref @ ref)
        self._out2 += float(out @ out)
        self._dot += float(ref @ out)
        self._err2 += float(error @ error)
        self._abs += float(error.sum())
        self._max = max(self._max, float(error.max(initial=0.0)))
        self._count += ref.size

    def result(self) -> OutputError:
        """The metrics so far; DataError before any data."""
        if self._count == 0:
            raise DataError("there is no output to compare", hint="give at least one batch")
        norm = math.sqrt(self._ref2) * math.sqrt(self._out2)
        cosine = self._dot / norm if norm else float(self._ref2 == self._out2)
        if self._err2 == 0:
            sqnr = math.inf
        else:
            sqnr = 10 * float(np.log10(self._ref2 / self._err2)) if self._ref2 and self._err2 != math.inf else -math.inf
        return OutputError(min(1.0, cosine), sqnr, self._max, self._abs / self._count)


def sqnr_db(sums: ErrorSums) -> float:
    """`ErrorSums.result().sqnr_db`, NaN where a value was not finite."""
    return sums.result().sqnr_db


def sample_sqnr_db(
    reference: Mapping[str, NDArray[Any]], output: Mapping[str, NDArray[Any]], names: Sequence[str], size: int
) -> NDArray[np.float64]:
    """float64 (size,): SQNR of every sample over all outputs that have the batch dimension; infinite where equal."""
    signal, noise = np.zeros(size), np.zeros(size)
    for name in names:
        ref, out = reference[name], output[name]
        if ref.ndim and len(ref) == size:
            flat = ref.reshape(size, -1).astype(np.float64)
            signal += np.square(flat).sum(axis=1)
            noise += np.square(out.reshape(size, -1).astype(np.float64) - flat).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(noise == 0, np.inf, 10 * np.log10(signal / noise))


class ClassificationCounts:
    """Top-1 and top-5 hits against labels, and top-1 agreement with FP32. Scores: (N, classes)."""

    def __init__(self) -> None:
        self.samples = self.labeled = self.top1_hits = self.top5_hits = self.agreed = 0
        self._right: list[NDArray[np.bool_]] = []
        self._classes: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def add(
        self, reference: NDArray[np.floating], output: NDArray[np.floating], labels: NDArray[np.int64] | None
    ) -> None:
        """One batch; labels int64 (N,) or None."""
        best = output.argmax(axis=1)
        self.samples += len(best)
        wanted = reference.argmax(axis=1)
        self._classes.append((wanted, best))
        self.agreed += int((best == wanted).sum())
        if labels is None:
            return
        self.labeled += len(labels)
        self._right.append(best == labels)
        self.top1_hits += int(self._right[-1].sum())
        k = min(5, output.shape[1])
        top = np.argsort(-output, axis=1, kind="stable")[:, :k]
        self.top5_hits += int((top == labels[:, None]).any(axis=1).sum())

    @property
    def classes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """int64 (samples,) twice: FP32's best class and this model's."""
        if not self._classes:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        reference, own = zip(*self._classes, strict=True)
        return np.concatenate(reference), np.concatenate(own)

    def pair(self, index: int) -> tuple[int | None, int | None]:
        """FP32's best class of one sample and this model's; None without scores."""
        reference, own = self.classes
        return (int(reference[index]), int(own[index])) if index < len(reference) else (None, None)

    @property
    def right(self) -> NDArray[np.bool_]:
        """bool (labeled,): which labelled samples have the right best class."""
        return np.concatenate(self._right) if self._right else np.zeros(0, np.bool_)

    @property
    def agreement(self) -> float:
        """Share of samples whose best class is FP32's, 0..1."""
        return self.agreed / self.samples

    @property
    def top1(self) -> float | None:
        """Share of labelled samples whose best class is the label; None without labels."""
        return self.top1_hits / self.labeled if self.labeled else None

    @property
    def top5(self) -> float | None:
        """Share of labelled samples with the label among the five best; None without labels."""
        return self.top5_hits / self.labeled if self.labeled else None
