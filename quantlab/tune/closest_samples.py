"""The samples that the closest model is searched with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from quantlab.calibration import CalibrationTable
from quantlab.data import Batch, Batches, BatchSize
from quantlab.data.hash import SamplesHash
from quantlab.onnx_model import TensorSpec
from quantlab.tune.held_back import Split, first_few

MOST_SAMPLES, MOST_BYTES = 512, 2**28
"""Held in memory to round by, of more data the first."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The samples.

    Attributes:
        rest: Those that choices come from.
        search: Held back, to choose by.
        proof: Held back, for the last word.
        holds_back: Whether there were enough.
        size: Counts the samples of a batch.
    """

    rest: list[Batch]
    search: list[Batch]
    proof: list[Batch]
    holds_back: bool
    size: BatchSize

    @classmethod
    def of(cls, whole: Batches, inputs: Sequence[TensorSpec], table: CalibrationTable) -> Parts:
        """Draw them as `auto` does.

        Args:
            whole: Calibration data, whole batches.
            inputs: What the network is fed.
            table: Of `auto`, which has counted them.

        Returns:
            The parts; where there are too few samples, all are used for everything.
        """
        split = Split(whole, inputs, table.provenance.samples, table.provenance.batches)
        size = BatchSize.of(inputs)
        rest = list(_first(split, size))
        if not split.holds_back:
            few = first_few(whole)
            return cls(rest, few, few, holds_back=False, size=size)
        for _ in split:  # what is held back lies beyond the first
            pass
        search, proof = split.search or split.proof, split.proof or split.search  # of few whole batches one serves both
        return cls(rest, search, proof, holds_back=True, size=size)

    @property
    def _held(self) -> list[Batch]:
        if not self.holds_back:
            return []
        return self.search if self.proof is self.search else [*self.search, *self.proof]

    @property
    def held_back(self) -> int:
        """How many held-back samples have the last word."""
        return sum(map(self.size.count, self.proof)) if self.holds_back else 0

    @property
    def all(self) -> list[Batch]:
        """Every sample that is in memory."""
        return [*self.rest, *self._held]

    def named(self, inputs: Sequence[str]) -> tuple[str, int]:
        """Say which samples these are.

        Args:
            inputs: Names of what the network is fed.

        Returns:
            (a hash of all of them, how many they are).
        """
        samples = SamplesHash(inputs, self.size)
        for batch in self.all:
            samples.add(batch, None)
        return samples.data(), sum(map(self.size.count, self.all))


def _first(batches: Batches, size: BatchSize) -> Iterator[Batch]:
    """Copies of the first batches."""
    count = held = 0
    for batch in batches:
        if count >= MOST_SAMPLES or held > MOST_BYTES:
            return
        copy = {name: np.array(x) for name, x in batch.items()}
        count += size.count(copy)
        held += sum(x.nbytes for x in copy.values())
        yield copy
