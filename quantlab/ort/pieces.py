"""A batch in pieces: all inner tensors of a whole one would fill the memory."""

from __future__ import annotations

from collections.abc import Sequence

from quantlab.data.batches import Batch
from quantlab.ort.activations import ActivationReader

PIECE_BYTES = 40 * 2**20
"""Of inner tensors in memory at once; more wins 3 % of the time at most, and costs its size."""


def piece_size(readers: Sequence[ActivationReader], batch: Batch, copies: int = 1) -> int | None:
    """How many samples go through at once.

    Args:
        readers: The networks, of whose tensors all are held together.
        batch: A first one, of two samples or more.
        copies: Of every tensor.

    Returns:
        The number; None where a network does not take a batch in pieces with the result of the whole.
    """
    sizes = [reader.bytes_per_sample(batch) for reader in readers]
    known = [size for size in sizes if size]
    return max(1, PIECE_BYTES // (copies * sum(known))) if known and len(known) == len(sizes) else None


def pieces(batch: Batch, samples: int, size: int | None) -> list[Batch]:
    """Cut a batch.

    Args:
        batch: Input name -> array.
        samples: How many are in it.
        size: What `piece_size` found.

    Returns:
        The pieces in order; the batch itself where it is not cut.
    """
    if size is None or samples <= size:
        return [batch]
    return [{name: x[at : at + size] for name, x in batch.items()} for at in range(0, samples, size)]
