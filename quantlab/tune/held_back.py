"""Samples of the calibration data that are held back: some to choose by, others to prove the choice on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from quantlab.data import Batch, Batches, BatchSize, DerivedBatches, check_batch
from quantlab.errors import in_batch
from quantlab.onnx_model import TensorSpec

FEWEST = 8
"""Of fewer samples none is held back: neither the scales nor the judgement would be worth anything."""
ENOUGH = 96
"""More held-back samples would cost more than they would tell."""
MOST_BYTES = 2**29
"""What is held back stays in memory: what is beyond this is calibrated on instead."""


def how_many(samples: int) -> int:
    """How many of so many samples are held back: half of a few, a third of more, up to ENOUGH; 0 below FEWEST."""
    if samples < FEWEST:
        return 0
    return max(min(samples // 2, 16), min(samples // 3, ENOUGH))


class Split(DerivedBatches):
    """The batches of a stream without what is held back, which is kept, as copies, on the way.

    Single samples are held back where the network takes batches of any size, else whole batches. They are drawn from
    all over the stream by a seeded generator: folders give their classes in turn, so that any regular pattern could
    leave out a class.

    Args:
        source: The stream, whole batches.
        inputs: What the network is fed.
        samples: How many it has.
        batches: How many it has.
        others: Hold back as many others: together the two judge by more samples.

    Attributes:
        search: To choose by: batches of held-back samples, of the last pass.
        proof: To prove the choice on: others.
    """

    def __init__(
        self, source: Batches, inputs: Sequence[TensorSpec], samples: int, batches: int, others: bool = False
    ) -> None:
        super().__init__(source)
        self._inputs, self._size = inputs, BatchSize.of(inputs)
        self._in_rows = _are_rows(inputs)
        wanted = how_many(samples)
        units = samples if self._in_rows else batches
        if not self._in_rows and samples:
            wanted = min(-(-wanted * batches // samples), batches // 2)
        order = np.random.default_rng(0).permutation(units)
        drawn = order[wanted : 2 * wanted] if others else order[:wanted]
        self._part = np.zeros(units, np.int8)  # 0 the rest, 1 search, 2 proof
        self._part[drawn[: wanted // 2]] = 1
        self._part[drawn[wanted // 2 :]] = 2
        self.search: list[Batch] = []
        self.proof: list[Batch] = []

    @property
    def holds_back(self) -> bool:
        """Whether there is anything to hold back."""
        return bool(self._part.any())

    def __iter__(self) -> Iterator[Batch]:
        kept: tuple[list[Batch], list[Batch]] = ([], [])
        held = start = 0
        for number, batch in enumerate(self.source):
            with in_batch(number):
                check_batch(batch, self._inputs)
                size = self._size.count(batch)
            part = self._parts(start if self._in_rows else number, size)
            start += size
            if held > MOST_BYTES:
                part = np.zeros_like(part)
            for which in (1, 2):
                if (part == which).any():
                    piece = _rows(batch, part == which) if self._in_rows else _rows(batch, None)
                    held += sum(x.nbytes for x in piece.values())
                    kept[which - 1].append(piece)
            if not part.any():
                yield batch
            elif not part.all():
                yield _rows(batch, part == 0)
        self.search, self.proof = (_merged(pieces) if self._in_rows else pieces for pieces in kept)

    def collect(self) -> None:
        """Fill `search` and `proof` where nobody reads the rest."""
        for _ in self:
            pass

    def _parts(self, start: int, size: int) -> NDArray[np.int8]:
        """Where the samples of a batch belong, or the batch as a whole; a stream that has grown has no more of them."""
        part = self._part[start : start + (size if self._in_rows else 1)]
        return np.concatenate([part, np.zeros((size if self._in_rows else 1) - len(part), np.int8)])


def _are_rows(inputs: Sequence[TensorSpec]) -> bool:
    """Whether a batch may be cut: its first dimension is free, the same for all inputs, and not the only one."""
    first = {spec.shape[0] if len(spec.shape) > 1 else None for spec in inputs}
    return len(first) == 1 and all(isinstance(symbol, str) for symbol in first)


def _rows(batch: Batch, chosen: NDArray[np.bool_] | None) -> dict[str, NDArray[np.generic]]:
    return {name: np.array(x if chosen is None else x[chosen]) for name, x in batch.items()}


MERGED, MERGED_BYTES = 32, 2**22
"""Samples in a batch, and bytes of inputs: the tensors inside of a network take some hundred times as much."""


def _merged(pieces: Sequence[Batch]) -> list[Batch]:
    """Single samples of one shape after the other as batches: ONNX Runtime is slow on many small ones."""
    groups: list[list[Batch]] = []
    for piece in pieces:
        shape = {name: x.shape[1:] for name, x in piece.items()}
        last = groups[-1] if groups else []
        fits = bool(last) and {name: x.shape[1:] for name, x in last[0].items()} == shape
        count = sum(len(next(iter(p.values()))) for p in last)
        if not fits or count >= MERGED or sum(x.nbytes for p in last for x in p.values()) >= MERGED_BYTES:
            groups.append([])
        groups[-1].append(piece)
    return [{name: np.concatenate([p[name] for p in group]) for name in group[0]} for group in groups]


def first_few(batches: Batches) -> list[Batch]:
    """The first batches as copies, up to ENOUGH samples: to judge by where there is nothing to hold back."""
    found: list[Batch] = []
    count = held = 0
    for batch in batches:
        found.append(_rows(batch, None))
        count += max((len(x) for x in found[-1].values() if x.ndim), default=1)
        held += sum(x.nbytes for x in found[-1].values())
        if count >= ENOUGH or held > MOST_BYTES:
            break
    return found
